// SPDX-License-Identifier: Apache-2.0
// FakeDevice's loops: the host's own, behind a queue.
#include <cmath>
#include <cstring>

#include "libdist/check.h"
#include "libdist/memory/fill_pattern.h"
#include "libdist/memory/reduce.h"
#include "libdist/update_loops.h"
#include "tests/support/fake_device.h"

namespace dist::test {
namespace {

using Spans = std::vector<std::span<std::byte>>;
using ConstSpans = std::vector<std::span<const std::byte>>;

// Calls body(T()) for the floating type.
template <typename Body>
void for_float(DType dtype, const Body& body) {
  if (dtype == DType::f32) return body(float());
  if (dtype == DType::f64) return body(double());
  if (dtype == DType::f16) return body(Half());
  DIST_ASSERT(dtype == DType::bf16, "not a floating type");
  body(BFloat16());
}

template <typename T>
using Wide = std::conditional_t<std::same_as<T, double>, double, float>;

template <typename T>
std::span<const T> typed(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

}  // namespace

Status FakeDevice::copy(Stream stream, std::span<std::byte> to, std::span<const std::byte> from) {
  DIST_ASSERT(to.size() == from.size(), "copy: the spans differ in size");
  return run("copy", stream, to, [=] {
    if (!to.empty()) std::memmove(to.data(), from.data(), to.size());
  });
}

Status FakeDevice::fill(Stream stream, DType dtype, std::span<std::byte> bytes, double value) {
  DIST_ASSERT(bytes.size() % size_of(dtype) == 0, "fill: not whole elements");
  return run("fill", stream, bytes, [=] {
    const auto pattern = fill_pattern(dtype, value);
    for (std::size_t i = 0; i < bytes.size(); i += size_of(dtype)) {
      std::memcpy(bytes.data() + i, &pattern, size_of(dtype));
    }
  });
}

Status FakeDevice::reduce(Stream stream, std::span<const std::span<std::byte>> outs,
                          std::span<const std::span<const std::byte>> sources, DType dtype,
                          Reduction reduction) {
  DIST_ASSERT(outs.size() <= kMostDeviceSources && sources.size() <= kMostDeviceSources,
              "reduce: too many spans");
  return run(
      "reduce", stream, outs.front(),
      [outs = Spans(outs.begin(), outs.end()), sources = ConstSpans(sources.begin(), sources.end()),
       dtype, reduction] { reduce_in_order(outs, sources, dtype, reduction); });
}

Status FakeDevice::divide(Stream stream, std::span<std::byte> data, std::uint64_t count,
                          DType dtype) {
  return run("divide", stream, data, [=] { dist::divide(data, count, dtype); });
}

Status FakeDevice::divide_by(Stream stream, std::span<std::byte> data, const double* count,
                             DType dtype) {
  return run("divide", stream, data, [=] {
    if (*count >= 2) dist::divide(data, static_cast<std::uint64_t>(*count), dtype);
  });
}

Status FakeDevice::update(Stream stream, const UpdateRule& rule, DType dtype,
                          std::span<std::byte> parameters,
                          std::span<const std::span<const std::byte>> gradients,
                          std::array<std::byte*, kMostStates> states, const UpdateScalars* scalars,
                          const double* gate) {
  DIST_ASSERT(!gradients.empty() && gradients.size() <= kMostDeviceSources,
              "update: no gradient, or too many");
  return run("update", stream, parameters,
             [=, sources = ConstSpans(gradients.begin(), gradients.end())]() mutable {
               if (gate != nullptr && !std::isfinite(*gate)) return;
               std::vector<std::byte> sum;
               if (sources.size() > kMostSummands) {
                 sum.resize(parameters.size());
                 reduce_in_order(Spans{sum}, sources, dtype, Reduction::sum);
                 sources = {sum};
               }
               update_on(best_instruction_set(), rule, dtype, parameters, sources, states,
                         *scalars);
             });
}

Status FakeDevice::scale_by_norms(Stream stream, const NormScaling& scaling,
                                  const NormInputs& inputs, UpdateScalars* scaled, double* gate) {
  return run("scale_by_norms", stream, std::as_bytes(std::span(scaled, inputs.part_count)), [=] {
    const double total = norm_total(inputs);
    *gate = norm_gate(scaling, inputs, total);
    for (std::uint64_t part = 0; part < inputs.part_count; ++part) {
      scaled[part] = norm_scalars(scaling, inputs, total, part);
    }
  });
}

Status FakeDevice::add_squares(Stream stream, DType dtype, std::span<const std::byte> values,
                               double* total) {
  return run("add_squares", stream, std::as_bytes(std::span(total, 1)),
             [=] { *total += sum_of_squares_on(best_instruction_set(), dtype, values); });
}

Status FakeDevice::count_not_finite(Stream stream, DType dtype, std::span<const std::byte> values,
                                    std::uint32_t* count) {
  return run("count_not_finite", stream, std::as_bytes(std::span(count, 1)), [=] {
    for_float(dtype, [&]<typename T>(T) {
      for (const T value : typed<T>(values)) {
        if (!std::isfinite(static_cast<Wide<T>>(value))) ++*count;
      }
    });
  });
}

Status FakeDevice::convert(Stream stream, std::span<std::byte> out, DType out_dtype,
                           std::span<const std::byte> in, DType in_dtype, const float* factor) {
  DIST_ASSERT(out.size() / size_of(out_dtype) == in.size() / size_of(in_dtype),
              "convert: the spans differ in elements");
  DIST_ASSERT(out_dtype != DType::f64 && in_dtype != DType::f64, "convert: not f64");
  return run("convert", stream, out, [=] {
    for_float(out_dtype, [&]<typename Out>(Out) {
      for_float(in_dtype, [&]<typename In>(In) {
        const auto from = typed<In>(in);
        auto* const to = reinterpret_cast<Out*>(out.data());
        const float times = factor == nullptr ? 1 : *factor;
        for (std::size_t i = 0; i < from.size(); ++i) {
          to[i] = static_cast<Out>(static_cast<float>(from[i]) * times);
        }
      });
    });
  });
}

}  // namespace dist::test
