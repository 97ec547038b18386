// SPDX-License-Identifier: Apache-2.0
#include "libdist/host/host_group.h"

#include <atomic>
#include <barrier>
#include <latch>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/processes.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

// Stands in for the transport: sums the words of all threads.
class Summer {
 public:
  explicit Summer(int members) : barrier_(members) {}

  Status sum(std::span<std::uint64_t> words) {
    {
      const std::lock_guard lock(mutex_);
      sums_.resize(std::max(sums_.size(), words.size()));
      for (std::size_t i = 0; i < words.size(); ++i) sums_[i] += words[i];
    }
    barrier_.arrive_and_wait();
    std::copy_n(sums_.begin(), words.size(), words.begin());
    barrier_.arrive_and_wait();
    {
      const std::lock_guard lock(mutex_);
      sums_.clear();
    }
    barrier_.arrive_and_wait();
    return {};
  }

 private:
  std::barrier<> barrier_;
  std::mutex mutex_;
  std::vector<std::uint64_t> sums_;  // guarded by mutex_ while they are added up
};

void run_members(int members, const std::function<void(HostGroupOptions)>& body) {
  Summer summer(members);
  std::mutex mutex;
  std::string failure;
  std::vector<std::thread> threads;
  for (int member = 0; member < members; ++member) {
    threads.emplace_back([&, member] {
      try {
        body({.member = member,
              .members = members,
              .timeout = std::chrono::seconds(20),
              .sum_words = [&](std::span<std::uint64_t> words) { return summer.sum(words); },
              .failure = {}});
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        failure = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  INFO(failure);
  CHECK(failure.empty());
}

TEST_CASE("members reach each other's memory and meet round after round") {
  for (const int members : test::kRankCounts) {
    run_members(members, [&](HostGroupOptions options) {
      const int me = options.member;
      const auto group = HostGroup::meet(std::move(options)).value();
      expect(group->member() == me && group->members() == members, "who");
      const auto mine = Mapping::map_shareable(Bytes(sizeof(int))).value();
      const auto all = group->attach(mine).value();
      const auto number = [&](int member) {
        return reinterpret_cast<int*>(all[static_cast<std::size_t>(member)].bytes().data());
      };
      for (int step = 1; step <= 200; ++step) {
        *number(me) = step * 1000 + me;
        expect_ok(group->meet_again("written"));
        for (int other = 0; other < members; ++other) {
          expect(*number(other) == step * 1000 + other, "a member's number");
        }
        expect_ok(group->meet_again("read"));
      }
    });
  }
}

TEST_CASE("arriving does not wait, and a round is complete when all have come") {
  std::latch looked(1);
  run_members(2, [&](HostGroupOptions options) {
    const int me = options.member;
    const auto group = HostGroup::meet(std::move(options)).value();
    if (me == 0) {
      const auto round = group->arrive();
      expect(!group->complete(round), "one of two");
      looked.count_down();
      expect_ok(group->wait(round, "the other"));
      expect(group->complete(round), "both");
    } else {
      looked.wait();
      group->arrive();
    }
  });
}

TEST_CASE("a member that leaves is named, unless it had come to the round") {
  run_members(2, [&](HostGroupOptions options) {
    const int me = options.member;
    const auto group = HostGroup::meet(std::move(options)).value();
    if (me == 1) {
      group->arrive();
      return;
    }
    expect_ok(group->meet_again("first"));
    const auto why = group->meet_again("bucket 3");
    expect(why.code() == ErrorCode::peer_lost, "{}", why.message());
    expect(why.message().starts_with("bucket 3: rank 0 waits for rank 1 (pid "), "{}",
           why.message());
    expect(why.message().ends_with("has left"), "{}", why.message());
  });
}

TEST_CASE("a member that does not come in time is named, and other failures end a wait") {
  std::latch given_up(2);
  run_members(2, [&](HostGroupOptions options) {
    const int me = options.member;
    options.timeout = std::chrono::milliseconds(1);
    const auto group = HostGroup::meet(options).value();
    options.failure = [] { return Status::resource("the disk is full"); };
    const auto second = HostGroup::meet(options).value();
    if (me == 0) {
      const auto late = group->meet_again("bucket 3");
      expect(late.code() == ErrorCode::timed_out, "{}", late.message());
      expect(late.message().find("waited") != std::string::npos, "{}", late.message());
      expect(late.message().find("for rank 1") != std::string::npos, "{}", late.message());
      expect(second->meet_again("bucket 4").code() == ErrorCode::resource, "the failure");
    }
    given_up.arrive_and_wait();
  });
}

TEST_CASE("where one member's memory cannot be reached, all refuse and name it") {
  run_members(3, [&](HostGroupOptions options) {
    const int me = options.member;
    const auto group = HostGroup::meet(std::move(options)).value();
    const auto mine = Mapping::map_shareable(Bytes(me == 1 ? 8 : 16)).value();
    const auto why = group->attach(mine).status();
    expect(!why.ok(), "different sizes");
    expect(why.message().find("rank") != std::string::npos, "{}", why.message());
  });
}

// Written by all processes; no thread may exist yet, so this stands alone.
TEST_CASE("a killed process is noticed and named", "[processes]") {
  const auto board = Mapping::map_shareable(Bytes(4096)).value();
  auto* words = reinterpret_cast<std::atomic<std::uint64_t>*>(board.bytes().data());
  constexpr int kMembers = 3;
  const auto codes = test::run_processes(kMembers, [&](int me) {
    std::uint64_t call = 0;
    // A sum over processes for this test: a counter and 16 words a call.
    const auto sum = [&](std::span<std::uint64_t> mine) {
      auto* place = words + 32 * call++;
      for (std::size_t i = 0; i < mine.size(); ++i) place[1 + i] += mine[i];
      place[0] += 1;
      while (place[0].load() < kMembers) std::this_thread::yield();
      for (std::size_t i = 0; i < mine.size(); ++i) mine[i] = place[1 + i];
      return Status();
    };
    const auto group = HostGroup::meet({.member = me,
                                        .members = kMembers,
                                        .timeout = std::chrono::seconds(60),
                                        .sum_words = sum,
                                        .failure = {}})
                           .value();
    expect_ok(group->meet_again("first"));
    if (me == 2) test::kill_this_process();
    const auto why = group->meet_again("second");
    expect(why.code() == ErrorCode::peer_lost, "{}", why.message());
    expect(why.message().find("waits for rank 2") != std::string::npos ||
               why.message().find("has left") != std::string::npos,
           "{}", why.message());
    expect(why.message().find("second") == 0, "{}", why.message());
  });
  CHECK(codes == std::vector<int>{0, 0, -9});
}

}  // namespace
