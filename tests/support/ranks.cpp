// SPDX-License-Identifier: Apache-2.0
#include "tests/support/ranks.h"

#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "libdist/transport/shm.h"
#include "libdist/transport/tcp.h"
#include "tests/support/scratch.h"

namespace dist::test {
namespace {

void run_threads(int count, const std::function<void(int)>& body) {
  std::mutex mutex;
  std::exception_ptr first;  // guarded by mutex
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

std::vector<std::unique_ptr<Transport>> make_tcp_group(int ranks) {
  const ScratchFolder directory;
  std::vector<std::unique_ptr<Transport>> group(static_cast<std::size_t>(ranks));
  run_threads(ranks, [&](int rank) {
    Options options;
    options.rank = rank;
    options.ranks = ranks;
    options.job = 42;
    options.rendezvous = "dir:" + directory.path();
    auto opened = open_tcp(options);
    expect_ok(opened.status());
    group[static_cast<std::size_t>(rank)] = *std::move(opened);
  });
  return group;
}

}  // namespace

void expect_ok(const Status& status) { expect(status.ok(), "{}", status.message()); }

std::vector<std::unique_ptr<Transport>> make_group(const std::string& transport, int ranks) {
  if (transport == "shm") return make_shm_group(ranks);
  if (transport == "tcp") return make_tcp_group(ranks);
  throw std::runtime_error("ranks cannot be threads over transport " + transport);
}

void run_ranks(const std::string& transport, int ranks, const std::function<void(World&)>& body,
               const Options& options) {
  auto group = make_group(transport, ranks);
  run_threads(ranks, [&](int rank) {
    World world = World::over(std::move(group[static_cast<std::size_t>(rank)]), options);
    body(world);
  });
}

void run_transports(const std::string& transport, int ranks,
                    const std::function<void(Transport&)>& body) {
  auto group = make_group(transport, ranks);
  run_threads(ranks, [&](int rank) { body(*group[static_cast<std::size_t>(rank)]); });
}

}  // namespace dist::test
