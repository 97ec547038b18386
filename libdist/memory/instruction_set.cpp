// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/instruction_set.h"

#include <array>
#include <cstddef>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace dist {
namespace {

constexpr std::array<InstructionSet, 3> kSets = {InstructionSet::portable, InstructionSet::avx2,
                                                 InstructionSet::avx512};

#if defined(__x86_64__)

// Not every compiler's __builtin_cpu_supports knows it.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

std::size_t count_usable() {
  // Asks for the operating system's consent too: it must save the wide registers.
  if (__builtin_cpu_supports("avx2") == 0 || !has_f16c()) return 1;
  const bool has_avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
      __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  return has_avx512 ? 3 : 2;
}

#else

std::size_t count_usable() { return 1; }

#endif

}  // namespace

std::string_view name_of(InstructionSet set) {
  constexpr std::array<std::string_view, 3> kNames = {"portable", "avx2", "avx512"};
  return kNames[static_cast<std::size_t>(set)];
}

std::span<const InstructionSet> usable_instruction_sets() {
  static const std::size_t usable = count_usable();
  return std::span(kSets).first(usable);
}

InstructionSet best_instruction_set() { return usable_instruction_sets().back(); }

}  // namespace dist
