// SPDX-License-Identifier: Apache-2.0
// A range of zeroed memory straight from the system: pages appear when they are first touched.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// Owns the range; movable, and the memory stays where it is when moved.
class Mapping {
 public:
  /// Nothing mapped.
  Mapping() = default;

  /// Maps `bytes` of zeroed memory. With an `alias_window` other than 0 the whole range shows one
  /// window of that many bytes (rounded up to pages) again and again: values are then meaningless,
  /// but a replay of many large replicas fits in a small machine. Error: resource.
  static Result<Mapping> map(Bytes bytes, Bytes alias_window = {});

  Mapping(Mapping&& other) noexcept { swap(other); }
  Mapping& operator=(Mapping&& other) noexcept {
    Mapping moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~Mapping();

  /// Page-aligned; exactly the size asked for.
  std::span<std::byte> bytes() const { return {base_, size_}; }

 private:
  void swap(Mapping& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
  }
  Status alias(std::size_t window_bytes);

  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_bytes_ = 0;
};

}  // namespace dist
