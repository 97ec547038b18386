// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

PeerArguments parsed(std::vector<std::string> words) {
  words.insert(words.begin(), "peer");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  return parse_peer_arguments(static_cast<int>(pointers.size()), pointers.data());
}

// Ranks as threads that meet `rounds` times by `meet`; no rank may be a round ahead.
void check_rounds(int ranks, std::vector<int> cores, int rounds, void (SharedFlags::*meet)()) {
  std::string directory = std::filesystem::temp_directory_path() / "dist-flags-XXXXXX";
  REQUIRE(mkdtemp(directory.data()) != nullptr);
  const int file = open((directory + "/flags").c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(ftruncate(file, static_cast<off_t>(SharedFlags::bytes(ranks))) == 0);
  close(file);
  std::atomic<int> arrived = 0;
  std::atomic<int> early = 0;
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      PeerArguments arguments;
      arguments.control = directory;
      arguments.rank = r;
      arguments.ranks = ranks;
      arguments.cores = cores;
      SharedFlags flags(arguments, "flags");
      for (int round = 1; round <= rounds; ++round) {
        ++arrived;
        (flags.*meet)();
        if (arrived < round * ranks) ++early;
        (flags.*meet)();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  REQUIRE(early == 0);
  REQUIRE(arrived == rounds * ranks);
  std::filesystem::remove_all(directory);
}

}  // namespace

TEST_CASE("arguments name rank, cores and the rest") {
  const auto arguments = parsed({"--control", "/x", "--rank", "3", "--ranks", "4", "--cores", "0,5",
                                 "--algorithm", "ring", "--buffers", "shared", "--address", "::1"});
  REQUIRE(arguments.control == "/x");
  REQUIRE(arguments.rank == 3);
  REQUIRE(arguments.ranks == 4);
  REQUIRE(arguments.cores == std::vector<int>{0, 5});
  REQUIRE(arguments.algorithm == "ring");
  REQUIRE(arguments.buffers == "shared");
  REQUIRE(arguments.address == "::1");
}

TEST_CASE("a launcher's variable tells the rank where no argument does") {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK"}) {
    setenv(name, "2", 1);
    REQUIRE(parsed({"--control", "/x", "--ranks", "4"}).rank == 2);
    unsetenv(name);
  }
  REQUIRE_THROWS(parsed({"--control", "/x", "--ranks", "4"}));
}

TEST_CASE("bad arguments are refused") {
  REQUIRE_THROWS(parsed({"--rank", "0"}));
  REQUIRE_THROWS(parsed({"--control", "/x", "--rank", "4", "--ranks", "4"}));
  REQUIRE_THROWS(parsed({"--control", "/x", "--rank", "one"}));
  REQUIRE_THROWS(parsed({"--control", "/x", "--rank", "0", "--cores", "0,x"}));
  REQUIRE_THROWS(parsed({"--control", "/x", "--rank", "0", "--nonsense", "1"}));
  REQUIRE_THROWS(parsed({"--control", "/x", "--rank"}));
}

TEST_CASE("flags let nobody through before all have come, spinning or asleep") {
  check_rounds(3, {0, 1, 2}, 300, &SharedFlags::barrier);
  check_rounds(3, {0}, 300, &SharedFlags::barrier);
  check_rounds(3, {0, 1, 2}, 300, &SharedFlags::meet);
  check_rounds(3, {0}, 300, &SharedFlags::meet);
}

TEST_CASE("samples are small and have a prime period") {
  REQUIRE(sample(0) == 1);
  REQUIRE(sample(60) == 61);
  REQUIRE(sample(kSamplePeriod) == sample(0));
  REQUIRE(sample(4096) != sample(0));
}
