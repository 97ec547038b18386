// SPDX-License-Identifier: Apache-2.0
#include "bench/options.h"

#include <algorithm>

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

std::vector<std::string> command(const SweepOptions& options, const RunSpec& run,
                                 const Tools& tools = {"/bin/train", "/bin/distrun", false, false},
                                 const Cluster* cluster = nullptr) {
  return *command_of(run, options, tools, cluster, 1, "/tmp/x.jsonl");
}

bool has(const std::vector<std::string>& words, const std::string& name, const std::string& value) {
  const auto at = std::find(words.begin(), words.end(), name);
  return at != words.end() && at + 1 != words.end() && *(at + 1) == value;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

TEST_CASE("lists are split at commas and words after -- go to the trainer") {
  SweepOptions options;
  const std::vector<const char*> words = {"scaling", "--models", "vgg16,vgg19", "--ranks", "1,2,16",
                                          "--out",   "/tmp/x",   "--",          "--seed",  "7"};
  REQUIRE_FALSE(parse_options(static_cast<int>(words.size()), words.data(), options).has_value());
  REQUIRE(options.models == std::vector<std::string>{"vgg16", "vgg19"});
  REQUIRE(options.ranks == std::vector<int>{1, 2, 16});
  REQUIRE(options.trainer == std::vector<std::string>{"--seed", "7"});
  const auto line = command(options, {"vgg16", "ring", 2, 0});
  REQUIRE(has(line, "--seed", "7"));
}

TEST_CASE("a run's command names launcher, ranks and what the trainer shall do") {
  SweepOptions options;
  options.image = 256;
  options.servers = 2;
  options.placement = "dedicated";
  options.staleness = "unlimited";
  const auto ring = command(options, {"vgg16", "ring", 4, 0});
  REQUIRE(std::vector<std::string>(ring.begin(), ring.begin() + 5) ==
          std::vector<std::string>{"/bin/distrun", "-n", "4", "--", "/bin/train"});
  REQUIRE(has(ring, "--strategy", "ring"));
  REQUIRE(has(ring, "--image", "256"));
  REQUIRE_FALSE(has(ring, "--servers"));
  REQUIRE(has(command(options, {"vgg16", "sync-ps", 4, 0}), "--servers", "2"));
  REQUIRE_FALSE(has(command(options, {"vgg16", "sync-ps", 4, 0}), "--staleness"));
  REQUIRE(has(command(options, {"vgg16", "async-ps", 4, 0}), "--staleness", "unlimited"));
  REQUIRE_FALSE(has(command(options, {"vgg16", "none", 4, 0}), "--placement"));
}

TEST_CASE("mpirun may start more ranks than cores, and as root only when it is root") {
  const SweepOptions options;
  const auto user = command(options, {"vgg16", "ring", 4, 0}, {"/t", "mpirun", true, false});
  REQUIRE(has(user, "--oversubscribe"));
  REQUIRE_FALSE(has(user, "--allow-run-as-root"));
  REQUIRE(has(command(options, {"vgg16", "ring", 4, 0}, {"/t", "mpirun", true, true}),
              "--allow-run-as-root"));
}

TEST_CASE("replay gets the step time of its model at the batch of the sweep") {
  SweepOptions options;
  options.backend = "replay";
  options.batch = 16;
  const Cluster cluster{"K80", 32, {{"vgg16", 900.0}}};
  const Tools tools{"/t", "/d", false, false};
  REQUIRE(has(command(options, {"vgg16", "ring", 2, 0}, tools, &cluster), "--replay-step-ms",
              "450.000"));
  REQUIRE_FALSE(command_of({"vgg19", "ring", 2, 0}, options, tools, &cluster, 1, "x").ok());
}

TEST_CASE("threads a rank are the same at every rank count") {
  SweepOptions options;
  options.ranks = {1, 2, 4};
  REQUIRE(threads_per_rank(options, 16) == 4);
  REQUIRE(threads_per_rank(options, 2) == 1);
  options.threads = 3;
  REQUIRE(threads_per_rank(options, 16) == 3);
}

TEST_CASE("impossible numbers are refused with the option's name") {
  const std::vector<std::pair<void (*)(SweepOptions&), const char*>> cases = {
      {[](SweepOptions& o) {
         o.ranks = {1, 0};
       },
       "--ranks"},
      {[](SweepOptions& o) { o.repeats = 0; }, "--repeats"},
      {[](SweepOptions& o) { o.steps = -1; }, "--steps"},
      {[](SweepOptions& o) { o.batch = 0; }, "--batch"},
      {[](SweepOptions& o) { o.image = -5; }, "--image"},
      {[](SweepOptions& o) { o.out.clear(); }, "--out"},
      {[](SweepOptions& o) { o.models.clear(); }, "--models"},
      {[](SweepOptions& o) { o.replay_step_ms_file = "k80.json"; }, "--replay-step-ms-file"}};
  for (const auto& [spoil, name] : cases) {
    SweepOptions options;
    options.out = "/tmp/x";
    REQUIRE_OK(validate(options));
    spoil(options);
    const auto status = validate(options);
    INFO(name);
    REQUIRE_FALSE(status.ok());
    REQUIRE(status.message().find(name) != std::string::npos);
  }
}
