// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/lineup.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>

namespace dist::bench {
namespace {

using Environment = std::vector<std::pair<std::string, std::string>>;

const std::vector<std::string> kGlooAlgorithms = {"ring", "ring_chunked", "halving_doubling"};
const Environment kKeepHeap = {{"MALLOC_MMAP_MAX_", "0"}, {"MALLOC_TRIM_THRESHOLD_", "8000000000"}};

const std::map<std::string, std::string>& packages() {
  static const std::map<std::string, std::string> kPackages = {
      {"openmpi", "libopenmpi-dev openmpi-bin"},
      {"mpich", "libmpich-dev mpich"},
      {"gloo", "libgloo-dev"}};
  return kPackages;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

class Builder {
 public:
  Builder(const AllReduceBenchOptions& options, const PeerPrograms& programs, int ranks,
          std::string contest)
      : options_(options), programs_(programs), ranks_(ranks), contest_(std::move(contest)) {}

  Lineup take() { return std::move(lineup_); }
  void use(const Network* network) { network_ = network; }

  void libdist(const std::string& transport, const std::vector<std::string>& buffers) {
    if (!has(options_.libraries, "libdist") || !there("libdist")) return;
    for (const std::string& algorithm : options_.algorithms) {
      for (const std::string& kind : buffers) {
        JobSpec job = start_of("libdist", algorithm, transport);
        job.buffers = kind;
        for (int r = 0; r < ranks_; ++r) {
          Command command = rank_command("libdist", r, {"--buffers", kind});
          command.environment = {{"DIST_RANK", std::to_string(r)},
                                 {"DIST_RANKS", std::to_string(ranks_)},
                                 {"DIST_JOB", fmt::format("{:x}", getpid())},
                                 {"DIST_RENDEZVOUS", "dir:{control}/rendezvous"},
                                 {"DIST_TRANSPORT", transport}};
          if (network_ != nullptr) command.environment.emplace_back("DIST_RANKS_PER_HOST", "1");
          if (network_ != nullptr && !network_->addresses.empty()) {
            command.environment.emplace_back("DIST_BIND_ADDRESS", address_of(r));
            command.environment.emplace_back("DIST_SECRET_FILE", "{control}/secret");
          }
          if (algorithm != "auto") command.environment.emplace_back("DIST_ALGORITHM", algorithm);
          job.commands.push_back(std::move(command));
        }
        lineup_.jobs.push_back(std::move(job));
      }
    }
  }

  void limit(const std::string& program, const std::string& algorithm,
             const std::string& transport) {
    if (!has(options_.libraries, "limit") || !there(program)) return;
    direct("limit", program, algorithm, transport);
  }

  void gloo() {
    if (!has(options_.peers, "gloo") || !there("gloo")) return;
    for (const std::string& algorithm : kGlooAlgorithms) direct("gloo", "gloo", algorithm, "tcp");
  }

  // Starts under its own launcher; `arguments` are the launcher's.
  void mpi(const std::string& name, const std::string& transport,
           const std::vector<std::string>& arguments, const Environment& environment) {
    if (!has(options_.peers, name) || !there(name)) return;
    for (const bool tuned : {false, true}) {
      if (tuned && !options_.tuned) continue;
      JobSpec job = start_of(name, "default", transport);
      job.tuned = tuned;
      Command command;
      command.words = {programs_.runners.at(name)};
      command.words.insert(command.words.end(), arguments.begin(), arguments.end());
      for (const std::string& word : {std::string("-n"), std::to_string(ranks_)}) {
        command.words.push_back(word);
      }
      const auto program = program_words(name);
      command.words.insert(command.words.end(), program.begin(), program.end());
      command.environment = environment;
      if (tuned) {
        command.environment.insert(command.environment.end(), kKeepHeap.begin(), kKeepHeap.end());
      }
      job.commands.push_back(std::move(command));
      lineup_.jobs.push_back(std::move(job));
    }
  }

  std::vector<std::string> openmpi_arguments() const {
    std::vector<std::string> words = {"--allow-run-as-root", "--bind-to", "none"};
    // Makes waiting ranks yield; with a core for each that would only slow them.
    if (static_cast<std::size_t>(ranks_) > programs_.cores.size())
      words.push_back("--oversubscribe");
    return words;
  }

 private:
  bool there(const std::string& program) {
    if (programs_.paths.count(program) > 0) return true;
    const auto package = packages().find(program);
    lineup_.missing.push_back(
        package == packages().end()
            ? fmt::format("{}: not built", program)
            : fmt::format("{}: not built (install {}, then configure and build again)", program,
                          package->second));
    return false;
  }

  JobSpec start_of(const std::string& library, const std::string& algorithm,
                   const std::string& transport) const {
    JobSpec job;
    job.library = library;
    job.algorithm = algorithm;
    job.contest = contest_;
    job.transport = transport;
    job.ranks = ranks_;
    return job;
  }

  std::string address_of(int rank) const {
    const bool loopback = network_ == nullptr || network_->addresses.empty();
    return loopback ? "127.0.0.1" : network_->addresses[static_cast<std::size_t>(rank)];
  }

  std::vector<std::string> program_words(const std::string& program) const {
    return {programs_.paths.at(program),
            "--control",
            "{control}",
            "--ranks",
            std::to_string(ranks_),
            "--cores",
            fmt::format("{}", fmt::join(programs_.cores, ","))};
  }

  Command rank_command(const std::string& program, int rank,
                       const std::vector<std::string>& more) const {
    Command command;
    if (network_ != nullptr && !network_->enter.empty()) {
      command.words = network_->enter[static_cast<std::size_t>(rank)];
    }
    const auto words = program_words(program);
    command.words.insert(command.words.end(), words.begin(), words.end());
    for (const std::string& word : {std::string("--rank"), std::to_string(rank)}) {
      command.words.push_back(word);
    }
    command.words.insert(command.words.end(), more.begin(), more.end());
    return command;
  }

  void direct(const std::string& library, const std::string& program, const std::string& algorithm,
              const std::string& transport) {
    JobSpec job = start_of(library, algorithm, transport);
    for (int r = 0; r < ranks_; ++r) {
      job.commands.push_back(
          rank_command(program, r, {"--algorithm", algorithm, "--address", address_of(r)}));
    }
    lineup_.jobs.push_back(std::move(job));
  }

  const AllReduceBenchOptions& options_;
  const PeerPrograms& programs_;
  int ranks_;
  std::string contest_;
  const Network* network_ = nullptr;
  Lineup lineup_;
};

}  // namespace

std::string JobSpec::name() const {
  if (library == "limit" && algorithm == "tcp_ring") return "limit: plain TCP ring";
  if (library == "limit" && algorithm == "stream") return "limit: one stream each way";
  if (library == "limit") return "limit: " + algorithm;
  std::string text = library;
  if (algorithm != "default" && algorithm != "auto") text += " " + algorithm;
  if (library == "libdist") text += ", " + buffers;
  if (tuned) text += " tuned";
  return text;
}

PeerPrograms find_peers(const std::string& directory) {
  PeerPrograms out;
  for (const char* name : {"libdist", "limit", "tcp_ring", "openmpi", "mpich", "gloo"}) {
    const std::string path = fmt::format("{}/peers/{}_peer", directory, name);
    if (access(path.c_str(), X_OK) == 0) out.paths[name] = path;
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(static_cast<std::size_t>(core), &set)) out.cores.push_back(core);
    }
  }
  return out;
}

