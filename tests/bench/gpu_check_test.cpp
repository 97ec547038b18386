// SPDX-License-Identifier: Apache-2.0
// The program gpu_check itself, without a GPU: real processes and the real CTest, a trainer, a peer
// and a sanitizer whose results are made up.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/gpu/plan.h"
#include "libdist/memory/device.h"
#include "tests/bench/program.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGoodTests =
    "add_test(gpu_one /bin/true)\nadd_test(gpu_two /bin/true)\nadd_test(gpu_leaky_not /bin/sh -c "
    "\"exit 77\")\nset_tests_properties(gpu_one gpu_two gpu_leaky_not PROPERTIES LABELS gpu "
    "SKIP_RETURN_CODE 77)\nadd_test(other /bin/false)\nset_tests_properties(other PROPERTIES "
    "LABELS "
    "unit)\nadd_test(near /bin/false)\nset_tests_properties(near PROPERTIES LABELS not_gpu)\n";

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<nlohmann::json> lines_of(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// A build as gpu_check sees one: programs and tests.
class FakeBuild {
 public:
  explicit FakeBuild(const std::string& tests = kGoodTests) {
    fs::create_directories(folder_.path("bin"));
    fs::create_symlink(DIST_FAKE_FOLDER "/fake_gpu_trainer.sh", folder_.path("bin/train_cnn"));
    fs::create_symlink(DIST_DISTRUN, folder_.path("bin/distrun"));
    std::ofstream(folder_.path("CTestTestfile.cmake")) << tests;
  }

  struct Outcome {
    int exit_code = 0;
    std::string output;
  };
  /// Runs gpu_check on a device that is not there; `before` stands in front: "env NAME=VALUE".
  Outcome check(const std::string& arguments, const std::string& before = "env") const {
    const std::string line =
        before + " " DIST_GPU_CHECK " --assume-device 'NVIDIA H200' --memory-gib 140 --build " +
        folder_.path() + " --out " + out() +
        " --python " DIST_FAKE_FOLDER "/fake_torch.sh --sanitizer " DIST_FAKE_FOLDER
        "/fake_sanitizer.sh " +
        arguments + " > " + folder_.path("output") + " 2>&1";
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, text_of(folder_.path("output"))};
  }
  std::string folder() const { return folder_.path(); }
  std::string out() const { return folder_.path("out"); }

 private:
  ScratchFolder folder_;
};

}  // namespace

TEST_CASE("the whole check: records, tables, ratios, goals, provenance") {
  const FakeBuild build;
  const auto done = build.check("--goals");
  INFO(done.output);
  CHECK(done.exit_code == 1);  // f16 over compile is 1.25, bf16 over eager 1.2 of 1.3: a goal
  for (const std::string& section : bench::gpu::section_names()) {
    const auto lines = lines_of(build.out() + "/" + section + ".jsonl");
    INFO(section);
    REQUIRE_FALSE(lines.empty());
    for (const auto& line : lines) {
      CHECK(line["section"] == section);
      CHECK((line["outcome"] == "ok" || line["outcome"] == "skipped"));
      CHECK(line["provenance"]["device"] == "NVIDIA H200");
      CHECK(line["provenance"].contains("git_commit"));
      CHECK(line["provenance"]["built_with"].contains("cudnn"));
    }
  }
  CHECK(lines_of(build.out() + "/ranks.jsonl").size() == 12);
  CHECK(lines_of(build.out() + "/throughput.jsonl").size() == 20);
  CHECK(lines_of(build.out() + "/tests.jsonl").size() == 3);
  CHECK(lines_of(build.out() + "/sanitizer.jsonl").size() == 2);  // of those that passed
  const std::string summary = text_of(build.out() + "/summary.md");
  CHECK(contains(summary, "| resnet50     | f16       | eager   | 7000"));
  CHECK(contains(summary, "| 1.40  | 2 and 2"));
  CHECK(contains(summary, "1.25     | met"));
  CHECK(contains(summary, "| at least 1.30  | 1.20     | below goal |"));
  CHECK(contains(summary, "| library's share of a step on one rank | at most 0.0100"));
  CHECK(contains(summary, "0.0050   | met"));
  CHECK(contains(summary, "| batch_norm | 1      | 2.000      | 3.000       | 0.250"));
  CHECK(contains(summary, "gpu_leaky_not: skipped"));
  CHECK(contains(done.output, "resnet50 bf16 over PyTorch eager: below goal"));
  CHECK(build.check("").exit_code == 0);  // a goal alone fails nothing
}

