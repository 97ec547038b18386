// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/kernels/launch.cuh"

namespace dist::device {
namespace {

template <typename Operation, typename T>
int reduce_by(const Launch& launch, std::span<const std::span<std::byte>> outs,
              std::span<const std::span<const std::byte>> sources, bool mean) {
  using Program = Reduce<Operation, T>;
  Program program{};
  program.out_count = static_cast<std::uint32_t>(outs.size());
  program.source_count = static_cast<std::uint32_t>(sources.size());
  program.mean = mean;
  std::vector<Placed> places;
  for (std::size_t m = 0; m < outs.size(); ++m) {
    program.outs[m] = reinterpret_cast<T*>(outs[m].data());
    places.push_back(placed(outs[m].data(), sizeof(T)));
  }
  for (std::size_t s = 0; s < sources.size(); ++s) {
    program.sources[s] = reinterpret_cast<const T*>(sources[s].data());
    places.push_back(placed(sources[s].data(), sizeof(T)));
  }
  program.split = split(places, outs[0].size() / sizeof(T), Program::kWidth);
  return start(launch, pieces_of(program.split), program);
}

}  // namespace

int reduce(const Launch& launch, std::span<const std::span<std::byte>> outs,
           std::span<const std::span<const std::byte>> sources, DType dtype, Reduction reduction) {
  return for_type(dtype, [&]<typename T>(T) {
    switch (reduction) {
      case Reduction::min:
        return reduce_by<kernels::Min, T>(launch, outs, sources, false);
      case Reduction::max:
        return reduce_by<kernels::Max, T>(launch, outs, sources, false);
      case Reduction::product:
        return reduce_by<kernels::Product, T>(launch, outs, sources, false);
      default:
        return reduce_by<kernels::Sum, T>(launch, outs, sources, reduction == Reduction::mean);
    }
  });
}

int divide(const Launch& launch, std::span<std::byte> data, std::uint64_t count,
           const double* count_there, DType dtype) {
  return for_type(dtype, [&]<typename T>(T) {
    const std::uint64_t elems = data.size() / sizeof(T);
    return start(launch, elems,
                 Divide<T>{reinterpret_cast<T*>(data.data()), elems, count, count_there});
  });
}

}  // namespace dist::device
