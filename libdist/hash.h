// SPDX-License-Identifier: Apache-2.0
// FNV-1a, 64 bit: names become numbers, and what must be equal on all ranks becomes one word.
#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

namespace dist {

/// Fowler, Noll and Vo's hash of the bytes of `text`, continuing from `hash`.
constexpr std::uint64_t fnv1a(std::string_view text, std::uint64_t hash = 14695981039346656037ull) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return hash;
}

/// FNV-1a over what must be the same on every rank, value by value.
class LayoutHash {
 public:
  /// The length goes first, so that two texts are not one.
  constexpr LayoutHash& text(std::string_view value) {
    number(value.size());
    hash_ = fnv1a(value, hash_);
    return *this;
  }
  constexpr LayoutHash& number(std::uint64_t value) {
    for (int byte = 0; byte < 8; ++byte) {
      const char one = static_cast<char>(value >> (8 * byte) & 0xff);
      hash_ = fnv1a({&one, 1}, hash_);
    }
    return *this;
  }
  constexpr LayoutHash& real(double value) { return number(std::bit_cast<std::uint64_t>(value)); }
  constexpr std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = fnv1a({});
};

}  // namespace dist
