// SPDX-License-Identifier: Apache-2.0
#include "libdist/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "libdist/hash.h"

extern char** environ;  // NOLINT: POSIX declares it nowhere

namespace dist {
namespace {

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

template <typename T>
Status parse_number(std::string_view text, T least, T* out) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    return Status::invalid_argument(
        fmt::format("'{}' is not a number of at least {}", text, least));
  }
  *out = value;
  return {};
}

Status parse_bytes(std::string_view text, Bytes* out) {
  return parse_number<std::uint64_t>(text, 1, &out->value);
}

Status parse_seconds(std::string_view text, Duration* out) {
  constexpr double kMostSeconds = 1e9;  // 30 years; a duration holds 292
  double seconds = 0;
  DIST_TRY(parse_number(text, 0.001, &seconds));
  if (!(seconds <= kMostSeconds)) {
    return Status::invalid_argument(fmt::format("'{}' is not a number of at most {} seconds", text,
                                                static_cast<std::uint64_t>(kMostSeconds)));
  }
  *out = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  return {};
}

Status parse_part(std::string_view text, double* out) {
  double part = 0;
  DIST_TRY(parse_number(text, 0.0, &part));
  if (!(part > 0 && part <= 1)) {
    return Status::invalid_argument(fmt::format("'{}' is not a number in (0, 1]", text));
  }
  *out = part;
  return {};
}

Status parse_word(std::string_view text, std::initializer_list<std::string_view> valid,
                  std::string* out) {
  if (std::find(valid.begin(), valid.end(), text) == valid.end()) {
    return Status::invalid_argument(
        fmt::format("'{}' is unknown; valid: {}", text, fmt::join(valid, ", ")));
  }
  *out = text;
  return {};
}

Status parse_flag(std::string_view text, bool* out) {
  std::string word;
  DIST_TRY(parse_word(text, {"0", "1", "false", "true"}, &word));
  *out = word == "1" || word == "true";
  return {};
}

Status parse_placement(std::string_view text, Placement* out) {
  std::string word;
  DIST_TRY(parse_word(text, {"colocated", "dedicated"}, &word));
  *out = word == "dedicated" ? Placement::dedicated : Placement::colocated;
  return {};
}

Status parse_staleness(std::string_view text, std::uint64_t* out) {
  if (text == "unlimited") {
    *out = kUnlimitedStaleness;
    return {};
  }
  const auto parsed = parse_number<std::uint64_t>(text, 0, out);
  return parsed.ok() ? parsed
                     : Status::invalid_argument(
                           fmt::format("'{}' is neither 'unlimited' nor a number of steps", text));
}

Status parse_threads(std::string_view text, int* out) {
  if (text != "auto") return parse_number(text, 0, out);
  *out = kAutomatic;
  return {};
}

Status parse_lambda(std::string_view text, double* out) {
  constexpr double kMost = 1e6;
  DIST_TRY(parse_number(text, 0.0, out));
  if (*out <= kMost) return {};  // false for NaN too
  return Status::invalid_argument(fmt::format("'{}' is not a number of at most {}", text, kMost));
}

std::string seconds_text(Duration d) {
  return fmt::format("{}", std::chrono::duration<double>(d).count());
}

struct Entry {
  std::string_view name;
  std::string_view meaning;
  Status (*parse)(std::string_view text, Options* options);
  std::string (*print)(const Options& options);
};

