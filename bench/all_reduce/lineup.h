// SPDX-License-Identifier: Apache-2.0
// Who takes part in a contest, and how each is started. Pure but for find_peers().
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/all_reduce/contestant.h"
#include "bench/all_reduce/options.h"

namespace dist::bench {

/// What there is to start.
struct PeerPrograms {
  std::map<std::string, std::string> paths;  ///< libdist, limit, tcp_ring, openmpi, mpich, gloo
  std::map<std::string, std::string> runners = {{"openmpi", "mpirun.openmpi"},
                                                {"mpich", "mpirun.mpich"}};
  std::vector<int> cores;  ///< that this process may use
};

/// The programs that were built, in `directory`/peers, and the cores of the affinity mask.
PeerPrograms find_peers(const std::string& directory);

/// Where ranks listen; a wire puts each into a network of its own.
struct Network {
  std::string contest = "tcp";
  std::vector<std::string> addresses;  ///< by rank; empty = loopback
  std::vector<std::vector<std::string>>
      enter;  ///< by rank: words before a command ("ip netns ...")
};

struct Lineup {
  std::vector<JobSpec> jobs;
  std::vector<std::string> missing;  ///< "mpich: not built (install ...)"
};

/// All jobs that share buffers of one host: libdist over shm, every peer as it comes.
Lineup line_up_shm(const AllReduceBenchOptions& options, const PeerPrograms& programs, int ranks);

/// All jobs that use TCP between the ranks.
Lineup line_up_tcp(const AllReduceBenchOptions& options, const PeerPrograms& programs, int ranks,
                   const Network& network);

}  // namespace dist::bench
