// SPDX-License-Identifier: Apache-2.0
// The program `scaling` itself: real processes, a trainer whose numbers are made up.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/record.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace {

namespace fs = std::filesystem;
using dist::bench::read_records;
using dist::test::ScratchFolder;

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

struct Outcome {
  int exit_code = 0;
  std::string output;
};

// Runs scaling with arguments; `before` stands in front of it ("env PATH=...", "timeout ...").
Outcome scaling(const std::string& arguments, const std::string& before = "") {
  const ScratchFolder directory;
  const std::string log = directory.path() + "/log";
  const std::string line = before + " " DIST_SCALING " " + arguments + " > " + log + " 2>&1";
  const int status = std::system(line.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text_of(log)};
}

std::string sweep(const std::string& out, const std::string& models) {
  return "--program " DIST_FAKE_TRAINER " --models " + models +
         " --strategies ring,sync-ps --ranks 1,2 --repeats 2 --batch 4 --out " + out;
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

// 0, or 2 where this machine has no gnuplot.
int all_well() { return std::system("command -v gnuplot > /dev/null 2>&1") == 0 ? 0 : 2; }

}  // namespace

TEST_CASE("a sweep leaves records, a table and plots") {
  const ScratchFolder out;
  const Outcome outcome = scaling(sweep(out.path(), "resnet50,vgg16"));
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == all_well());
  const auto records = read_records(out.path() + "/runs.jsonl");
  REQUIRE_OK(records);
  REQUIRE(records->size() == 2 * 3 * 2 * 2);
  REQUIRE(records->front().provenance.contains("cpu"));
  REQUIRE(records->front().provenance.contains("date"));
  const std::string table = text_of(out.path() + "/table.md");
  // ResNet-50 at 2 ranks by ring: 2 x 4 images in 100 + 102e6 / 4e6 ms.
  REQUIRE(
      contains(table, "| resnet50 | ring        |     2 |   2 | 63.7 ± 0.00 |    2 | 1.59 | 0.80"));
  REQUIRE(contains(table, "# Scaling, measured"));
  if (all_well() != 0) return;
  for (const char* name : {"overview", "ring", "sync-ps"}) {
    const std::string stem = out.path() + "/plots/" + name;
    REQUIRE(text_of(stem + ".png").substr(1, 3) == "PNG");
    REQUIRE(contains(text_of(stem + ".svg"), "</svg>"));
  }
}

TEST_CASE("replay at an accelerator's pace is labelled emulated everywhere") {
  const ScratchFolder out;
  const Outcome outcome = scaling(
      "--program " DIST_FAKE_TRAINER " --backend replay --replay-step-ms-file " DIST_CLUSTERS
      "/k80.json --models vgg16 --strategies ring --ranks 1,4 --repeats 1 --independent "
      "first --out " +
      out.path());
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == all_well());
  REQUIRE(contains(text_of(out.path() + "/table.md"), "# Scaling, emulated"));
  REQUIRE(contains(text_of(out.path() + "/table.md"), "K80 (assumed)"));
  REQUIRE(contains(text_of(out.path() + "/plots/ring.gp"), "EMULATED"));
  REQUIRE(read_records(out.path() + "/runs.jsonl")->size() == 3);
}

TEST_CASE("failed runs are told and do not lose the others") {
  const ScratchFolder out;
  const Outcome outcome = scaling(sweep(out.path(), "broken,mute,resnet50"));
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 1);
  REQUIRE(contains(outcome.output, "this model always fails"));
  REQUIRE(contains(outcome.output, "broken-ring-n2-r1: exit code 3"));
  REQUIRE(read_records(out.path() + "/runs.jsonl")->size() == 3 * 2 * 2);
  REQUIRE(contains(text_of(out.path() + "/table.md"), "mute-sync-ps-n1-r0"));
}

TEST_CASE("a run that hangs is ended") {
  const ScratchFolder out;
  const Outcome outcome =
      scaling("--program " DIST_FAKE_TRAINER
              " --models slow --strategies none --ranks 1 --repeats 1 --run-timeout 1 --out " +
              out.path());
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 1);
  REQUIRE(contains(outcome.output, "ended after 1 s"));
}

TEST_CASE("an interrupted sweep says so and ends its run") {
  const ScratchFolder out;
  const Outcome outcome = scaling("--program " DIST_FAKE_TRAINER
                                  " --models slow --strategies none --ranks 1 --repeats 1 --out " +
                                      out.path(),
                                  "timeout --preserve-status --signal INT 1");
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 130);
  REQUIRE(contains(outcome.output, "ended by Interrupt"));
}

TEST_CASE("an earlier result is kept aside, and can be drawn again") {
  const ScratchFolder out;
  REQUIRE(scaling(sweep(out.path(), "resnet50")).exit_code == all_well());
  const std::string first = text_of(out.path() + "/runs.jsonl");
  REQUIRE(scaling(sweep(out.path(), "vgg16")).exit_code == all_well());
  REQUIRE(text_of(out.path() + "/runs.previous.jsonl") == first);
  fs::remove(out.path() + "/table.md");
  REQUIRE(scaling("--plot-only " + out.path()).exit_code == all_well());
  REQUIRE(contains(text_of(out.path() + "/table.md"), "| vgg16"));
}

TEST_CASE("without gnuplot the table is written and the exit code says that plots are missing") {
  const ScratchFolder out;
  REQUIRE(scaling(sweep(out.path(), "resnet50")).exit_code == all_well());
  fs::remove_all(out.path() + "/plots");
  fs::remove(out.path() + "/table.md");
  const Outcome outcome = scaling("--plot-only " + out.path(), "/usr/bin/env PATH=/nowhere");
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 2);
  REQUIRE(contains(outcome.output, "install gnuplot-nox"));
  REQUIRE(fs::exists(out.path() + "/table.md"));
  REQUIRE(fs::exists(out.path() + "/plots/ring.dat"));
}

TEST_CASE("wrong arguments end with 1 and one clear message before anything runs") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"--out /tmp/x --ranks 0", "--ranks"},
      {"--out /tmp/x --ranks two", "--ranks"},
      {"--out /tmp/x --batch -4", "--batch"},
      {"--out /tmp/x --launcher srun", "--launcher"},
      {"--out /tmp/x --no-such-option", "--no-such-option"},
      {"--out /tmp/x --program /nowhere/train_cnn", "/nowhere/train_cnn"},
      {"--out /proc/nowhere --program " DIST_FAKE_TRAINER, "/proc/nowhere"},
      {"--out /tmp/x --program " DIST_FAKE_TRAINER
       " --backend replay --replay-step-ms-file /nowhere.json",
       "/nowhere.json"},
      {"--plot-only /nowhere", "/nowhere/runs.jsonl"},
      {"", "--out"}};
  for (const auto& [arguments, name] : cases) {
    const Outcome outcome = scaling(arguments);
    INFO(arguments << "\n" << outcome.output);
    REQUIRE(outcome.exit_code == 1);
    REQUIRE(contains(outcome.output, name));
  }
  REQUIRE(scaling("--help").exit_code == 0);
}
