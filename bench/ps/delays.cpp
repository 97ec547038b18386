// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/delays.h"

namespace dist::bench {
namespace {

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace

double Delays::ms(int worker, int workers, std::uint64_t step) const {
  double factor = worker == workers - 1 ? slow_worker : 1;
  const auto draw = mix(mix(mix(seed) + static_cast<std::uint64_t>(worker)) + step);
  if (slow_step && draw % 10 == 0) factor *= kSlowStep;
  return compute_ms * factor;
}

}  // namespace dist::bench
