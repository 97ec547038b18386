// SPDX-License-Identifier: Apache-2.0
// How processes find each other in /dev/shm, how they fail to, and that nothing stays behind.
#include "libdist/transport/shm_rendezvous.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "libdist/transport/shm.h"
#include "tests/contract/traffic.h"
#include "tests/contract/transport_contract.h"
#include "tests/support/catch.h"
#include "tests/support/processes.h"
#include "tests/support/ranks.h"

namespace dist::test {
namespace {

constexpr Duration kSoonGivenUp = std::chrono::milliseconds(150);

// Different for each test process, the same for its children.
std::uint64_t job_of(pid_t tester) { return 0x5e50000u + static_cast<std::uint64_t>(tester); }

Options options_of(Rank rank, int ranks, pid_t tester) {
  Options options;
  options.rank = rank;
  options.ranks = ranks;
  options.job = job_of(tester);
  return options;
}

bool exists(const std::string& path) { return std::filesystem::exists(path); }

void expect_words(const Status& status, ErrorCode code, const std::vector<std::string>& words) {
  expect(status.code() == code, "another error was expected: {}", status.message());
  for (const auto& word : words) {
    expect(status.message().find(word) != std::string::npos, "'{}' is missing in: {}", word,
           status.message());
  }
}

void expect_meeting(const Options& options) {
  auto transport = open_shm(options);
  expect_ok(transport.status());
  expect(!exists(segment_path(options.job)), "the segment can still be seen");
  meet(**transport);
}

// Leaves a segment behind, as a job does that is killed while it starts.
void leave_stale_segment(std::uint64_t job) {
  const auto codes = run_processes(1, [&](Rank) {
    std::thread killer([&] {
      while (!exists(segment_path(job))) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      kill_this_process();
    });
    Options options;
    options.ranks = 2;
    options.job = job;
    expect_ok(open_shm(options).status());
  });
  REQUIRE(codes[0] == -SIGKILL);
  REQUIRE(exists(segment_path(job)));
}

void require_all_zero(const std::vector<int>& codes) {
  for (const int code : codes) REQUIRE(code == 0);
}

}  // namespace

TEST_CASE("processes meet, again and again under the same job, and leave no name behind") {
  const pid_t tester = ::getpid();
  for (const int ranks : {2, 5, 16}) {
    require_all_zero(run_processes(ranks, [&](Rank rank) {
      for (int again = 0; again < 3; ++again) expect_meeting(options_of(rank, ranks, tester));
    }));
  }
  REQUIRE_FALSE(exists(segment_path(job_of(tester))));
}

TEST_CASE("both sides name the ranks that did not come") {
  const pid_t tester = ::getpid();
  require_all_zero(run_processes(2, [&](Rank rank) {
    auto options = options_of(rank, 4, tester);
    options.connect_timeout = kSoonGivenUp * (1 + rank);
    expect_words(open_shm(options).status(), ErrorCode::timed_out,
                 {rank == 0 ? "s for ranks 2, 3 of 4" : "for ranks 2, 3"});
  }));
  require_all_zero(run_processes(1, [&](Rank) {
    auto options = options_of(1, 2, tester);
    options.connect_timeout = kSoonGivenUp;
    expect_words(open_shm(options).status(), ErrorCode::timed_out,
                 {"rank 1 waited 0.", "s for rank 0"});
  }));
  REQUIRE_FALSE(exists(segment_path(job_of(tester))));
}

TEST_CASE("a rank that dies while the others gather is named") {
  const pid_t tester = ::getpid();
  const auto codes = run_processes(3, [&](Rank rank) {
    auto options = options_of(rank, 4, tester);
    if (rank == 1) {
      std::thread([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        kill_this_process();
      }).detach();
    }
    expect_words(open_shm(options).status(), ErrorCode::peer_lost, {"rank 1 (pid ", "died"});
  });
  REQUIRE(codes[0] == 0);
  REQUIRE(codes[1] == -SIGKILL);
  REQUIRE_FALSE(exists(segment_path(job_of(tester))));
}

TEST_CASE("what a killed job left is removed by the next one, under any id") {
  const pid_t tester = ::getpid();
  leave_stale_segment(job_of(tester));
  leave_stale_segment(job_of(tester) + 1);
  require_all_zero(run_processes(2, [&](Rank rank) {
    if (rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    expect_meeting(options_of(rank, 2, tester));
  }));
  REQUIRE_FALSE(exists(segment_path(job_of(tester))));
  REQUIRE_FALSE(exists(segment_path(job_of(tester) + 1)));
}

TEST_CASE("two jobs with one id disturb each other audibly, not silently") {
  const pid_t tester = ::getpid();
  const auto codes = run_processes(4, [&](Rank process) {
    const Rank rank = process % 2;
    auto options = options_of(rank, 3, tester);
    options.connect_timeout = std::chrono::milliseconds(600);
    if (process >= 2) std::this_thread::sleep_for(std::chrono::milliseconds(150));
    const auto status = open_shm(options).status();
    expect(!status.ok(), "a job of three ranks met with two");
    if (process == 3) expect_words(status, ErrorCode::invalid_argument, {"rank 1", "already come"});
  });
  require_all_zero(codes);
}

TEST_CASE("a job with another number of ranks is refused") {
  const pid_t tester = ::getpid();
  require_all_zero(run_processes(2, [&](Rank rank) {
    auto options = options_of(rank, 2 + rank, tester);
    options.connect_timeout = kSoonGivenUp * 2;
    expect_words(open_shm(options).status(),
                 rank == 0 ? ErrorCode::timed_out : ErrorCode::invalid_argument,
                 {rank == 0 ? "rank 1" : "with 2 ranks"});
  }));
}

TEST_CASE("a file that is no segment, or of another layout, is refused by name") {
  const auto job = job_of(::getpid());
  const auto path = segment_path(job);
  auto options = options_of(1, 2, ::getpid());
  options.connect_timeout = kSoonGivenUp;
  {
    std::ofstream(path) << std::string(200, 'x');
    const auto status = open_shm(options).status();
    REQUIRE(status.code() == ErrorCode::invalid_argument);
    REQUIRE(status.message().find(path + " is no segment of libdist") != std::string::npos);
    options.rank = 0;
    REQUIRE(open_shm(options).status().message().find(path) != std::string::npos);
    options.rank = 1;
  }
  {
    const SegmentIdentity identity{
        .version = 99, .ranks = 2, .job = job, .segment_bytes = 1, .creator = this_process()};
    std::ofstream(path).write(reinterpret_cast<const char*>(&identity), sizeof identity);
    REQUIRE(open_shm(options).status().message().find("is open to other users") !=
            std::string::npos);
    ::chmod(path.c_str(), 0600);
    REQUIRE(open_shm(options).status().message().find("layout version 99") != std::string::npos);
  }
  std::filesystem::remove(path);
}

TEST_CASE("a container without room for the segment is told so") {
  const pid_t tester = ::getpid();
  require_all_zero(run_processes(1, [&](Rank) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1 << 20, 1 << 20};
    expect(::setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
    expect_words(open_shm(options_of(0, 8, tester)).status(), ErrorCode::resource,
                 {"/dev/shm has no room", "8 ranks", "--shm-size"});
  }));
  REQUIRE_FALSE(exists(segment_path(job_of(tester))));
}

}  // namespace dist::test
