// SPDX-License-Identifier: Apache-2.0
// Eight bits a value: blocks of 256 values share the scale that maps their largest to 127.
#include <algorithm>
#include <bit>
#include <cstring>

#include "libdist/check.h"
#include "libdist/compress/codec.h"
#include "libdist/memory/instruction_set.h"

namespace dist {
namespace {

constexpr std::size_t kBlock = 256;

// As an integer the size of a float compares as the float does, and NaN is above all.
struct LargestBits {
  [[gnu::always_inline]] static void run(const float* values, std::size_t elems,
                                         std::uint32_t* largest) {
    std::uint32_t most = 0;
    for (std::size_t i = 0; i < elems; ++i) {
      most = std::max(most, std::bit_cast<std::uint32_t>(values[i]) & 0x7fffffffu);
    }
    *largest = most;
  }
};

struct Quantise {
  [[gnu::always_inline]] static void run(const float* values, std::size_t elems, float inverse,
                                         std::int8_t* out) {
    // Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
    constexpr float kRound = 12582912.0f;
    for (std::size_t i = 0; i < elems; ++i) {
      out[i] = static_cast<std::int8_t>(std::bit_cast<std::int32_t>(values[i] * inverse + kRound));
    }
  }
};

struct Dequantise {
  [[gnu::always_inline]] static void run(const std::int8_t* in, std::size_t elems, float scale,
                                         float* values) {
    for (std::size_t i = 0; i < elems; ++i) values[i] = static_cast<float>(in[i]) * scale;
  }
};

class Int8Codec final : public Codec {
 public:
  Bytes encoded_bytes(Elems elems) const override {
    return Bytes(elems.value + (elems.value + kBlock - 1) / kBlock * sizeof(float));
  }

  void encode(std::span<const float> values, std::span<std::byte> out) const override {
    DIST_ASSERT(Bytes(out.size()) == encoded_bytes(Elems(values.size())), "int8: another size");
    const auto set = best_instruction_set();
    std::byte* to = out.data();
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
      std::uint32_t bits = 0;
      run_on<LargestBits>(set, block.data(), block.size(), &bits);
      const float scale = std::bit_cast<float>(bits) / 127;
      // Where the largest is not finite the scale says so, and with it all values of the block.
      // Where its inverse is not (all values below 2^-121), nothing is left of them.
      const float inverse = 1 / scale;
      const bool usable = bits < 0x7f800000u && inverse < std::bit_cast<float>(0x7f800000u);
      const float sent = usable || bits >= 0x7f800000u ? scale : 0;
      std::memcpy(to, &sent, sizeof sent);
      to += sizeof sent;
      run_on<Quantise>(set, block.data(), block.size(), usable ? inverse : 0.0f,
                       reinterpret_cast<std::int8_t*>(to));
      to += block.size();
    }
  }

  Status decode(std::span<const std::byte> in, std::span<float> values) const override {
    DIST_ASSERT(Bytes(in.size()) == encoded_bytes(Elems(values.size())), "int8: another size");
    const auto set = best_instruction_set();
    const std::byte* from = in.data();
    for (std::size_t at = 0; at < values.size(); at += kBlock) {
      const auto block = values.subspan(at, std::min(kBlock, values.size() - at));
      float scale = 0;
      std::memcpy(&scale, from, sizeof scale);
      from += sizeof scale;
      run_on<Dequantise>(set, reinterpret_cast<const std::int8_t*>(from), block.size(), scale,
                         block.data());
      from += block.size();
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<Codec> make_int8_codec() { return std::make_unique<Int8Codec>(); }

}  // namespace dist
