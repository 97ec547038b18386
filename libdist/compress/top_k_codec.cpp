// SPDX-License-Identifier: Apache-2.0
// The values of largest size and their places; all others are 0 on the other side.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "libdist/check.h"
#include "libdist/compress/codec.h"
#include "libdist/wire/little_endian.h"

namespace dist {
namespace {

constexpr std::size_t kEntryBytes = 8;  // place, value

std::uint32_t size_bits(float value) { return std::bit_cast<std::uint32_t>(value) & 0x7fffffffu; }

class TopKCodec final : public Codec {
 public:
  explicit TopKCodec(double part) : part_(part) {}

  Bytes encoded_bytes(Elems elems) const override {
    return Bytes(static_cast<std::uint64_t>(count(elems.value)) * kEntryBytes);
  }

  void encode(std::span<const float> values, std::span<std::byte> out) const override {
    const std::size_t wanted = count(values.size());
    DIST_ASSERT(out.size() == wanted * kEntryBytes, "top-k: another size");
    if (wanted == 0) return;
    std::vector<std::uint32_t> sizes(values.size());  // NaN is above all
    std::transform(values.begin(), values.end(), sizes.begin(), size_bits);
    const auto last = sizes.begin() + static_cast<std::ptrdiff_t>(wanted) - 1;
    std::nth_element(sizes.begin(), last, sizes.end(), std::greater<>());
    const std::uint32_t least = *last;
    // Of those as large as the least one, the first ones.
    auto ties = static_cast<std::size_t>(std::count(sizes.begin(), last + 1, least));
    std::byte* to = out.data();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint32_t size = size_bits(values[i]);
      if (size < least || (size == least && ties == 0)) continue;
      if (size == least) --ties;
      wire::store(static_cast<std::uint32_t>(i), to);
      wire::store(std::bit_cast<std::uint32_t>(values[i]), to + 4);
      to += kEntryBytes;
    }
  }

  Status decode(std::span<const std::byte> in, std::span<float> values) const override {
    DIST_ASSERT(in.size() == count(values.size()) * kEntryBytes, "top-k: another size");
    std::fill(values.begin(), values.end(), 0.0f);
    std::uint64_t next = 0;
    for (; !in.empty(); in = in.subspan(kEntryBytes)) {
      const auto place = wire::load<std::uint32_t>(in.data());
      if (place < next || place >= values.size()) {
        return Status::protocol(
            fmt::format("top-k: place {} of {} values; places ascend", place, values.size()));
      }
      values[place] = std::bit_cast<float>(wire::load<std::uint32_t>(in.data() + 4));
      next = std::uint64_t{place} + 1;
    }
    return {};
  }

 private:
  std::size_t count(std::uint64_t elems) const {
    DIST_ASSERT(elems <= 0xffffffffu, "top-k: places have 32 bits");
    const auto wanted = static_cast<std::uint64_t>(std::ceil(part_ * static_cast<double>(elems)));
    return static_cast<std::size_t>(std::min(std::max<std::uint64_t>(wanted, 1), elems));
  }

  const double part_;
};

}  // namespace

std::unique_ptr<Codec> make_top_k_codec(double part) {
  DIST_ASSERT(part > 0 && part <= 1, "top-k: a part of the values");
  return std::make_unique<TopKCodec>(part);
}

}  // namespace dist
