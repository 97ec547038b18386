// SPDX-License-Identifier: Apache-2.0
// The program ps_convergence: a short run of every kind, and [.slow] what bounded staleness costs.
#include <filesystem>
#include <string>
#include <vector>

#include "tests/bench/program.h"
#include "tests/support/catch.h"

namespace {

using dist::test::run;

const std::string kBench = DIST_PS_CONVERGENCE;
const std::string kDistrun = DIST_DISTRUN;

std::vector<nlohmann::json> records_of(int ranks, const std::string& arguments) {
  return dist::test::records_of(kDistrun + " -n " + std::to_string(ranks) + " -- " + kBench,
                                arguments);
}

TEST_CASE("a record a policy and seed, and one a policy") {
  const dist::test::ScratchFolder folder;
  const auto records =
      records_of(3,
                 "--steps 6 --seeds 2 --batch 2 --image 16 --window 4 --marks 3,0.0001 "
                 "--policies sync,bounded:1+rate,async+push:f16+dc:0.1,ring --plots " +
                     folder.path());
  REQUIRE(records.size() == 12);
  for (std::size_t i = 0; i < records.size(); ++i) {
    INFO(records[i].dump());
    CHECK(records[i]["record"] == (i < 8 ? "ps_convergence" : "ps_convergence_grade"));
    CHECK(records[i]["kind"] == "measured");
    CHECK(records[i]["workers"] == 3);
    CHECK(records[i]["learning_rate"].get<double>() > 0);
  }
  const auto& grade = records.back();
  CHECK(grade["policy"] == "ring");
  CHECK(grade["samples"] == 36);
  CHECK(grade["seeds"] == 2);
  CHECK(grade["marks"][0]["samples_ratio"] == 1);
  CHECK(grade["marks"][1]["samples_ratio"].is_null());
  CHECK(grade["provenance"]["cores"].get<int>() > 0);
  CHECK(std::filesystem::exists(folder.path("policies.gp")));
}

TEST_CASE("bad arguments are refused") {
  CHECK(run(kBench + " --policies nonsense") == 1);
  CHECK(run(kBench + " --steps 0") == 1);
  CHECK(run(kBench + " --steps 3 --seeds 1 --policies sync") == 1);  // less than a window
  CHECK(run(kBench + " --help") == 0);
}

// bench/README.md says how the samples are counted, and why this learning rate.
TEST_CASE("bounded(4) reaches the losses of sync within 1.1 of its samples, 4 workers", "[.slow]") {
  const auto records =
      records_of(4, "--policies sync,bounded:4 --seeds 8 --compute-ms 12 --marks 1,0.5,0.1");
  REQUIRE(records.size() == 18);
  const auto& sync = records[16];
  const auto& bounded = records[17];
  REQUIRE(bounded["policy"] == "bounded:4");
  CHECK(bounded["learning_rate"].get<double>() == sync["learning_rate"].get<double>() / 4);
  CHECK(bounded["staleness_mean"].get<double>() > 1);  // it was asynchronous
  for (std::size_t mark = 0; mark < 3; ++mark) {
    INFO(bounded["marks"][mark].dump());
    REQUIRE(bounded["marks"][mark]["samples_ratio"].is_number());
    CHECK(bounded["marks"][mark]["samples_ratio"].get<double>() <= 1.1);
  }
  CHECK(sync["accuracy"].get<double>() > 0.99);
  CHECK(bounded["accuracy"].get<double>() > 0.99);
}

}  // namespace
