// SPDX-License-Identifier: Apache-2.0
#include "libdist/options.h"

#include <fmt/format.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/catch.h"

extern char** environ;  // NOLINT: POSIX declares it nowhere

namespace dist {
namespace {

// An environment without launcher and options but for the given variables; the old one comes back
// at the end.
class Environment {
 public:
  explicit Environment(std::vector<std::pair<std::string, std::string>> variables) {
    for (char** at = environ; *at != nullptr; ++at) {
      const std::string line(*at);
      const auto name = line.substr(0, line.find('='));
      for (const std::string prefix : {"DIST_", "OMPI_", "PMI", "SLURM_"}) {
        if (name.rfind(prefix, 0) == 0) saved_.emplace_back(name, line.substr(name.size() + 1));
      }
    }
    for (const auto& [name, value] : saved_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : variables) {
      ::setenv(name.c_str(), value.c_str(), 1);
      set_.push_back(name);
    }
  }
  ~Environment() {
    for (const auto& name : set_) ::unsetenv(name.c_str());
    for (const auto& [name, value] : saved_) ::setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::vector<std::pair<std::string, std::string>> saved_;
  std::vector<std::string> set_;
};

Result<Options> read(std::vector<std::pair<std::string, std::string>> variables,
                     std::vector<const char*> arguments = {}) {
  const Environment environment(std::move(variables));
  arguments.insert(arguments.begin(), "program");
  return Options::from_environment(static_cast<int>(arguments.size()), arguments.data());
}

void require_error(const Result<Options>& result, const std::vector<std::string>& words) {
  REQUIRE_FALSE(result.ok());
  REQUIRE(result.status().code() == ErrorCode::invalid_argument);
  INFO(result.status().message());
  for (const auto& word : words) {
    INFO(word);
    REQUIRE(result.status().message().find(word) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("without a launcher a rank is alone, with defaults") {
  const auto options = read({});
  REQUIRE_OK(options);
  REQUIRE(options->launcher == Launcher::none);
  REQUIRE(options->rank == 0);
  REQUIRE(options->ranks == 1);
  REQUIRE(options->one_host);
  REQUIRE(options->transport == "auto");
  REQUIRE(options->staleness == kUnlimitedStaleness);
  REQUIRE(options->sources.empty());
}

TEST_CASE("each launcher tells rank, ranks, job and host") {
  const auto distrun = read({{"DIST_RANK", "2"}, {"DIST_RANKS", "4"}, {"DIST_JOB", "a"}});
  REQUIRE_OK(distrun);
  REQUIRE(distrun->launcher == Launcher::distrun);
  REQUIRE(distrun->rank == 2);
  REQUIRE(distrun->ranks == 4);
  REQUIRE(distrun->one_host);

  const auto open_mpi = read({{"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_SIZE", "8"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "8"},
                              {"PMIX_NAMESPACE", "123"}});
  REQUIRE_OK(open_mpi);
  REQUIRE(open_mpi->launcher == Launcher::open_mpi);
  REQUIRE(open_mpi->rank == 1);
  REQUIRE(open_mpi->ranks == 8);
  REQUIRE(open_mpi->one_host);
  REQUIRE_FALSE(read({{"OMPI_COMM_WORLD_RANK", "1"},
                      {"OMPI_COMM_WORLD_SIZE", "8"},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}})
                    ->one_host);

  const auto slurm = read({{"SLURM_PROCID", "3"},
                           {"SLURM_STEP_NUM_TASKS", "6"},
                           {"SLURM_JOB_ID", "77"},
                           {"SLURM_STEP_ID", "0"},
                           {"SLURM_STEP_NUM_NODES", "2"}});
  REQUIRE_OK(slurm);
  REQUIRE(slurm->launcher == Launcher::slurm);
  REQUIRE(slurm->rank == 3);
  REQUIRE(slurm->ranks == 6);
  REQUIRE_FALSE(slurm->one_host);

  const auto pmi = read({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"PMI_JOBID", "x"}});
  REQUIRE_OK(pmi);
  REQUIRE(pmi->launcher == Launcher::slurm);
  REQUIRE(pmi->ranks == 2);
}

TEST_CASE("each launcher tells a rank's place on its host, or successive ranks lie side by side") {
  REQUIRE(read({})->local_rank == 0);
  REQUIRE(read({{"DIST_RANK", "2"}, {"DIST_RANKS", "4"}, {"DIST_JOB", "a"}})->local_rank == 2);
  const auto open_mpi = [](std::vector<std::pair<std::string, std::string>> more) {
    more.insert(more.end(), {{"OMPI_COMM_WORLD_RANK", "5"},
                             {"OMPI_COMM_WORLD_SIZE", "8"},
                             {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
    return read(more);
  };
  REQUIRE(open_mpi({{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}})->local_rank == 3);
  REQUIRE(open_mpi({})->local_rank == 1);
  require_error(open_mpi({{"OMPI_COMM_WORLD_LOCAL_RANK", "x"}}), {"OMPI_COMM_WORLD_LOCAL_RANK"});
  REQUIRE(read({{"SLURM_PROCID", "3"},
                {"SLURM_STEP_NUM_TASKS", "6"},
                {"SLURM_STEP_NUM_NODES", "2"},
                {"SLURM_LOCALID", "1"}})
              ->local_rank == 1);
  REQUIRE(read({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}})->local_rank == 1);
}

TEST_CASE("jobs are equal within a job and different between jobs") {
  const auto job = [](const char* rank, const char* name) {
    return read({{"DIST_RANK", rank}, {"DIST_RANKS", "2"}, {"DIST_JOB", name}})->job;
  };
  REQUIRE(job("0", "first") == job("1", "first"));
  REQUIRE(job("0", "first") != job("0", "second"));
}

TEST_CASE("half of a launcher's variables is no launcher") {
  REQUIRE(read({{"OMPI_COMM_WORLD_RANK", "1"}})->launcher == Launcher::none);
}

TEST_CASE("a launcher's bad number is an error that names the variable") {
  require_error(read({{"DIST_RANK", "two"}, {"DIST_RANKS", "4"}}), {"DIST_RANK", "'two'"});
  require_error(read({{"DIST_RANK", "0"}, {"DIST_RANKS", "0"}}), {"DIST_RANKS", "'0'"});
  require_error(read({{"DIST_RANK", "4"}, {"DIST_RANKS", "4"}}), {"rank 4 of 4"});
  require_error(read({{"DIST_RANK", "99999999999"}, {"DIST_RANKS", "4"}}), {"DIST_RANK"});
}

TEST_CASE("variables overlay defaults, arguments overlay variables, both leave their source") {
  const auto options = read({{"DIST_TIMEOUT_S", "2.5"}, {"DIST_BUCKET_BYTES", "1000"}},
                            {"--dist-bucket-bytes=2000", "--other", "value", "--dist-log=info"});
  REQUIRE_OK(options);
  REQUIRE(options->timeout == std::chrono::milliseconds(2500));
  REQUIRE(options->bucket_bytes == Bytes(2000));
  REQUIRE(options->log == "info");
  REQUIRE(options->sources.at("timeout-s") == "DIST_TIMEOUT_S");
  REQUIRE(options->sources.at("bucket-bytes") == "--dist-bucket-bytes");
  REQUIRE(options->sources.count("segment-bytes") == 0);
  const auto text = options->describe();
  REQUIRE(text.find("DIST_TIMEOUT_S") != std::string::npos);
  REQUIRE(text.find("--dist-bucket-bytes") != std::string::npos);
  REQUIRE(text.find("(default)") != std::string::npos);
}

TEST_CASE("an unknown option is an error that lists the valid ones") {
  require_error(read({{"DIST_BUKET_BYTES", "1"}}),
                {"DIST_BUKET_BYTES", "bucket-bytes", "timeout-s"});
  require_error(read({}, {"--dist-speed=11"}), {"'speed'", "bucket-bytes", "staleness"});
  require_error(read({}, {"--dist-log"}), {"--dist-log", "--dist-NAME=VALUE"});
}

TEST_CASE("a bad value is an error that names source, value and what is valid") {
  require_error(read({}, {"--dist-transport=ib"}),
                {"--dist-transport", "'ib'", "shm, tcp, mpi, nccl"});
  require_error(read({{"DIST_ALGORITHM", "bush"}}), {"DIST_ALGORITHM", "'bush'", "native"});
  for (const std::string bad : {"", "-1", "1x", "0", "1e3", " 1"}) {
    INFO(bad);
    require_error(read({{"DIST_BUCKET_BYTES", bad}}),
                  {"DIST_BUCKET_BYTES", fmt::format("'{}'", bad)});
  }
  for (const std::string bad : {"0", "-3", "nan", "inf", "1e300", "1s", ""}) {
    INFO(bad);
    require_error(read({{"DIST_TIMEOUT_S", bad}}), {"DIST_TIMEOUT_S", fmt::format("'{}'", bad)});
  }
  require_error(read({{"DIST_STALENESS", "some"}}), {"'some'", "unlimited"});
  require_error(read({{"DIST_RENDEZVOUS", "file:/x"}}), {"file:/x", "dir:PATH"});
  require_error(read({{"DIST_PLACEMENT", "here"}}), {"colocated, dedicated"});
  require_error(read({{"DIST_DETERMINISTIC", "maybe"}}), {"'maybe'"});
}

TEST_CASE("combinations that cannot work are errors") {
  require_error(read({{"DIST_SERVERS", "2"}}), {"2 servers", "1 ranks"});
  require_error(read({{"DIST_RANK", "0"},
                      {"DIST_RANKS", "2"},
                      {"DIST_SERVERS", "2"},
                      {"DIST_PLACEMENT", "dedicated"}}),
                {"one worker must remain"});
  require_error(read({{"DIST_DETERMINISTIC", "1"}, {"DIST_ALGORITHM", "native"}}),
                {"deterministic", "native"});
}

TEST_CASE("every option can be set to its own printed value and is described") {
  const Options defaults;
  const auto text = defaults.describe();
  for (const OptionInfo& option : option_table()) {
    INFO(option.name);
    REQUIRE_FALSE(option.meaning.empty());
    REQUIRE(text.find(fmt::format("\n{} ", option.name)) != std::string::npos);
  }
  Options options;
  REQUIRE_OK(options.set("staleness", "unlimited", "test"));
  REQUIRE(options.staleness == kUnlimitedStaleness);
  REQUIRE_OK(options.set("staleness", "0", "test"));
  REQUIRE(options.staleness == 0);
  REQUIRE_OK(options.set("priority", "0", "test"));
  REQUIRE_FALSE(options.priority);
  REQUIRE(options.server_threads == kAutomatic);
  REQUIRE_OK(options.set("server-threads", "3", "test"));
  REQUIRE(options.server_threads == 3);
  REQUIRE_OK(options.set("server-threads", "auto", "test"));
  REQUIRE(options.server_threads == kAutomatic);
  REQUIRE_FALSE(options.set("server-threads", "-1", "test").ok());
  REQUIRE_OK(options.set("backup-workers", "2", "test"));
  REQUIRE(options.backup_workers == 2);
  REQUIRE_OK(options.set("staleness-rate", "1", "test"));
  REQUIRE(options.staleness_rate);
  REQUIRE_OK(options.set("delay-compensation", "0.04", "test"));
  REQUIRE(options.delay_compensation == 0.04);
  for (const auto* bad : {"-1", "nan", "1e9", "much"}) {
    REQUIRE_FALSE(options.set("delay-compensation", bad, "test").ok());
  }
  REQUIRE_OK(options.set("deterministic", "true", "test"));
  REQUIRE(options.deterministic);
  REQUIRE_OK(options.set("placement", "dedicated", "test"));
  REQUIRE(options.placement == Placement::dedicated);
}

TEST_CASE("workers may come and go only over tcp, with dedicated servers") {
  const auto good = read({{"DIST_ELASTIC", "1"},
                          {"DIST_TRANSPORT", "tcp"},
                          {"DIST_PLACEMENT", "dedicated"},
                          {"DIST_INCARNATION", "3"},
                          {"DIST_RANK", "1"},
                          {"DIST_RANKS", "4"},
                          {"DIST_SERVERS", "2"}});
  REQUIRE_OK(good);
  REQUIRE(good->incarnation == 3);
  REQUIRE(good->drops_lost_workers());
  REQUIRE(good->may_leave(1));
  REQUIRE_FALSE(good->may_leave(2));
  REQUIRE_FALSE(Options{}.drops_lost_workers());
  REQUIRE(good->members_change());
  REQUIRE_FALSE(Options{}.members_change());
  require_error(read({{"DIST_ELASTIC", "1"}}), {"elastic", "transport=tcp", "placement=dedicated"});
  require_error(read({{"DIST_ON_WORKER_LOSS", "drop"}, {"DIST_TRANSPORT", "tcp"}}),
                {"on-worker-loss=drop", "placement=dedicated"});
  require_error(read({{"DIST_ON_WORKER_LOSS", "wait"}}), {"auto, stop, drop"});
  require_error(read({{"DIST_MIN_WORKERS", "2"}}), {"min-workers 2", "0 workers"});
}

}  // namespace dist
