// SPDX-License-Identifier: Apache-2.0
// N ranks as processes of one test.
#pragma once

#include <functional>
#include <vector>

namespace dist::test {

/// Forks `count` children, each of which runs body(rank) and exits: with 0, or with 1 after it has
/// printed the exception that body threw. Returns, by rank, the exit code, or -signal for a child
/// that a signal ended. The children die with the caller. Call it while this process has one
/// thread.
std::vector<int> run_processes(int count, const std::function<void(int)>& body);

/// By what a sanitizer multiplies the time that things may take.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kSlower = 4;
#else
inline constexpr int kSlower = 1;
#endif

/// Ends the calling process as kill -9 does.
[[noreturn]] void kill_this_process();

}  // namespace dist::test
