// SPDX-License-Identifier: Apache-2.0
// What train_cnn tells: records, traces, descriptions, profiles and replays.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

using nlohmann::json;

const std::string kQuick = "--model small_cnn --backend ref --batch 2 --steps 3 --warmup 1 ";

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the record says what the update was") {
  const auto run = train(2, kQuick +
                                "--strategy async-ps --optimizer adamw --clip-norm 0 "
                                "--schedule step --rate-interval 5 --rate-warmup 1");
  CHECK(run.record["learning_rate"] == 0.001);
  CHECK(run.record["weight_decay"] == 0.01);
  // Two workers: two updates a step.
  CHECK(run.record["update"] ==
        "adamw (learning_rate 0.001, beta1 0.9, beta2 0.999, epsilon 1e-08, weight_decay 0.01), "
        "schedule step (interval_steps 10, factor 0.1), warm-up 2 steps");
}

TEST_CASE("the record has every field that scripts rely on") {
  const auto run = train(2, kQuick + "--strategy async-ps");
  const json& r = run.record;
  for (const auto* field : {"record",
                            "kind",
                            "model",
                            "strategy",
                            "transport",
                            "backend",
                            "ranks",
                            "workers",
                            "worker",
                            "servers",
                            "placement",
                            "batch",
                            "image",
                            "steps",
                            "warmup",
                            "images_per_second",
                            "images_per_second_se",
                            "step_ms_median",
                            "exposed_communication_ms",
                            "exposed_bound_ms",
                            "communication_busy_ms",
                            "bytes_sent_per_step",
                            "parameters",
                            "loss_first",
                            "loss_last",
                            "parameter_hash",
                            "replicas_equal",
                            "staleness",
                            "dropped",
                            "server_imbalance",
                            "replay",
                            "version",
                            "machine",
                            "time",
                            "command"}) {
    INFO(field);
    CHECK(r.contains(field));
  }
  CHECK(r["record"] == "train");
  CHECK(r["kind"] == "measured");
  CHECK(r["transport"] == "shm");
  CHECK(r["image"] == 32);
  CHECK(r["ranks"] == 2);
  CHECK(r["workers"] == 2);
  CHECK(r["servers"] == 2);
  CHECK(r["parameters"] == run.parameters.size());
  CHECK(r["images_per_second"].get<double>() > 0);
  CHECK(r["step_ms_median"].get<double>() > 0);
  CHECK(r["machine"]["cores"].get<int>() >= 1);
  CHECK(contains(r["command"], "--strategy async-ps"));
  CHECK(r["update"] ==
        "momentum (learning_rate 0.01, momentum 0.9, weight_decay 0), schedule constant");
  CHECK(contains(run.process.out, "images/s (measured; 3 steps after 1 of warm-up)"));
}

// `times` the arena, whose alignment gaps travel too.
void check_bytes(const Trained& run, double times) {
  const double wanted = 4 * run.record["parameters"].get<double>() * times;
  const double sent = run.record["bytes_sent_per_step"].get<double>();
  CHECK(sent >= wanted);
  CHECK(sent < 1.01 * wanted + 4096);
}

TEST_CASE("ring: bytes are 2 (N - 1) / N of the arena a step, and one rank alone sends none") {
  const auto alone = train(1, kQuick + "--strategy ring");
  CHECK(alone.record["bytes_sent_per_step"] == 0);
  const auto run = train(3, kQuick + "--strategy ring --dist-algorithm=ring");
  CHECK(run.record["algorithm"] == "ring");
  check_bytes(run, 4.0 / 3);
}

TEST_CASE("ring in one host: the others read (N - 1) / N of the arena, with the same result") {
  const auto sweep = train(3, kQuick + "--strategy ring");
  CHECK(sweep.record["algorithm"] == "fused sweep");
  // Two thirds of parameters and velocity.
  CHECK(sweep.record["memory_saved_bytes"].get<double>() >=
        4.0 * 4 / 3 * sweep.record["parameters"].get<double>());
  check_bytes(sweep, 2.0 / 3);
  const auto ring = train(3, kQuick + "--strategy ring --dist-algorithm=ring");
  CHECK(sweep.record["parameter_hash"] == ring.record["parameter_hash"]);
}

TEST_CASE("none trains every rank for itself") {
  const auto run = train(2, kQuick + "--strategy none");
  CHECK(run.record["workers"] == 2);
  CHECK(run.record["bytes_sent_per_step"] == 0);
  CHECK(run.record["replicas_equal"] == false);
}

