// SPDX-License-Identifier: Apache-2.0
// What a world and its strategies leave behind in the program's process: nothing.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/threads.h"

namespace {

using namespace dist;
using test::expect_ok;

constexpr int kSignals = 65;

// What a program sees of itself.
struct Traces {
  std::size_t threads = 0;
  std::vector<std::string> files;  // open ones
  std::vector<std::string> shared_memory;
  std::array<void (*)(int), kSignals> handlers{};
  std::vector<int> blocked_signals;
  std::string folder;
  std::vector<std::string> environment;
};

std::vector<std::string> open_files() {
  std::vector<std::string> files;
  for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // that of the iterator itself
    const auto target = std::filesystem::read_symlink(file, gone).string();
    if (!gone && target.find("/fd") == target.npos) files.push_back(target);
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> shared_mappings() {
  std::vector<std::string> shared;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:") != line.npos || line.find("/dev/shm/") != line.npos) {
      shared.push_back(line);
    }
  }
  return shared;
}

Traces look() {
  Traces traces;
  traces.threads = test::count_threads();
  traces.files = open_files();
  traces.shared_memory = shared_mappings();
  for (int signal = 1; signal < kSignals; ++signal) {
    struct sigaction action {};
    if (sigaction(signal, nullptr, &action) == 0) {
      traces.handlers[static_cast<std::size_t>(signal)] = action.sa_handler;
    }
  }
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  for (int signal = 1; signal < kSignals; ++signal) {
    if (sigismember(&blocked, signal) == 1) traces.blocked_signals.push_back(signal);
  }
  traces.folder = std::filesystem::current_path().string();
  for (char** variable = environ; *variable != nullptr; ++variable) {
    traces.environment.emplace_back(*variable);
  }
  return traces;
}

void check_equal(const Traces& before, const Traces& after) {
  CHECK(after.threads == before.threads);
  CHECK(after.files == before.files);
  CHECK(after.shared_memory == before.shared_memory);
  CHECK(after.handlers == before.handlers);
  CHECK(after.blocked_signals == before.blocked_signals);
  CHECK(after.folder == before.folder);
  CHECK(after.environment == before.environment);
}

void train(World& world, const std::string& strategy) {
  auto arena = Arena::create({{"a", Elems(3000)}, {"b", Elems(70)}}).value();
  auto trained = make_strategy(strategy, world, arena, Momentum{.learning_rate = 0.1}).value();
  expect_ok(trained->begin());
  for (int step = 0; step < 3; ++step) {
    for (const std::size_t p : {0, 1}) trained->ready(p);
    expect_ok(trained->finish_step().status());
  }
  auto group = make_group(world).value();
  std::vector<float> values(100, 1);
  expect_ok(group->all_reduce(values));
  expect_ok(trained->end());
}

TEST_CASE("no thread, file, mapping or signal handler stays, whatever was run") {
  std::thread([] {}).join();  // with the first one the thread sanitizer starts its own
  for (const auto& transport : test::kThreadTransports) {
    for (const std::string strategy : {"ring", "sync-ps", "async-ps", "none"}) {
      for (const std::string algorithm : {"auto", "ring"}) {
        INFO(transport << ", " << strategy << ", " << algorithm);
        Options options;
        options.algorithm = algorithm;
        options.log = "quiet";
        const auto before = look();
        std::size_t threads = 0;
        REQUIRE_NOTHROW(test::run_ranks(
            transport, 3,
            [&](World& world) {
              train(world, strategy);
              if (world.rank() == 0) threads = test::count_threads();
            },
            options));
        CHECK(threads > before.threads);  // it would see them
        check_equal(before, look());
      }
    }
  }
}

TEST_CASE("nothing stays of a strategy that was destroyed half-way") {
  for (const std::string strategy : {"ring", "sync-ps", "none"}) {
    INFO(strategy);
    Options options;
    options.log = "quiet";
    const auto before = look();
    auto world = World::open(options).value();
    {
      auto arena = Arena::create({{"a", Elems(3000)}, {"b", Elems(70)}}).value();
      auto trained = make_strategy(strategy, world, arena, Momentum{.learning_rate = 0.1}).value();
      REQUIRE_OK(trained->begin());
      trained->ready(0);
    }
    { const World gone = std::move(world); }
    check_equal(before, look());
  }
}

}  // namespace