TEST_CASE("what fails is named and makes the exit code 1; the rest goes on") {
  const FakeBuild build;
  const std::pair<const char*, const char*> faults[] = {
      {"unequal", "ranks-shm-ring-n4: the replicas differ"},
      {"crash", "throughput-vgg16-bf16: exit code 3: fake_gpu_trainer: error: out of memory\n"},
      {"sweeps", "ranks-tcp-ring-n2: ring over tcp ran as"},
      {"drift", "the last losses of ranks-shm-ring-n2 (2.300000) and ranks-tcp-ring-n2"},
      {"nan", "loss_last is not a finite number"},
      {"mute", "the program left no record"}};
  for (const auto& [fault, message] : faults) {
    const auto done =
        build.check("--sections ranks,throughput", std::string("env FAKE_FAULT=") + fault);
    INFO(fault << "\n" << done.output);
    CHECK(done.exit_code == 1);
    CHECK(contains(done.output, message));
    CHECK(lines_of(build.out() + "/throughput.jsonl").size() == 20);
  }
}

TEST_CASE("a precision that trains otherwise than the host is named") {
  const FakeBuild build;
  CHECK(build.check("--sections curves").exit_code == 0);
  const auto done = build.check("--sections curves", "env FAKE_FAULT=bent");
  INFO(done.output);
  CHECK(done.exit_code == 1);
  CHECK(contains(done.output, "the last loss of curves-bf16 is 2.360000, that of curves-host 2.3"));
}

TEST_CASE("records hold no path above the directory that the check was started in") {
  const FakeBuild build;
  build.check("--sections curves", "cd " + build.folder() + " && env");
  const auto lines = lines_of(build.out() + "/curves.jsonl");
  REQUIRE(lines.size() == 5);
  CHECK(lines[0]["run_command"].get<std::string>().starts_with("./bin/train_cnn --strategy ring"));
  CHECK(contains(lines[0]["run_command"], "--json ./gpu_check/curves-host.jsonl"));
}

TEST_CASE("a build below the directory that the check was started in has its tests found") {
  const FakeBuild build;
  const auto done = build.check("--sections tests", "cd " + build.folder() + "/.. && env");
  INFO(done.output);
  CHECK(done.exit_code == 0);
  CHECK(lines_of(build.out() + "/tests.jsonl").size() == 3);
}

TEST_CASE("async-ps may end with different replicas") {
  const FakeBuild build;
  const auto done = build.check("--sections ranks", "env FAKE_FAULT=unequal");
  CHECK_FALSE(contains(done.output, "gpu_check: failed: ranks-shm-async-ps-n4"));
  CHECK(contains(done.output, "sync-ps-n4: the replicas"));
}

TEST_CASE("time that runs out cuts measurements, and fails what must finish") {
  const FakeBuild build;
  const auto begin = std::chrono::steady_clock::now();
  const auto measured =
      build.check("--sections throughput,overhead --budget-s 8", "env FAKE_FAULT=hang");
  INFO(measured.output);
  CHECK(measured.exit_code == 0);
  CHECK(contains(measured.output, "cut     ended after"));
  CHECK(contains(measured.output, "left of its section, needs about 8"));
  const auto checked = build.check("--sections ranks --budget-s 4", "env FAKE_FAULT=hang");
  INFO(checked.output);
  CHECK(checked.exit_code == 1);
  CHECK(contains(checked.output, "failed: ranks-shm-ring-n2: "));
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(60));
}