TEST_CASE("records are appended, and only rank 0 speaks") {
  const ScratchDirectory scratch;
  auto command = train_command(2, kQuick + "--progress --json " + scratch.path("runs.jsonl"));
  for (int run = 0; run < 2; ++run) {
    const auto done = run_program(command);
    INFO(done.err);
    REQUIRE(done.exit_code == 0);
    CHECK_FALSE(contains(done.out, "[1]"));
    CHECK(contains(done.out, "[0] step     4/4"));
  }
  const auto text = read_text(scratch.path("runs.jsonl"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 2);
}

TEST_CASE("--trace writes one valid file a rank with the activities' names") {
  const ScratchDirectory scratch;
  train(2, kQuick + "--strategy ring --trace " + scratch.path("t.json"));
  for (const int rank : {0, 1}) {
    const auto trace = json::parse(read_text(scratch.path(fmt::format("t.rank{}.json", rank))));
    std::set<std::string> threads;
    std::set<std::string> seen;
    for (const json& event : trace.at("traceEvents")) {
      if (event.at("name") == "thread_name") threads.insert(event.at("args").at("name"));
      if (event.at("ph") == "X") seen.insert(event.at("cat"));
    }
    CHECK(threads ==
          std::set<std::string>{"compute", "wait", "send", "receive", "reduce", "update"});
    for (const auto* activity : {"compute", "send", "receive", "reduce", "update"}) {
      INFO(activity);
      CHECK(seen.count(activity) == 1);
    }
  }
}

TEST_CASE("--describe prints layers, shapes and totals, once, without training") {
  const std::pair<const char*, const char*> totals[] = {{"vgg16", "138357544"},
                                                        {"vgg19", "143667240"},
                                                        {"resnet50", "25557032"},
                                                        {"resnet152", "60192808"},
                                                        {"inception_v4", "42679816"}};
  for (const auto& [model, parameters] : totals) {
    const auto done = run_program(train_command(2, fmt::format("--model {} --describe", model)));
    INFO(done.out);
    CHECK(done.exit_code == 0);
    CHECK(contains(done.out, parameters));
    CHECK(contains(done.out, "GFLOP"));
    CHECK_FALSE(contains(done.out, "[1]"));
  }
}

TEST_CASE("--describe with --json tells what a step of the model costs") {
  const ScratchDirectory scratch;
  const std::string path = scratch.path("model.jsonl");
  const auto done = run_program(train_command(2, "--model resnet50 --describe --json " + path));
  CHECK(done.exit_code == 0);
  const json record = last_record(path);
  CHECK(record["record"] == "model");
  CHECK(record["parameters"] == 25557032);
  double flop = 0;
  for (const json& node : record["nodes"]) {
    flop += node["forward_flop"].get<double>() + node["backward_flop"].get<double>();
  }
  CHECK(record["train_flop"] == flop);
  CHECK(flop > 24e9);
  CHECK(record["nodes"][1]["kind"] == "conv");
}

TEST_CASE("--profile is what --replay-profile plays; a replay says that it is emulated") {
  const ScratchDirectory scratch;
  train(1, kQuick + "--profile " + scratch.path("profile.json"));
  const auto profile = json::parse(read_text(scratch.path("profile.json")));
  CHECK(profile["record"] == "profile");
  CHECK(profile["batch"] == 2);
  double total_ms = 0;
  for (const json& node : profile["nodes"]) {
    total_ms += node["forward_ms"].get<double>() + node["backward_ms"].get<double>();
  }
  CHECK(total_ms > 0);
  const std::string replay = "--model small_cnn --backend replay --batch 2 --steps 3 --warmup 1 ";
  const auto run =
      train(4, replay + "--replay-step-ms 30 --replay-profile " + scratch.path("profile.json"));
  CHECK(run.record["kind"] == "emulated");
  CHECK(run.record["replay"]["step_ms"] == 30);
  CHECK(run.record["replay"]["profile"] == scratch.path("profile.json"));
  CHECK(run.record["loss_last"].is_null());
  CHECK(run.record["parameter_hash"].is_null());
  CHECK(run.record["step_ms_median"].get<double>() >= 30);  // it never sleeps shorter
  CHECK(contains(run.process.out, "emulated"));
  for (const std::string strategy : {"sync-ps", "async-ps"}) {
    const auto other = train(4, replay + "--replay-step-ms 5 --strategy " + strategy);
    CHECK(other.record["kind"] == "emulated");
    CHECK(other.record["replay"]["profile"] == "estimated");
  }
}

}  // namespace dist::test
