// SPDX-License-Identifier: Apache-2.0
// Everything a user may set, with units and defaults, in one struct. options.cpp is the only file
// of the library that reads argv and the environment.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// Who started this process and told it its rank.
enum class Launcher : std::uint8_t { none, distrun, open_mpi, slurm };
/// "none", "distrun", "Open MPI", "Slurm/PMI".
std::string_view name_of(Launcher launcher);

/// Where parameter servers run: in the processes of workers, or in ranks of their own.
enum class Placement : std::uint8_t { colocated, dedicated };

/// Options::staleness that never waits.
inline constexpr std::uint64_t kUnlimitedStaleness = std::numeric_limits<std::uint64_t>::max();

/// The library decides.
inline constexpr int kAutomatic = -1;

/// One rank's. Of most the value must be the same on every rank; meeting tells where it is not.
struct Options {
  // Where this process stands; read from the launcher's variables.
  Launcher launcher = Launcher::none;  ///< who said so
  Rank rank = 0;                       ///< this process
  int ranks = 1;                       ///< of the job
  bool one_host = true;                ///< all ranks run on this host
  int local_ranks = 1;    ///< how many of them do, this one included; they share its cores
  int local_rank = 0;     ///< this rank's place among these: which of the host's GPUs it takes
  std::uint64_t job = 0;  ///< the same on all ranks of a job, different between jobs

  // Transport.
  std::string transport =
      "auto";  ///< auto, shm, tcp, mpi or nccl; auto = mpi under mpirun where built, else shm in
               ///< one host, else tcp. nccl: gradients that lie on GPUs go over NCCL (strategies
               ///< ring and sync-ps), all other messages as with auto
  std::string rendezvous;  ///< "dir:PATH" (one host), "tcp:HOST:PORT" (of rank 0; elastic: of every
                           ///< server, commas between); "" = a private directory of the job
  std::string bind_address =
      "127.0.0.1";  ///< address the TCP transport listens on; any but loopback demands a secret
  std::string
      secret_file;  ///< file of mode 0600 with at least 16 bytes shared by all ranks; "" = none
  std::string tcp_checksum = "remote";  ///< of the bodies of TCP frames: on, remote (only where
                                        ///< they leave this host) or off; the same on every rank
  Duration timeout =
      std::chrono::seconds(120);  ///< an exchange in which nothing moved for so long has failed
  Duration connect_timeout = std::chrono::seconds(30);  ///< for all ranks to find each other

  bool elastic = false;  ///< workers may come, go and come back (tcp, placement dedicated): they
                         ///< talk to the servers alone, whose doors stay open
  std::uint32_t incarnation = 0;  ///< elastic: which life of this rank this is; a later one takes
                                  ///< the place of an earlier one. `distrun --restart` counts

  // Exchange.
  Bytes bucket_bytes = 25_MiB;  ///< gradients that are exchanged together, at most (or one tensor)
  Bytes first_bucket_bytes = 1_MiB;  ///< the same of the first: small, so that it starts early
  Bytes segment_bytes = 256_KiB;     ///< what is in flight at once within a ring chunk
  std::string algorithm =
      "auto";  ///< of the strategy ring: sweep (in the memory of one host),
               ///< hierarchical (in each host, then between hosts), ring (over the
               ///< transport), native (MPI_Iallreduce); auto = the first of these that
               ///< is possible.
               ///< Groups also know doubling, halving and tree; their auto asks the choice table
  std::string choice_table;  ///< file with the algorithm of groups by transport, ranks and bytes,
                             ///< as `tune` writes it; "" = the built-in one
  int ranks_per_host = 0;  ///< 0: as they are; otherwise so many successive ranks count as one host
                           ///< each, to try on one host what happens between several
  bool share_parameters =
      true;  ///< with sweep: the ranks of the host share one copy of the parameters; parameter
             ///< servers: the same where steps are synchronous, and the ranks of one host reach
             ///< each other's arenas in place (not over tcp). false: copies, by messages
  bool shard_optimizer =
      false;  ///< with ring: every rank updates its chunk of each bucket only, and
              ///< the parameters go round; 1/ranks of the optimizer's state each
  std::string compress =
      "none";  ///< of gradients on the wire: none, f16, bf16, int8, top-k or one-bit; ring knows
               ///< the first four (and then goes over the transport), parameter servers all
  std::string compress_pull = "none";  ///< of parameters on the way from parameter servers: none,
                                       ///< f16 or bf16; the servers keep theirs in full
  double top_k = 0.01;  ///< with compress=top-k: the part of the values that is sent, in (0, 1]
  Bytes compress_at_least = 64_KiB;  ///< what has fewer bytes is sent as it is
  bool deterministic = false;        ///< refuse whatever could change the order of a sum

  // Parameter server.
  int servers = 0;  ///< 0 = one a worker where colocated, one where dedicated
  Placement placement =
      Placement::colocated;  ///< of servers: beside workers, or ranks of their own
  std::uint64_t staleness =
      kUnlimitedStaleness;  ///< async-ps: steps a worker may run ahead of the slowest; 0 = as sync
  bool priority = true;  ///< parameters that the forward pass needs first travel first, both ways
  int server_threads = kAutomatic;  ///< of each server, beside its progress thread; automatic = the
                                    ///< cores of the host over its ranks, less one
  int backup_workers = 0;  ///< sync-ps: a step does without the last so many contributions, which
                           ///< are dropped
  bool staleness_rate = false;    ///< async-ps: divides a gradient by its staleness, where above 1
  double delay_compensation = 0;  ///< async-ps: lambda of DC-ASGD; 0 = off. Costs the servers
                                  ///< workers x shard more memory
  std::string on_worker_loss = "auto";  ///< stop the job, or drop: go on without it (tcp, placement
                                        ///< dedicated); auto = drop where elastic, else stop
  int min_workers = 0;  ///< elastic: training starts when so many have come; 0 = all

  // Reports.
  std::string trace;  ///< path of the trace; "" = none; ".rankN" goes before the extension
  std::string log = "warning";  ///< quiet, warning or info

  /// Where each value that is not a default came from: option name -> "DIST_TIMEOUT" or
  /// "--dist-timeout".
  std::map<std::string, std::string> sources;

  /// Defaults, overlaid by the launcher's variables, by DIST_* variables, and by arguments of the
  /// form
  /// --dist-NAME=VALUE (others are left alone). An unknown DIST option or a bad value is an error
  /// that lists what is valid.
  static Result<Options> from_environment(int argc = 0, const char* const* argv = nullptr);

  /// Sets one option by name ("bucket-bytes", "timeout-s", ...) from text, noting its source.
  Status set(std::string_view name, std::string_view value, std::string_view source);

  /// Whether a rank may come and go: in an elastic world all but the servers.
  bool may_leave(Rank other) const {
    return elastic && other < ranks - (servers > 0 ? servers : 1);
  }

  /// Whether training goes on without a worker that was lost.
  bool drops_lost_workers() const {
    return on_worker_loss == "drop" || (on_worker_loss == "auto" && elastic);
  }

  /// Whether the set of workers may change while they train.
  bool members_change() const { return elastic || drops_lost_workers(); }

  /// Combinations that cannot work (rank >= ranks, more servers than ranks, ...).
  Status validate() const;

  /// One line an option: name, value, source.
  std::string describe() const;
};

/// The names Options::set knows, with unit and meaning, for --help texts.
struct OptionInfo {
  std::string_view name;     ///< "bucket-bytes"
  std::string_view meaning;  ///< one sentence, with unit
};
/// All of them.
std::vector<OptionInfo> option_table();

}  // namespace dist