// The one table of options: names, parsing and printing.
const auto kEntries = std::to_array<Entry>({
    {"transport", "auto, shm, tcp, mpi, or nccl (gradients between GPUs; all else as auto)",
     [](std::string_view t, Options* o) {
       return parse_word(t, {"auto", "shm", "tcp", "mpi", "nccl"}, &o->transport);
     },
     [](const Options& o) { return o.transport; }},
    {"rendezvous",
     "dir:PATH (one host) or tcp:HOST:PORT (rank 0 listens); empty: private directory",
     [](std::string_view t, Options* o) {
       o->rendezvous = t;
       return t.empty() || t.starts_with("dir:") || t.starts_with("tcp:")
                  ? Status()
                  : Status::invalid_argument(
                        fmt::format("'{}' is neither dir:PATH nor tcp:HOST:PORT", t));
     },
     [](const Options& o) { return o.rendezvous; }},
    {"bind-address", "address the TCP transport listens on; any but loopback demands a secret-file",
     [](std::string_view t, Options* o) {
       o->bind_address = t;
       return Status();
     },
     [](const Options& o) { return o.bind_address; }},
    {"secret-file", "file of mode 0600 with at least 16 bytes shared by all ranks",
     [](std::string_view t, Options* o) {
       o->secret_file = t;
       return Status();
     },
     [](const Options& o) { return o.secret_file; }},
    {"tcp-checksum", "of the bodies of TCP frames: on, remote (where they leave the host) or off",
     [](std::string_view t, Options* o) {
       return parse_word(t, {"on", "remote", "off"}, &o->tcp_checksum);
     },
     [](const Options& o) { return o.tcp_checksum; }},
    {"timeout-s", "seconds in which an exchange must move",
     [](std::string_view t, Options* o) { return parse_seconds(t, &o->timeout); },
     [](const Options& o) { return seconds_text(o.timeout); }},
    {"connect-timeout-s", "seconds for all ranks to find each other",
     [](std::string_view t, Options* o) { return parse_seconds(t, &o->connect_timeout); },
     [](const Options& o) { return seconds_text(o.connect_timeout); }},
    {"elastic", "1: workers may come, go and come back; with tcp and dedicated servers",
     [](std::string_view t, Options* o) { return parse_flag(t, &o->elastic); },
     [](const Options& o) { return std::string(o.elastic ? "1" : "0"); }},
    {"incarnation", "elastic: which life of this rank this is; counted by distrun --restart",
     [](std::string_view t, Options* o) {
       return parse_number<std::uint32_t>(t, 0, &o->incarnation);
     },
     [](const Options& o) { return fmt::format("{}", o.incarnation); }},
    {"bucket-bytes", "bytes at which a bucket of gradients leaves",
     [](std::string_view t, Options* o) { return parse_bytes(t, &o->bucket_bytes); },
     [](const Options& o) { return fmt::format("{}", o.bucket_bytes.value); }},
    {"first-bucket-bytes", "the same for the first bucket",
     [](std::string_view t, Options* o) { return parse_bytes(t, &o->first_bucket_bytes); },
     [](const Options& o) { return fmt::format("{}", o.first_bucket_bytes.value); }},
    {"segment-bytes", "bytes in flight at once within a ring chunk",
     [](std::string_view t, Options* o) { return parse_bytes(t, &o->segment_bytes); },
     [](const Options& o) { return fmt::format("{}", o.segment_bytes.value); }},
    {"algorithm",
     "auto, sweep (one host), hierarchical, ring or native (MPI_Iallreduce); groups also doubling, "
     "halving, tree",
     [](std::string_view t, Options* o) {
       return parse_word(
           t, {"auto", "sweep", "hierarchical", "ring", "doubling", "halving", "tree", "native"},
           &o->algorithm);
     },
     [](const Options& o) { return o.algorithm; }},
    {"choice-table",
     "file with the algorithm of groups by transport, ranks and bytes; empty: built in",
     [](std::string_view t, Options* o) {
       o->choice_table = t;
       return Status();
     },
     [](const Options& o) { return o.choice_table; }},
    {"shard-optimizer", "1: with ring, each rank updates 1/ranks and keeps 1/ranks of the state",
     [](std::string_view t, Options* o) { return parse_flag(t, &o->shard_optimizer); },
     [](const Options& o) { return std::string(o.shard_optimizer ? "1" : "0"); }},
    {"ranks-per-host", "0: as they are; N: so many successive ranks count as one host (emulation)",
     [](std::string_view t, Options* o) { return parse_number(t, 0, &o->ranks_per_host); },
     [](const Options& o) { return fmt::format("{}", o.ranks_per_host); }},
    {"share-parameters",
     "1: with sweep and parameter servers, ranks of a host share one copy of the parameters",
     [](std::string_view t, Options* o) { return parse_flag(t, &o->share_parameters); },
     [](const Options& o) { return std::string(o.share_parameters ? "1" : "0"); }},
    {"compress",
     "gradients on the wire: none, f16, bf16, int8; at parameter servers also top-k, one-bit",
     [](std::string_view t, Options* o) {
       return parse_word(t, {"none", "f16", "bf16", "int8", "top-k", "one-bit"}, &o->compress);
     },
     [](const Options& o) { return o.compress; }},
    {"compress-pull", "parameters from parameter servers on the wire: none, f16, bf16",
     [](std::string_view t, Options* o) {
       return parse_word(t, {"none", "f16", "bf16"}, &o->compress_pull);
     },
     [](const Options& o) { return o.compress_pull; }},
    {"top-k", "with compress=top-k: the part of the values that is sent, in (0, 1]",
     [](std::string_view t, Options* o) { return parse_part(t, &o->top_k); },
     [](const Options& o) { return fmt::format("{}", o.top_k); }},
    {"compress-at-least-bytes", "what has fewer bytes is not compressed",
     [](std::string_view t, Options* o) { return parse_bytes(t, &o->compress_at_least); },
     [](const Options& o) { return fmt::format("{}", o.compress_at_least.value); }},
    {"deterministic", "1: refuse whatever could change the order of a sum",
     [](std::string_view t, Options* o) { return parse_flag(t, &o->deterministic); },
     [](const Options& o) { return std::string(o.deterministic ? "1" : "0"); }},
    {"servers", "parameter servers; 0: one a worker (colocated) or one (dedicated)",
     [](std::string_view t, Options* o) { return parse_number(t, 0, &o->servers); },
     [](const Options& o) { return fmt::format("{}", o.servers); }},
    {"placement", "of parameter servers: colocated or dedicated",
     [](std::string_view t, Options* o) { return parse_placement(t, &o->placement); },
     [](const Options& o) {
       return std::string(o.placement == Placement::dedicated ? "dedicated" : "colocated");
     }},
    {"staleness", "async-ps: steps a worker may run ahead of the slowest, or unlimited",
     [](std::string_view t, Options* o) { return parse_staleness(t, &o->staleness); },
     [](const Options& o) {
       return o.staleness == kUnlimitedStaleness ? "unlimited" : fmt::format("{}", o.staleness);
     }},
    {"priority", "1: parameters that the forward pass needs first travel first; 0: in order",
     [](std::string_view t, Options* o) { return parse_flag(t, &o->priority); },
     [](const Options& o) { return std::string(o.priority ? "1" : "0"); }},
    {"server-threads", "of each server beside its progress thread, or auto: cores a rank, less one",
     [](std::string_view t, Options* o) { return parse_threads(t, &o->server_threads); },
     [](const Options& o) {
       return o.server_threads == kAutomatic ? "auto" : fmt::format("{}", o.server_threads);
     }},
    {"backup-workers", "sync-ps: a step drops the last so many contributions and waits for none",
     [](std::string_view t, Options* o) { return parse_number(t, 0, &o->backup_workers); },
     [](const Options& o) { return fmt::format("{}", o.backup_workers); }},
    {"staleness-rate", "1: async-ps divides a gradient by its staleness (versions), where above 1",
     [](std::string_view t, Options* o) { return parse_flag(t, &o->staleness_rate); },
     [](const Options& o) { return std::string(o.staleness_rate ? "1" : "0"); }},
    {"delay-compensation", "async-ps: lambda of DC-ASGD; 0: off; workers x model more memory",
     [](std::string_view t, Options* o) { return parse_lambda(t, &o->delay_compensation); },
     [](const Options& o) { return fmt::format("{}", o.delay_compensation); }},
    {"on-worker-loss", "stop, drop (go on without it), or auto: drop where elastic, else stop",
     [](std::string_view t, Options* o) {
       return parse_word(t, {"auto", "stop", "drop"}, &o->on_worker_loss);
     },
     [](const Options& o) { return o.on_worker_loss; }},
    {"min-workers", "elastic: training starts when so many workers have come; 0: all",
     [](std::string_view t, Options* o) { return parse_number(t, 0, &o->min_workers); },
     [](const Options& o) { return fmt::format("{}", o.min_workers); }},
    {"trace", "path of the Chrome trace; the rank goes before the extension",
     [](std::string_view t, Options* o) {
       o->trace = t;
       return Status();
     },
     [](const Options& o) { return o.trace; }},
    {"log", "quiet, warning or info",
     [](std::string_view t, Options* o) {
       return parse_word(t, {"quiet", "warning", "info"}, &o->log);
     },
     [](const Options& o) { return o.log; }},
});

