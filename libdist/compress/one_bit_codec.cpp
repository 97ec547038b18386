// SPDX-License-Identifier: Apache-2.0
// The sign of each value; blocks of 1024 values share two numbers, the means of those that are
// negative and of those that are not.
#include <algorithm>
#include <array>
#include <cstring>

#include "libdist/check.h"
#include "libdist/compress/codec.h"

namespace dist {
namespace {

constexpr std::size_t kBlock = 1024;
using Means = std::array<float, 2>;  // of the negative ones, of the others

// Bytes of the signs of a block.
std::size_t sign_bytes(std::size_t elems) { return (elems + 7) / 8; }

Means means_of(std::span<const float> block) {
  std::array<double, 2> sums = {0, 0};
  std::array<std::size_t, 2> counts = {0, 0};
  for (const float value : block) {
    const std::size_t side = value >= 0 ? 1 : 0;
    sums[side] += static_cast<double>(value);
    ++counts[side];
  }
  Means means = {0, 0};
  for (const std::size_t side : {0u, 1u}) {
    if (counts[side] > 0) {
      means[side] = static_cast<float>(sums[side] / static_cast<double>(counts[side]));
    }
  }
  return means;
}

class OneBitCodec final : public Codec {
 public:
  Bytes encoded_bytes(Elems elems) const override {
    const auto full = elems.value / kBlock;
    const auto rest = elems.value % kBlock;
    return Bytes(full * (sizeof(Means) + sign_bytes(kBlock)) +
                 (rest > 0 ? sizeof(Means) + sign_bytes(rest) : 0));
  }

  void encode(std::span<const float> values, std::span<std::byte> out) const override {
    DIST_ASSERT(Bytes(out.size()) == encoded_bytes(Elems(values.size())), "one-bit: another size");
    std::byte* to = out.data();
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
      const Means means = means_of(block);
      std::memcpy(to, means.data(), sizeof means);
      to += sizeof means;
      std::fill_n(to, sign_bytes(block.size()), std::byte{0});
      for (std::size_t i = 0; i < block.size(); ++i) {
        to[i / 8] |= static_cast<std::byte>((block[i] >= 0 ? 1 : 0) << (i % 8));
      }
      to += sign_bytes(block.size());
    }
  }

  Status decode(std::span<const std::byte> in, std::span<float> values) const override {
    DIST_ASSERT(Bytes(in.size()) == encoded_bytes(Elems(values.size())), "one-bit: another size");
    const std::byte* from = in.data();
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
      Means means{};
      std::memcpy(means.data(), from, sizeof means);
      from += sizeof means;
      for (std::size_t i = 0; i < block.size(); ++i) {
        block[i] = means[static_cast<std::size_t>(from[i / 8] >> (i % 8)) & 1];
      }
      from += sign_bytes(block.size());
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<Codec> make_one_bit_codec() { return std::make_unique<OneBitCodec>(); }

}  // namespace dist
