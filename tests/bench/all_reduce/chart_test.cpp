// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/chart.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

std::vector<Measurement> some() {
  std::vector<Measurement> out;
  for (const char* library : {"libdist", "openmpi", "limit"}) {
    for (const std::uint64_t bytes : {4096, 65536}) {
      for (const bool touched : {false, true}) {
        Measurement m;
        m.spec.library = library;
        m.spec.algorithm = library == std::string("limit") ? "sweep" : "default";
        m.spec.contest = "shm";
        m.bytes = bytes;
        m.touched = touched;
        m.time_us_median = 4.096;
        out.push_back(m);
      }
    }
  }
  return out;
}

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("a page a mode: one block a contestant, bytes and 10^9 bytes/s") {
  const auto pages = bandwidth_pages(some());
  REQUIRE(pages.size() == 4);
  REQUIRE(pages[0].name == "shm-2ranks-untouched.dat");
  REQUIRE(pages[1].name == "shm-2ranks-untouched.gp");
  REQUIRE(pages[2].name == "shm-2ranks-touched.dat");
  REQUIRE(pages[0].text.rfind("# libdist, private\n4096 1\n65536 16\n\n\n# openmpi\n", 0) == 0);
  REQUIRE(contains(pages[1].text, "\"4 KiB\" 4096, \"64 KiB\" 65536"));
  REQUIRE(contains(pages[1].text, "index 1 using 1:2"));
  REQUIRE(contains(pages[1].text, "dt 2 pt 1 title \"limit: sweep\""));
}

TEST_CASE("failed and copied rows are not drawn") {
  auto all = some();
  for (Measurement& each : all) {
    if (each.spec.library == "openmpi") each.failure = "gone";
    if (each.spec.library == "limit") each.spec.algorithm = "memcpy";
  }
  for (const PlotFile& page : bandwidth_pages(all)) {
    REQUIRE_FALSE(contains(page.text, "openmpi"));
    REQUIRE_FALSE(contains(page.text, "memcpy"));
  }
}

TEST_CASE("gnuplot draws the pages") {
  if (std::system("command -v gnuplot > /dev/null 2>&1") != 0) {
    dist::test::skip("there is no gnuplot (install gnuplot-nox)");
  }
  std::string directory = std::filesystem::temp_directory_path() / "dist-chart-XXXXXX";
  REQUIRE(mkdtemp(directory.data()) != nullptr);
  REQUIRE_OK(write_bandwidth_plots(some(), directory));
  for (const char* name : {"shm-2ranks-untouched.png", "shm-2ranks-touched.svg"}) {
    REQUIRE(std::filesystem::file_size(directory + "/" + name) > 1000);
  }
  std::filesystem::remove_all(directory);
}
