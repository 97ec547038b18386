// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/lineup.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

PeerPrograms all_programs() {
  PeerPrograms programs;
  for (const char* name : {"libdist", "limit", "tcp_ring", "openmpi", "mpich", "gloo"}) {
    programs.paths[name] = std::string("/peers/") + name;
  }
  programs.cores = {0, 1};
  return programs;
}

std::vector<std::string> names_of(const Lineup& lineup) {
  std::vector<std::string> names;
  for (const JobSpec& job : lineup.jobs) names.push_back(job.name());
  return names;
}

std::string line_of(const Command& command) {
  std::string line = fmt::format("{}", fmt::join(command.words, " "));
  for (const auto& [name, value] : command.environment) line += " " + name + "=" + value;
  return line;
}

const JobSpec& find(const Lineup& lineup, const std::string& name) {
  for (const JobSpec& job : lineup.jobs) {
    if (job.name() == name) return job;
  }
  FAIL("no " << name);
  return lineup.jobs.front();
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("in one host: libdist with both kinds of buffers, the limit, and every peer") {
  AllReduceBenchOptions options;
  options.tuned = true;
  const Lineup lineup = line_up_shm(options, all_programs(), 2);
  REQUIRE(names_of(lineup) == std::vector<std::string>{"libdist, shared", "libdist, private",
                                                       "limit: sweep", "limit: memcpy", "openmpi",
                                                       "openmpi tuned", "mpich", "mpich tuned",
                                                       "gloo ring", "gloo ring_chunked",
                                                       "gloo halving_doubling"});
  REQUIRE(lineup.missing.empty());
  REQUIRE(find(lineup, "gloo ring").transport == "tcp");
  REQUIRE(find(lineup, "gloo ring").contest == "shm");
}

TEST_CASE("over TCP: MPIs that are kept from shared memory, and the plain ring") {
  const Lineup lineup = line_up_tcp({}, all_programs(), 2, Network{});
  REQUIRE(names_of(lineup) ==
          std::vector<std::string>{"libdist, private", "limit: plain TCP ring", "openmpi", "mpich",
                                   "gloo ring", "gloo ring_chunked", "gloo halving_doubling"});
  REQUIRE(contains(line_of(find(lineup, "openmpi").commands[0]), "--mca btl tcp,self"));
  REQUIRE(contains(line_of(find(lineup, "mpich").commands[0]), "MPIR_CVAR_NOLOCAL=1"));
}

TEST_CASE("over a wire ranks enter their namespaces, and its rate is measured") {
  Network network;
  network.contest = "1gbit";
  network.addresses = {"10.0.0.1", "10.0.0.2"};
  network.enter = {{"enter", "0"}, {"enter", "1"}};
  const Lineup lineup = line_up_tcp({}, all_programs(), 2, network);
  REQUIRE(names_of(lineup) == std::vector<std::string>{"libdist, private", "limit: plain TCP ring",
                                                       "limit: one stream each way", "gloo ring",
                                                       "gloo ring_chunked",
                                                       "gloo halving_doubling"});
  const std::string ring1 = line_of(find(lineup, "limit: plain TCP ring").commands[1]);
  REQUIRE(contains(ring1, "enter 1 /peers/tcp_ring"));
  REQUIRE(contains(ring1, "--address 10.0.0.2"));
  const std::string ours = line_of(find(lineup, "libdist, private").commands[0]);
  REQUIRE(contains(ours, "DIST_BIND_ADDRESS=10.0.0.1"));
  REQUIRE(contains(ours, "DIST_RANKS_PER_HOST=1"));
  REQUIRE(contains(ours, "DIST_SECRET_FILE={control}/secret"));
}

TEST_CASE("ranks that we start are told who they are; a launcher is told how many") {
  const Lineup lineup = line_up_shm({}, all_programs(), 4);
  const JobSpec& ours = find(lineup, "libdist, shared");
  REQUIRE(ours.commands.size() == 4);
  const std::string rank3 = line_of(ours.commands[3]);
  for (const char* part : {"--rank 3", "--ranks 4", "--cores 0,1", "--buffers shared",
                           "DIST_RANK=3", "DIST_RANKS=4", "DIST_TRANSPORT=shm"}) {
    INFO(rank3 << " lacks " << part);
    REQUIRE(contains(rank3, part));
  }
  REQUIRE(find(lineup, "openmpi").commands.size() == 1);
  REQUIRE(contains(line_of(find(lineup, "openmpi").commands[0]), "-n 4 /peers/openmpi"));
}

TEST_CASE("Open MPI's waiting ranks yield only where they outnumber the cores") {
  const auto line = [](int ranks) {
    return line_of(find(line_up_shm({}, all_programs(), ranks), "openmpi").commands[0]);
  };
  REQUIRE_FALSE(contains(line(2), "--oversubscribe"));
  REQUIRE(contains(line(4), "--oversubscribe"));
}

TEST_CASE("tuned means a heap that keeps its memory") {
  AllReduceBenchOptions options;
  options.tuned = true;
  const Lineup lineup = line_up_shm(options, all_programs(), 2);
  REQUIRE(contains(line_of(find(lineup, "mpich tuned").commands[0]), "MALLOC_MMAP_MAX_=0"));
  REQUIRE_FALSE(contains(line_of(find(lineup, "mpich").commands[0]), "MALLOC_"));
}

TEST_CASE("only what was asked for takes part") {
  AllReduceBenchOptions options;
  options.libraries = {"limit"};
  options.peers = {"none"};
  REQUIRE(names_of(line_up_tcp(options, all_programs(), 2, Network{})) ==
          std::vector<std::string>{"limit: plain TCP ring"});
}

TEST_CASE("what was not built is named with its packages") {
  PeerPrograms programs = all_programs();
  programs.paths.erase("mpich");
  programs.paths.erase("gloo");
  const Lineup lineup = line_up_shm({}, programs, 2);
  REQUIRE(lineup.missing.size() == 2);
  REQUIRE(contains(lineup.missing[0], "mpich: not built (install libmpich-dev mpich"));
  REQUIRE(contains(lineup.missing[1], "libgloo-dev"));
  const auto names = names_of(lineup);
  REQUIRE(std::find(names.begin(), names.end(), "mpich") == names.end());
}

TEST_CASE("each algorithm of libdist is a row of its own") {
  AllReduceBenchOptions options;
  options.algorithms = {"auto", "ring"};
  options.buffers = {"private"};
  options.peers = {"none"};
  const Lineup lineup = line_up_shm(options, all_programs(), 2);
  REQUIRE(
      contains(line_of(find(lineup, "libdist ring, private").commands[0]), "DIST_ALGORITHM=ring"));
  REQUIRE_FALSE(contains(line_of(find(lineup, "libdist, private").commands[0]), "DIST_ALGORITHM"));
}
