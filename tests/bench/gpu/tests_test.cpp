// SPDX-License-Identifier: Apache-2.0
// The files that CTest 3.25 writes; gpu_check_test.cpp reads those of the real one.
#include "bench/gpu/tests.h"

#include "tests/support/catch.h"

namespace dist::bench::gpu {

TEST_CASE("JUnit: passed, failed and skipped cases with their times") {
  const auto cases = parse_junit(R"(<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="Linux" tests="3" failures="1" disabled="0" skipped="1" hostname="" time="2">
	<testcase name="one" classname="one" time="0.25" status="run"><system-out>&gt; x</system-out></testcase>
	<testcase name="two" classname="two" time="1.5" status="fail"><failure message=""/></testcase>
	<testcase name="three" classname="three" time="0" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
</testsuite>)");
  REQUIRE_OK(cases);
  REQUIRE(cases->size() == 3);
  CHECK((*cases)[0].name == "one");
  CHECK((*cases)[0].status == "run");
  CHECK((*cases)[0].seconds == 0.25);
  CHECK((*cases)[1].status == "fail");
  CHECK((*cases)[2].status == "notrun");
}

TEST_CASE("JUnit: no cases are none, something else is an error") {
  CHECK(parse_junit("<testsuite name=\"Linux\" tests=\"0\">\n</testsuite>")->empty());
  CHECK_FALSE(parse_junit("").ok());
  CHECK_FALSE(parse_junit("<testsuite><testcase time=\"1\"></testsuite>").ok());
}

TEST_CASE("the log: which tests were ended at a deadline") {
  const std::string log =
      "    Start 1: slow\n"
      "1/3 Test #3: slower_not ............***Failed    0.00 sec\n"
      "2/3 Test #1: slow ..................***Timeout   4.21 sec\n"
      "3/3 Test #2: quick .................   Passed    0.02 sec\n";
  CHECK(ended_by_deadline(log, "slow"));
  CHECK_FALSE(ended_by_deadline(log, "slower_not"));
  CHECK_FALSE(ended_by_deadline(log, "quick"));
  CHECK_FALSE(ended_by_deadline(log, "low"));
  CHECK_FALSE(ended_by_deadline("", "slow"));
}

TEST_CASE("the list of tests: names and command lines") {
  const auto list = parse_test_list(
      R"({"kind": "ctestInfo", "tests": [{"name": "a", "command": ["/bin/a", "-x"]}, {"name": "not built"}]})");
  REQUIRE_OK(list);
  REQUIRE(list->size() == 1);
  CHECK((*list)[0].name == "a");
  CHECK((*list)[0].argv == std::vector<std::string>{"/bin/a", "-x"});
  CHECK_FALSE(parse_test_list("nothing").ok());
  CHECK_FALSE(parse_test_list("{}").ok());
}

}  // namespace dist::bench::gpu
