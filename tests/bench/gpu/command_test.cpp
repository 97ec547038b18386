// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/support/catch.h"

namespace dist::bench::gpu {
namespace {

Tools tools() {
  Tools tools;
  tools.trainer = "train_cnn";
  tools.distrun = "distrun";
  tools.build = "build";
  tools.peer = "torch_peer.py";
  tools.sanitizer = "compute-sanitizer";
  return tools;
}

Run run() {
  Run run;
  run.model = "resnet50";
  run.batch = 64;
  run.steps = 20;
  run.warmup = 5;
  return run;
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace

TEST_CASE("one rank runs without a launcher") {
  CHECK(joined(command_of(run(), tools(), "r.jsonl", "p.json")) ==
        "train_cnn --strategy ring --backend cudnn --model resnet50 --precision f16 --batch 64 "
        "--steps 20 --warmup 5 --json r.jsonl");
}

TEST_CASE("several ranks take the transport that was asked for") {
  Run several = run();
  several.model = "small_cnn";
  several.ranks = 4;
  several.transport = "shm";
  CHECK(joined(command_of(several, tools(), "r", "p")) ==
        "distrun -n 4 -- train_cnn --strategy ring --backend cudnn --model small_cnn --precision "
        "f16 --batch 64 --steps 20 --warmup 5 --json r --threads 1 --data learnable --transport "
        "shm");
}

TEST_CASE("the host trains the same curve by the backend that it has") {
  Run host = run();
  host.section = "curves";
  host.model = "small_cnn";
  host.backend = "";
  host.precision = "f32";
  CHECK(joined(command_of(host, tools(), "r", "p")) ==
        "train_cnn --strategy ring --model small_cnn --precision f32 --batch 64 --steps 20 "
        "--warmup 5 --json r --threads 1 --data learnable --learning-rate 0.003");
}

TEST_CASE("a profile is written where it was asked for") {
  Run profiled = run();
  profiled.profile = true;
  CHECK(joined(command_of(profiled, tools(), "r", "p.json")).ends_with("--profile p.json"));
}

TEST_CASE("the peer gets the same numbers") {
  Run theirs = run();
  theirs.program = Program::peer;
  theirs.mode = "compile";
  CHECK(joined(command_of(theirs, tools(), "r", "p")) ==
        "python3 torch_peer.py --mode compile --model resnet50 --precision f16 --batch 64 --steps "
        "20 --warmup 5 --json r");
}

TEST_CASE("CTest is asked for the label gpu exactly") {
  CHECK(joined(tests_command(tools(), "build/logs/j.xml", "23:59:01")) ==
        "ctest --test-dir build -L ^gpu$ -j 4 --output-on-failure --output-junit logs/j.xml "
        "--stop-time 23:59:01");
  CHECK(joined(list_tests_command(tools())) ==
        "ctest --test-dir build -L ^gpu$ --show-only=json-v1");
}

TEST_CASE("memcheck follows the processes that a test starts") {
  CHECK(joined(sanitizer_command({"a_test", "-x"}, tools())) ==
        "compute-sanitizer --tool memcheck --target-processes all --error-exitcode 86 a_test -x");
}

TEST_CASE("a model is described without being trained") {
  CHECK(joined(describe_command("vgg16", tools(), "d")) ==
        "train_cnn --model vgg16 --describe --json d");
}

}  // namespace dist::bench::gpu
