// SPDX-License-Identifier: Apache-2.0
#include "bench/plot.h"

#include <filesystem>
#include <sstream>

#include "tests/support/catch.h"
#include "tests/support/scratch.h"

using namespace dist::bench;

namespace {

Record record(const char* model, const char* strategy, int ranks, double rate) {
  Record made;
  made.run = {model, strategy, ranks, 0};
  made.kind = "emulated";
  made.workers = ranks;
  made.images_per_second = rate;
  return made;
}

Summary two_models() {
  return *summarise({record("vgg16", "none", 1, 10), record("inception_v4", "none", 1, 20),
                     record("vgg16", "ring", 1, 10), record("vgg16", "ring", 2, 16),
                     record("inception_v4", "ring", 1, 20), record("vgg16", "sync-ps", 2, 12)});
}

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("data has a line a rank count; what was not run is NaN") {
  const PlotFile data = plot_data(two_models(), "ring");
  REQUIRE(data.name == "ring.dat");
  std::istringstream lines(data.text);
  std::string line;
  std::getline(lines, line);
  REQUIRE(line.rfind("# EMULATED", 0) == 0);
  std::getline(lines, line);
  REQUIRE(line.rfind("# place workers", 0) == 0);
  std::getline(lines, line);
  REQUIRE(line == "0 1  10 0 1 0 1  20 0 1 0 1");
  std::getline(lines, line);
  REQUIRE(line == "1 2  16 0 1.6 0 NaN  NaN NaN NaN NaN NaN");
}

TEST_CASE("a page has bars, lines, the ideal line and says that it is emulated") {
  const PlotFile page = strategy_page(two_models(), "ring");
  REQUIRE(page.name == "ring.gp");
  REQUIRE(count(page.text, "with boxes") == 2);
  REQUIRE(count(page.text, "with yerrorlines") == 2);
  REQUIRE(count(page.text, "ideal: S(N) = N") == 1);
  REQUIRE(count(page.text, "(emulated)") == 1);
  REQUIRE(count(page.text, "EMULATED") == 1);
  REQUIRE(count(page.text, "Inception-v4") == 2);
}

TEST_CASE("the overview has both panels of every strategy") {
  const PlotFile page = overview_page(two_models());
  REQUIRE(count(page.text, "ideal: S(N) = N") == 2);
  REQUIRE(count(page.text, "Ring all-reduce") == 1);
  REQUIRE(count(page.text, "Synchronous parameter server") == 1);
}

TEST_CASE("pages are drawn wherever a path leads, also from here") {
  if (std::system("command -v gnuplot > /dev/null 2>&1") != 0) {
    dist::test::skip("there is no gnuplot (install gnuplot-nox)");
  }
  const dist::test::ScratchFolder scratch;
  const auto home = std::filesystem::current_path();
  std::filesystem::create_directory(scratch.path("plots"));
  const PlotFile data{"line.dat", "0 0\n1 1\n"};
  const PlotFile page{"line.gp", "plot 'line.dat' with lines\n"};
  std::filesystem::current_path(scratch.path());
  const std::vector<std::string> ways = {"", ".", "plots", "plots/", scratch.path()};
  for (const std::string& directory : ways) {
    INFO("'" << directory << "'");
    const auto drawn = std::filesystem::path(directory) / "line.png";
    std::filesystem::remove(drawn);
    REQUIRE_OK(write_plot_file(directory, data));
    REQUIRE_OK(write_plot_file(directory, page));
    REQUIRE_OK(draw_page(directory, page, 600, 400));
    CHECK((std::filesystem::exists(drawn) && std::filesystem::file_size(drawn) > 1000));
  }
  std::filesystem::current_path(home);
}
