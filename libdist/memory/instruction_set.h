// SPDX-License-Identifier: Apache-2.0
// Internal: one loop, compiled once for each instruction set, chosen while the program runs. The
// loop is a type with an always-inlined static run(); inside a function that names an instruction
// set the compiler turns it into that set's vectors. No file is compiled for another processor as a
// whole: inline functions of the standard library would carry its instructions elsewhere.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

// DIST_INDEPENDENT_ITERATIONS: outputs may equal inputs, but element i only ever depends on
// elements i, so the loop needs no test for overlap.
#define DIST_AVX2 "avx2,f16c"
#if defined(__clang__)
#define DIST_INDEPENDENT_ITERATIONS _Pragma("clang loop vectorize(assume_safety)")
#define DIST_AVX512 "avx512f,avx512bw,avx512dq,avx512vl"
#else
#define DIST_INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#define DIST_AVX512 "avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"
#endif

namespace dist {

/// From the slowest to the fastest.
enum class InstructionSet : std::uint8_t {
  portable = 0,  ///< what the build was compiled for: SSE2 on x86-64, NEON on arm64
  avx2 = 1,      ///< with F16C
  avx512 = 2,    ///< F, BW, DQ and VL: every processor since Skylake's servers
};

std::string_view name_of(InstructionSet set);

/// Those that this processor and its system can run: `portable` and so on up to the fastest.
std::span<const InstructionSet> usable_instruction_sets();

/// The fastest of them; asks the processor once.
InstructionSet best_instruction_set();

struct Portable {
  template <typename Loop, typename... Arguments>
  static void run(Arguments... arguments) {
    Loop::run(arguments...);
  }
};

#if defined(__x86_64__)

struct Avx2 {
  template <typename Loop, typename... Arguments>
  [[gnu::target(DIST_AVX2)]] static void run(Arguments... arguments) {
    Loop::run(arguments...);
  }
};

struct Avx512 {
  template <typename Loop, typename... Arguments>
  [[gnu::target(DIST_AVX512)]] static void run(Arguments... arguments) {
    Loop::run(arguments...);
  }
};

#else

// Never chosen, but nameable.
using Avx2 = Portable;
using Avx512 = Portable;

#endif

/// Runs the loop on a usable set.
template <typename Loop, typename... Arguments>
void run_on(InstructionSet set, Arguments... arguments) {
  if (set == InstructionSet::avx512) return Avx512::run<Loop>(arguments...);
  if (set == InstructionSet::avx2) return Avx2::run<Loop>(arguments...);
  Portable::run<Loop>(arguments...);
}

}  // namespace dist
