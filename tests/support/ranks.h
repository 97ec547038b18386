// SPDX-License-Identifier: Apache-2.0
// N ranks as threads of one test.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "libdist/options.h"
#include "libdist/transport/transport.h"
#include "libdist/world.h"

namespace dist::test {

/// The rank counts every contract suite runs at.
inline const std::vector<int> kRankCounts = {1, 2, 3, 4, 5, 8};

/// The transports whose ranks can be threads of one process: shm and tcp.
inline const std::vector<std::string> kThreadTransports = {"shm", "tcp"};

/// Connects `ranks` endpoints of a transport ("shm" or "tcp" over loopback) inside this process.
std::vector<std::unique_ptr<Transport>> make_group(const std::string& transport, int ranks);

/// Runs `body` once a rank, each in its own thread, over its own World; rethrows the first
/// exception. Catch2's assertions are not thread-safe: let bodies return or throw, and assert after
/// the join; or use expect() below.
void run_ranks(const std::string& transport, int ranks, const std::function<void(World&)>& body,
               const Options& options = {});

/// The same over bare transports.
void run_transports(const std::string& transport, int ranks,
                    const std::function<void(Transport&)>& body);

/// Throws std::runtime_error with the text, which is only then formatted, unless `condition`; safe
/// in any thread.
template <typename... Args>
void expect(bool condition, fmt::format_string<Args...> what, Args&&... args) {
  if (!condition) throw std::runtime_error(fmt::format(what, std::forward<Args>(args)...));
}

/// Throws with the status's story unless ok.
void expect_ok(const Status& status);

}  // namespace dist::test
