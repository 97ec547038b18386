// SPDX-License-Identifier: Apache-2.0
// What every table says is checked in gpu_check_test.cpp; here what decides the exit code, and what
// is said where something is missing.
#include "bench/gpu/report.h"

#include "tests/bench/gpu/facts.h"
#include "tests/support/catch.h"

namespace dist::bench::gpu {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Findings findings() {
  Findings f;
  f.device = "NVIDIA H200";
  f.models = {test::small_model("resnet50")};
  f.sections = {{"ranks", 10, true, {}}, {"throughput", 20, false, {}}};
  f.outcomes = {test::rated("throughput", "resnet50", "f16", 7000)};
  f.provenance = {{"cpu", "one"}, {"cores", 16}};
  return f;
}

Outcome with_state(const std::string& section, State state) {
  Outcome outcome = test::rated(section, "resnet50", "f16", 1);
  outcome.state = state;
  outcome.reason = "because";
  return outcome;
}

}  // namespace

TEST_CASE("failures: what failed, and what must finish and did not") {
  Findings f = findings();
  CHECK(failures_of(f, false).empty());
  f.outcomes.push_back(with_state("throughput", State::cut));
  f.outcomes.push_back(with_state("throughput", State::skipped));
  CHECK(failures_of(f, false).empty());
  f.outcomes.push_back(with_state("throughput", State::failed));
  CHECK(failures_of(f, false).size() == 1);
  f.outcomes.push_back(with_state("ranks", State::cut));
  CHECK(failures_of(f, false).size() == 2);
  f.outcomes.push_back(with_state("ranks", State::skipped));
  CHECK(failures_of(f, false).size() == 2);
  f.failures.emplace_back("runs differ");
  CHECK(failures_of(f, false).size() == 3);
}

TEST_CASE("goals that are not met fail when they are asked for") {
  const Findings f = findings();
  // All but the images a second.
  CHECK(failures_of(f, true).size() == goals(f.outcomes, f.models, f.device).size() - 1);
}

TEST_CASE("what is not ok is told with its reason, what was not run has no table") {
  Findings f = findings();
  const std::string calm = format_report(f);
  CHECK_FALSE(contains(calm, "Not ok"));
  CHECK_FALSE(contains(calm, "Beside PyTorch"));
  CHECK_FALSE(contains(calm, "Several ranks"));
  CHECK_FALSE(contains(calm, "measured by a copy"));
  CHECK(contains(calm, "- cores: 16"));
  f.outcomes.push_back(with_state("throughput", State::cut));
  f.copy_gb_per_s = 4000;
  const std::string text = format_report(f);
  CHECK(contains(text, "- throughput / throughput-resnet50: cut: because"));
  CHECK(contains(text, "4000 measured by a copy"));
}

TEST_CASE("an unknown device has rates and no fractions") {
  Findings f = findings();
  CHECK(contains(format_report(f), "data sheet, H200"));
  f.device = "NVIDIA GeForce RTX 3090";
  const std::string text = format_report(f);
  CHECK(contains(text, "are not in the table: no fractions"));
  CHECK(contains(text, "| resnet50 | f16       | 256   | 7000     | 36.57   | -"));
}

}  // namespace dist::bench::gpu
