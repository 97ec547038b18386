// SPDX-License-Identifier: Apache-2.0
// f16 and bf16: every value for itself.
#include "libdist/check.h"
#include "libdist/compress/codec.h"
#include "libdist/memory/instruction_set.h"

namespace dist {
namespace {

template <typename Out, typename In>
struct Convert {
  [[gnu::always_inline]] static void run(Out* out, const In* in, std::size_t elems) {
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < elems; ++i) out[i] = Out(in[i]);
  }
};

template <typename T>
class HalfCodec final : public Codec {
 public:
  Bytes encoded_bytes(Elems elems) const override { return Bytes(elems.value * sizeof(T)); }

  void encode(std::span<const float> values, std::span<std::byte> out) const override {
    DIST_ASSERT(out.size() == values.size() * sizeof(T), "two bytes a value");
    run_on<Convert<T, float>>(best_instruction_set(), reinterpret_cast<T*>(out.data()),
                              values.data(), values.size());
  }

  Status decode(std::span<const std::byte> in, std::span<float> values) const override {
    DIST_ASSERT(in.size() == values.size() * sizeof(T), "two bytes a value");
    run_on<Convert<float, T>>(best_instruction_set(), values.data(),
                              reinterpret_cast<const T*>(in.data()), values.size());
    return {};
  }
};

}  // namespace

std::unique_ptr<Codec> make_half_codec(Compression method) {
  if (method == Compression::f16) return std::make_unique<HalfCodec<Half>>();
  return std::make_unique<HalfCodec<BFloat16>>();
}

}  // namespace dist
