// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/report_card.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace dist::bench;
using dist::test::Approx;

namespace {

// A loss that falls from 2 by `pace` a step of 8 samples and 0.1 s.
Term term(const char* variant, std::uint64_t seed, double pace) {
  Term made{variant, seed, {}, {}};
  made.schooling.workers = 4;
  made.schooling.learning_rate = 0.01;
  made.schooling.bytes_sent = 1000 * pace;
  made.schooling.staleness_max = static_cast<double>(seed);
  for (int i = 1; i <= 40; ++i) {
    made.curve.push_back({8.0 * i, 0.1 * i, 2 - pace * i, 0.02 * i});
  }
  return made;
}

std::vector<Term> terms() {
  return {term("sync", 1, 0.05), term("async", 1, 0.025), term("sync", 2, 0.05),
          term("async", 2, 0.025)};
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("variants in their order, against the first") {
  const auto grades = grade(terms(), {1.51, 0.51});
  REQUIRE(grades.size() == 2);
  CHECK(grades[0].variant == "sync");
  CHECK(grades[1].variant == "async");
  REQUIRE(grades[1].marks.size() == 2);
  CHECK(grades[0].marks[0].samples.value() == 80);
  CHECK(grades[1].marks[0].samples.value() == 160);
  CHECK(grades[1].marks[0].samples_ratio.value() == 2);
  CHECK(grades[1].marks[0].seconds_ratio.value() == Approx(2));
  CHECK(grades[1].marks[0].samples_ratio_error == 0);
  CHECK(grades[0].marks[1].samples_ratio.value() == 1);
  CHECK_FALSE(grades[1].marks[1].samples_ratio.has_value());  // it ends at 1
  CHECK(grades[1].loss == Approx(1));
  CHECK(grades[1].bytes == Approx(0.5));
  CHECK(grades[1].mean.staleness_max == 2);
}

TEST_CASE("the error is that of the seeds' own ratios") {
  const std::vector<Term> uneven = {term("sync", 1, 0.05), term("sync", 2, 0.05),
                                    term("async", 1, 0.05), term("async", 2, 0.025)};
  const auto grades = grade(uneven, {1.51});
  CHECK(grades[1].marks[0].samples_ratio_error == Approx(0.5));  // of 1 and 2
  CHECK(grades[0].marks[0].samples_ratio_error == 0);
}

TEST_CASE("table and records") {
  const auto grades = grade(terms(), {1.51, 0.51});
  const auto table = format_grades(grades);
  CHECK(contains(table, "samples to loss 1.51"));
  CHECK(contains(table, "1.00 ± 0.00"));
  const auto record = record_of(grades[1]);
  CHECK(record["record"] == "ps_convergence_grade");
  CHECK(record["policy"] == "async");
  CHECK(record["marks"][0]["samples_ratio"] == 2);
  CHECK(record["marks"][1]["samples"].is_null());
  const auto one = record_of(terms()[0], 10);
  CHECK(one["record"] == "ps_convergence");
  CHECK(one["seed"] == 1);
  CHECK(one["curve"]["loss"].size() == 10);
  CHECK(one["curve"]["samples"].back() == 320);
}

TEST_CASE("a page has four panels, a line a variant") {
  const auto page = learning_page("policies", "4 workers", "s, emulated", grade(terms(), {}));
  REQUIRE(page.size() == 2);
  CHECK(page[0].name == "policies.dat");
  CHECK(page[1].name == "policies.gp");
  CHECK(contains(page[0].text, "# sync\n8 0.1000 1.95000 0.02000\n"));
  CHECK(contains(page[1].text, "'policies.dat' index 1 using 2:4"));
  CHECK(contains(page[1].text, "set xlabel \"s, emulated\""));
  if (std::system("command -v gnuplot > /dev/null 2>&1") != 0) {
    dist::test::skip("there is no gnuplot (install gnuplot-nox)");
  }
  const dist::test::ScratchFolder folder;
  REQUIRE_OK(write_page(folder.path(), page));
  for (const char* name : {"policies.png", "policies.svg"}) {
    CHECK(std::filesystem::file_size(folder.path(name)) > 1000);
  }
}
