// SPDX-License-Identifier: Apache-2.0
// Carries a plan out: one child after the other, each with a deadline.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "bench/gpu/command.h"
#include "bench/gpu/outcome.h"
#include "bench/gpu/plan.h"
#include "bench/gpu/tests.h"
#include "bench/process.h"
#include "libdist/status.h"

namespace dist::bench::gpu {

class Check {
 public:
  /// Records go to OUT/SECTION.jsonl, everything that children print to BUILD/gpu_check. Both are
  /// made; records of an earlier check are deleted. The clock starts here.
  static Result<Check> open(Tools tools, std::string out, nlohmann::json provenance);

  /// Facts of a model. Error: the trainer does not know it.
  Result<ModelFacts> describe(const std::string& model);

  /// Runs a section to its end or to its moment; prints a line a run.
  void run(const Section& section);

  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  int interrupted_by() const { return interrupted_by_; }

 private:
  Check() = default;
  double now_s() const;
  void run_tests(const Section& section);
  Outcome test_outcome(const Section& section, const TestCase& test, const std::string& log) const;
  Result<std::vector<TestCommand>> list_tests();
  void run_sanitizer(const Section& section);
  void run_one(const Run& run, const Section& section);
  Status collect(Outcome* outcome, const ProcessResult& result, const Decision& decision);
  ProcessResult start(const std::vector<std::string>& command, const std::string& name,
                      int timeout_s);
  bool peer_is_there(const Section& section);
  void keep(Outcome outcome);
  std::string log_path(const std::string& name, const char* suffix) const;

  Tools tools_;
  std::string out_;
  std::string logs_;
  nlohmann::json provenance_;
  std::chrono::steady_clock::time_point begin_;
  std::vector<Outcome> outcomes_;
  int interrupted_by_ = 0;
};

}  // namespace dist::bench::gpu
