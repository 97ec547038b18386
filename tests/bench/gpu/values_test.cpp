// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/values.h"

#include "tests/support/catch.h"

namespace dist::bench::gpu {
namespace {

Run two_ranks(const std::string& strategy, const std::string& transport) {
  Run run;
  run.section = "ranks";
  run.name = transport + "-" + strategy;
  run.model = "small_cnn";
  run.precision = "f32";
  run.strategy = strategy;
  run.transport = transport;
  run.ranks = 2;
  run.batch = 16;
  return run;
}

nlohmann::json record_of(const Run& run) {
  return {{"model", run.model},
          {"precision", run.precision},
          {"batch", run.batch},
          {"ranks", run.ranks},
          {"backend", "cudnn"},
          {"images_per_second", 10.0},
          {"loss_first", 2.5},
          {"loss_last", 2.25},
          {"replicas_equal", true},
          {"algorithm", run.strategy != "ring"   ? "staged"
                        : run.transport == "shm" ? "device sweep"
                                                 : "staged ring"}};
}

Outcome ended_with(const Run& run, double loss) {
  Outcome outcome;
  outcome.run = run;
  outcome.record = record_of(run);
  outcome.record["loss_last"] = loss;
  return outcome;
}

}  // namespace

TEST_CASE("a record that is what was asked for is ok, anything else is named") {
  const Run run = two_ranks("ring", "shm");
  CHECK(check_record(run, record_of(run)).ok());
  const std::pair<const char*, nlohmann::json> wrong[] = {{"model", "vgg16"},
                                                          {"precision", "f16"},
                                                          {"batch", 8},
                                                          {"ranks", 1},
                                                          {"backend", "onednn"},
                                                          {"images_per_second", 0},
                                                          {"loss_last", nullptr},
                                                          {"loss_first", nullptr},
                                                          {"replicas_equal", false},
                                                          {"algorithm", "staged fused sweep"}};
  for (const auto& [field, value] : wrong) {
    INFO(field);
    auto record = record_of(run);
    record[field] = value;
    CHECK_FALSE(check_record(run, record).ok());
    record.erase(field);
    CHECK_FALSE(check_record(run, record).ok());
  }
}

TEST_CASE("what must be staged must not sweep on the device") {
  for (const char* transport : {"shm", "tcp"}) {
    for (const char* strategy : {"ring", "sync-ps", "async-ps"}) {
      const Run run = two_ranks(strategy, transport);
      auto record = record_of(run);
      CHECK(check_record(run, record).ok());
      record["algorithm"] = record["algorithm"] == "device sweep" ? "staged ring" : "device sweep";
      CHECK_FALSE(check_record(run, record).ok());
      record["algorithm"] = "";
      CHECK_FALSE(check_record(run, record).ok());
    }
  }
}

TEST_CASE("replicas of async-ps may differ, those of sync-ps may not") {
  auto record = record_of(two_ranks("async-ps", "tcp"));
  record["replicas_equal"] = false;
  CHECK(check_record(two_ranks("async-ps", "tcp"), record).ok());
  CHECK_FALSE(check_record(two_ranks("sync-ps", "tcp"), record).ok());
}

TEST_CASE("the host's own backend is none of the GPU's business") {
  Run run = two_ranks("ring", "");
  run.backend = "";
  auto record = record_of(run);
  record["backend"] = "onednn";
  CHECK(check_record(run, record).ok());
}

TEST_CASE("curves end within 2 % of the host's") {
  const auto ends = [](const std::string& backend, double loss) {
    Run run = two_ranks("ring", "");
    run.section = "curves";
    run.name = "curves-" + backend;
    run.backend = backend;
    return ended_with(run, loss);
  };
  CHECK(check_curves({ends("", 2.0), ends("cudnn", 2.03)}).ok());
  CHECK(check_curves({ends("cudnn", 2.0)}).ok());
  const auto apart = check_curves({ends("", 2.0), ends("cudnn", 1.95)});
  REQUIRE_FALSE(apart.ok());
  CHECK(apart.message().find("curves-cudnn is 1.95") != std::string::npos);
  Outcome failed = ends("cudnn", 1.0);
  failed.state = State::failed;
  CHECK(check_curves({ends("", 2.0), failed}).ok());
}

TEST_CASE("a peer has no ranks, backend or replicas") {
  Run run = two_ranks("ring", "");
  run.program = Program::peer;
  CHECK(check_record(run, {{"model", "small_cnn"},
                           {"precision", "f32"},
                           {"batch", 16},
                           {"images_per_second", 5.0},
                           {"loss_first", 2},
                           {"loss_last", 2}})
            .ok());
}

TEST_CASE("synchronous runs of as many ranks agree, whatever the transport") {
  const Outcome one = ended_with(two_ranks("ring", "shm"), 2.00);
  CHECK(check_agreement({one, ended_with(two_ranks("sync-ps", "tcp"), 2.01)}).ok());
  const auto apart = check_agreement({one, ended_with(two_ranks("sync-ps", "tcp"), 2.1)});
  REQUIRE_FALSE(apart.ok());
  CHECK(apart.message().find("tcp-sync-ps") != std::string::npos);
  CHECK(check_agreement({one, ended_with(two_ranks("async-ps", "tcp"), 2.1)}).ok());
  Run four = two_ranks("ring", "shm");
  four.ranks = 4;
  CHECK(check_agreement({one, ended_with(four, 2.1)}).ok());
  Outcome failed = ended_with(two_ranks("sync-ps", "tcp"), 2.1);
  failed.state = State::failed;
  CHECK(check_agreement({one, failed}).ok());
}

}  // namespace dist::bench::gpu