Lineup line_up_shm(const AllReduceBenchOptions& options, const PeerPrograms& programs, int ranks) {
  Builder builder(options, programs, ranks, "shm");
  builder.libdist("shm", options.buffers);
  builder.limit("limit", "sweep", "shm");
  builder.limit("limit", "memcpy", "shm");
  builder.mpi("openmpi", "shm", builder.openmpi_arguments(), {});
  builder.mpi("mpich", "shm", {}, {});
  builder.gloo();
  return builder.take();
}

Lineup line_up_tcp(const AllReduceBenchOptions& options, const PeerPrograms& programs, int ranks,
                   const Network& network) {
  Builder builder(options, programs, ranks, network.contest);
  builder.use(&network);
  // Where the buffers lie makes no difference to a socket.
  builder.libdist("tcp", {"private"});
  builder.limit("tcp_ring", "tcp_ring", "tcp");
  if (!network.enter.empty()) builder.limit("tcp_ring", "stream", "tcp");
  // mpirun reaches ranks in namespaces of their own through a remote shell only: not measured
  // there.
  if (network.enter.empty()) {
    auto arguments = builder.openmpi_arguments();
    for (const char* word :
         {"--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"}) {
      arguments.emplace_back(word);
    }
    builder.mpi("openmpi", "tcp", arguments, {});
    builder.mpi("mpich", "tcp", {},
                {{"MPIR_CVAR_NOLOCAL", "1"}, {"UCX_TLS", "tcp,self"}, {"UCX_NET_DEVICES", "lo"}});
  }
  builder.gloo();
  return builder.take();
}

}  // namespace dist::bench