TEST_CASE("gpu tests: failures and none at all") {
  const FakeBuild failing(
      "add_test(gpu_bad /bin/false)\nset_tests_properties(gpu_bad PROPERTIES LABELS gpu)\n");
  const auto failed = failing.check("--sections tests");
  INFO(failed.output);
  CHECK(failed.exit_code == 1);
  CHECK(contains(failed.output, "gpu_check: failed: gpu_bad"));
  const FakeBuild skipping(
      "add_test(gpu_off /bin/sh -c \"exit 77\")\nset_tests_properties(gpu_off PROPERTIES LABELS "
      "gpu "
      "SKIP_RETURN_CODE 77)\n");
  CHECK(contains(skipping.check("--sections tests").output, "every gpu test was skipped"));
  CHECK(skipping.check("--sections tests").exit_code == 1);
  const FakeBuild empty("");
  const auto none = empty.check("--sections tests");
  INFO(none.output);
  CHECK(none.exit_code == 1);
  CHECK(contains(none.output, "no test has the label gpu"));
}

TEST_CASE("gpu tests that are too slow are cut, those that ended count") {
  const FakeBuild build(
      "add_test(gpu_quick /bin/true)\nforeach(k RANGE 1 5)\nadd_test(gpu_slow_${k} /bin/sleep 90)\n"
      "set_tests_properties(gpu_slow_${k} PROPERTIES LABELS gpu)\nendforeach()\n"
      "set_tests_properties(gpu_quick PROPERTIES LABELS gpu)\n");
  const auto begin = std::chrono::steady_clock::now();
  const auto done = build.check("--sections tests --budget-s 9");
  INFO(done.output);
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
  CHECK(done.exit_code == 1);
  const auto lines = lines_of(build.out() + "/tests.jsonl");
  REQUIRE(lines.size() == 6);
  for (const auto& line : lines) {
    CHECK(line["outcome"] == (line["name"] == "gpu_quick" ? "ok" : "cut"));
  }
  CHECK(contains(done.output, "not begun when its section ended"));
  CHECK(contains(done.output, "gpu_check: failed: gpu_slow_1: ended after"));
}

TEST_CASE("what the sanitizer finds is a failure") {
  const FakeBuild build(
      "add_test(gpu_leaky /bin/echo leaky)\nset_tests_properties(gpu_leaky PROPERTIES LABELS "
      "gpu)\n");
  const auto done = build.check("--sections tests,sanitizer");
  INFO(done.output);
  CHECK(done.exit_code == 1);
  CHECK(contains(done.output, "memcheck found errors"));
}

TEST_CASE("without PyTorch its section is skipped with the reason") {
  const FakeBuild build;
  const auto done = build.check("--sections peers", "env FAKE_TORCH=missing");
  INFO(done.output);
  CHECK(done.exit_code == 0);
  CHECK(contains(done.output, "No module named 'torch'"));
  CHECK(contains(done.output, "not measured"));
}

TEST_CASE("a run of PyTorch that fails says nothing about us") {
  const FakeBuild build;
  const auto done = build.check("--sections peers", "env FAKE_TORCH=no_compiler");
  INFO(done.output);
  CHECK(done.exit_code == 0);
  CHECK(contains(done.output, "peers-resnet50-f16-compile-0: skipped: exit code 4"));
  CHECK(contains(done.output, "| resnet50 f16 over PyTorch compile     | at least 1.20"));
}

TEST_CASE("records of an earlier check do not stay") {
  const FakeBuild build;
  build.check("--sections throughput");
  build.check("--sections ranks");
  CHECK_FALSE(fs::exists(build.out() + "/throughput.jsonl"));
}

TEST_CASE("without a GPU the check says why and is a skip") {
  if (device_available().ok()) skip("this machine has a GPU");
  const ScratchFolder folder;
  const std::string log = folder.path("log");
  const int status =
      std::system((DIST_GPU_CHECK " --out " + folder.path("out") + " > " + log).c_str());
  CHECK(WEXITSTATUS(status) == 77);
  CHECK(contains(text_of(log), "SKIPPED: "));
  CHECK_FALSE(fs::exists(folder.path("out")));
}

TEST_CASE("wrong arguments are told before anything runs") {
  const FakeBuild build;
  CHECK(build.check("--sections nothing").exit_code == 1);
  CHECK(build.check("--budget-s 0").exit_code == 1);
  CHECK(build.check("--build /nowhere").exit_code == 1);
  CHECK(contains(build.check("--models unknown").output, "model 'unknown' is unknown"));
  CHECK(build.check("--models unknown").exit_code == 1);
  CHECK(build.check("--help").exit_code == 0);
}

}  // namespace dist::test