std::string valid_names() {
  std::vector<std::string_view> names;
  names.reserve(kEntries.size());
  for (const Entry& entry : kEntries) names.push_back(entry.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string variable_name(std::string_view option) {
  std::string name = "DIST_";
  for (const char c : option) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

struct LauncherVariables {
  Launcher launcher;
  const char* rank;
  const char* ranks;
  const char* local_ranks;  // nullptr: always one host
  const char* local_rank;   // nullptr: successive ranks lie side by side
  const char* job;
};

constexpr std::array kLaunchers = {
    LauncherVariables{Launcher::distrun, "DIST_RANK", "DIST_RANKS", nullptr, nullptr, "DIST_JOB"},
    LauncherVariables{Launcher::open_mpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                      "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "PMIX_NAMESPACE"},
    LauncherVariables{Launcher::slurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", nullptr,
                      "SLURM_LOCALID", "SLURM_JOB_ID"},
    LauncherVariables{Launcher::slurm, "PMI_RANK", "PMI_SIZE", nullptr, nullptr, "PMI_JOBID"},
};

// Slurm says how many tasks each node has ("2(x3)" or "4"); one host if it runs them all.
bool slurm_one_host() { return variable("SLURM_STEP_NUM_NODES").value_or("1") == "1"; }

// Of a step spread evenly, as srun does by default.
int slurm_local_ranks(const Options& options) {
  int nodes = 1;
  const auto known = parse_number(variable("SLURM_STEP_NUM_NODES").value_or("1"), 1, &nodes);
  return known.ok() ? (options.ranks + nodes - 1) / nodes : options.ranks;
}

Status read_local_rank(const char* name, Options* options) {
  options->local_rank = options->rank % options->local_ranks;
  const auto text = name != nullptr ? variable(name) : std::nullopt;
  return text ? parse_number(*text, 0, &options->local_rank).because(name) : Status();
}

Status read_launcher(Options* options) {
  for (const LauncherVariables& known : kLaunchers) {
    const auto rank = variable(known.rank);
    const auto ranks = variable(known.ranks);
    if (!rank || !ranks) continue;
    DIST_TRY_BECAUSE(parse_number(*rank, 0, &options->rank), known.rank);
    DIST_TRY_BECAUSE(parse_number(*ranks, 1, &options->ranks), known.ranks);
    options->launcher = known.launcher;
    std::string job = variable(known.job).value_or("");
    if (known.launcher == Launcher::slurm) job += "." + variable("SLURM_STEP_ID").value_or("");
    options->job = fnv1a(job);
    options->one_host = known.launcher != Launcher::slurm || slurm_one_host();
    options->local_ranks = options->ranks;
    if (known.launcher == Launcher::slurm) options->local_ranks = slurm_local_ranks(*options);
    if (known.local_ranks != nullptr) {
      const std::string local = variable(known.local_ranks).value_or("1");
      DIST_TRY_BECAUSE(parse_number(local, 1, &options->local_ranks), known.local_ranks);
      options->one_host = options->local_ranks == options->ranks;
    }
    return read_local_rank(known.local_rank, options);
  }
  return {};
}

// Variables of ours that are no options: distrun's own.
bool is_launcher_variable(std::string_view name) {
  return name == "DIST_RANK" || name == "DIST_RANKS" || name == "DIST_JOB";
}

Status read_variables(Options* options) {
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view line(*at);
    const auto equals = line.find('=');
    const auto name = line.substr(0, equals);
    if (!name.starts_with("DIST_") || equals == line.npos || is_launcher_variable(name)) continue;
    const auto entry = std::find_if(kEntries.begin(), kEntries.end(),
                                    [&](const Entry& e) { return variable_name(e.name) == name; });
    if (entry == kEntries.end()) {
      return Status::invalid_argument(
          fmt::format("environment variable {} is no option of libdist; options (written "
                      "DIST_BUCKET_BYTES and so on): {}",
                      name, valid_names()));
    }
    DIST_TRY(options->set(entry->name, line.substr(equals + 1), name));
  }
  return {};
}

Status check_membership(const Options& o) {
  const bool possible = o.transport == "tcp" && o.placement == Placement::dedicated;
  if (o.elastic && !possible) {
    return Status::invalid_argument(
        "elastic needs transport=tcp and placement=dedicated: a worker's death may touch nobody "
        "but its servers");
  }
  if (o.on_worker_loss == "drop" && !possible) {
    return Status::invalid_argument(
        "on-worker-loss=drop needs transport=tcp and placement=dedicated: elsewhere the loss of a "
        "rank ends the others too");
  }
  if (o.min_workers > o.ranks - std::max(o.servers, 1)) {
    return Status::invalid_argument(fmt::format("min-workers {}: there are only {} workers",
                                                o.min_workers, o.ranks - std::max(o.servers, 1)));
  }
  return {};
}

}  // namespace

std::string_view name_of(Launcher launcher) {
  switch (launcher) {
    case Launcher::none:
      return "none";
    case Launcher::distrun:
      return "distrun";
    case Launcher::open_mpi:
      return "Open MPI";
    case Launcher::slurm:
      return "Slurm/PMI";
  }
  return "unknown";
}

Result<Options> Options::from_environment(int argc, const char* const* argv) {
  Options options;
  DIST_TRY(read_launcher(&options));
  DIST_TRY(read_variables(&options));
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument(argv[i]);
    if (!argument.starts_with("--dist-")) continue;
    const auto equals = argument.find('=');
    if (equals == argument.npos) {
      return Status::invalid_argument(fmt::format("{}: write it as --dist-NAME=VALUE", argument));
    }
    DIST_TRY(options.set(argument.substr(7, equals - 7), argument.substr(equals + 1),
                         argument.substr(0, equals)));
  }
  DIST_TRY(options.validate());
  return options;
}

Status Options::set(std::string_view name, std::string_view value, std::string_view source) {
  const auto entry = std::find_if(kEntries.begin(), kEntries.end(),
                                  [&](const Entry& e) { return e.name == name; });
  if (entry == kEntries.end()) {
    return Status::invalid_argument(
        fmt::format("{}: no option is called '{}'; valid: {}", source, name, valid_names()));
  }
  DIST_TRY_BECAUSE(entry->parse(value, this), std::string(source));
  sources[std::string(name)] = source;
  return {};
}

Status Options::validate() const {
  if (rank < 0 || ranks < 1 || rank >= ranks) {
    return Status::invalid_argument(
        fmt::format("rank {} of {} ranks does not exist; ranks are numbered from 0", rank, ranks));
  }
  const int most = placement == Placement::dedicated ? ranks - 1 : ranks;
  if (servers > most) {
    return Status::invalid_argument(fmt::format(
        "{} servers do not fit into {} ranks ({}: at most {})", servers, ranks,
        placement == Placement::dedicated ? "dedicated, one worker must remain" : "colocated",
        most));
  }
  DIST_TRY(check_membership(*this));
  if (deterministic && algorithm == "native") {
    return Status::invalid_argument(
        "deterministic forbids algorithm=native: MPI_Iallreduce does not promise the order of its "
        "sum; use algorithm=ring");
  }
  return {};
}

std::string Options::describe() const {
  std::string text = fmt::format("rank {} of {}, launcher {}, {}\n", rank, ranks, name_of(launcher),
                                 one_host ? "one host" : "several hosts");
  for (const Entry& entry : kEntries) {
    const auto source = sources.find(std::string(entry.name));
    text += fmt::format("{:<20} {:<12} ({})\n", entry.name, entry.print(*this),
                        source == sources.end() ? "default" : source->second);
  }
  return text;
}

std::vector<OptionInfo> option_table() {
  std::vector<OptionInfo> table;
  table.reserve(kEntries.size());
  for (const Entry& entry : kEntries) table.push_back({entry.name, entry.meaning});
  return table;
}

}  // namespace dist
