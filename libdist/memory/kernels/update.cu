// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/kernels/launch.cuh"

namespace dist::device {
namespace {

template <typename Rule, typename T>
int update_by(const Launch& launch, const Rule& rule, std::span<std::byte> parameters,
              std::span<const std::span<const std::byte>> gradients,
              std::array<std::byte*, kMostStates> states, const UpdateScalars* scalars,
              const double* gate) {
  using Program = UpdateElements<Rule, T>;
  Program program{};
  program.rule = rule;
  program.parameters = reinterpret_cast<T*>(parameters.data());
  program.gradient_count = static_cast<std::uint32_t>(gradients.size());
  program.scalars = scalars;
  program.gate = gate;
  std::vector<Placed> places = {placed(parameters.data(), sizeof(T))};
  for (std::size_t s = 0; s < gradients.size(); ++s) {
    program.gradients[s] = reinterpret_cast<const T*>(gradients[s].data());
    places.push_back(placed(gradients[s].data(), sizeof(T)));
  }
  for (int k = 0; k < Program::Formula::kStates; ++k) {
    const auto n = static_cast<std::size_t>(k);
    program.states[n] = reinterpret_cast<T*>(states[n]);
    places.push_back(placed(states[n], sizeof(T)));
  }
  program.split = split(places, parameters.size() / sizeof(T), Program::kWidth);
  return start(launch, pieces_of(program.split), program);
}

}  // namespace

int update(const Launch& launch, const UpdateRule& rule, DType dtype,
           std::span<std::byte> parameters, std::span<const std::span<const std::byte>> gradients,
           std::array<std::byte*, kMostStates> states, const UpdateScalars* scalars,
           const double* gate) {
  return std::visit(
      [&]<typename Rule>(const Rule& chosen) -> int {
        if constexpr (std::is_same_v<Rule, MeanGradient>) {
          return cudaErrorInvalidValue;
        } else if (dtype == DType::f64) {
          return update_by<Rule, double>(launch, chosen, parameters, gradients, states, scalars,
                                         gate);
        } else {
          return update_by<Rule, float>(launch, chosen, parameters, gradients, states, scalars,
                                        gate);
        }
      },
      rule);
}

}  // namespace dist::device
