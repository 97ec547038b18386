// SPDX-License-Identifier: Apache-2.0
// Writes what plot_script.cpp says and lets gnuplot draw it.
#include "bench/plot.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "bench/process.h"

namespace dist::bench {
namespace {

constexpr std::chrono::seconds kDrawTimeout{120};
constexpr const char* kFont = "DejaVu Sans,11";

}  // namespace

Status write_plot_file(const std::string& directory, const PlotFile& plot) {
  const std::string path = std::filesystem::path(directory) / plot.name;
  std::ofstream file(path, std::ios::trunc);
  file << plot.text;
  file.flush();
  if (file) return {};
  return Status::resource(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
}

// A script names its data relative to its own folder, so that it can be run again by hand there.
Status draw_page(const std::string& directory, const PlotFile& page, int width, int height) {
  const std::string stem = page.name.substr(0, page.name.rfind('.'));
  // Absolute: gnuplot goes there before it reads the script.
  const std::string folder = std::filesystem::current_path() / directory;
  const std::vector<std::pair<std::string, std::string>> forms = {
      {"png", fmt::format("set terminal pngcairo size {},{} font '{}' linewidth 1.2", width, height,
                          kFont)},
      {"svg", fmt::format("set terminal svg size {},{} dynamic font '{}' background 'white'", width,
                          height, kFont)}};
  for (const auto& [suffix, terminal] : forms) {
    const std::string commands =
        fmt::format("cd '{}'; {}; set output '{}.{}'", folder, terminal, stem, suffix);
    const std::string log = fmt::format("{}/{}-gnuplot.log", folder, stem);
    const auto result = run_process({"gnuplot", "-e", commands, folder + "/" + page.name}, log,
                                    kDrawTimeout, nullptr);
    if (result.exit_code == 127) {
      return Status::unavailable(
          "there is no gnuplot: install gnuplot-nox, then draw again (scaling --plot-only)");
    }
    if (result.exit_code != 0) {
      return Status::resource(fmt::format("gnuplot failed with exit code {} on {}/{}: {}",
                                          result.exit_code, folder, page.name,
                                          tail_of(log, 5, "")));
    }
    std::filesystem::remove(log);
  }
  return {};
}

Status write_plots(const Summary& summary, const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return Status::resource(fmt::format("cannot make {}: {}", directory, error.message()));
  }
  if (summary.strategies.empty()) {
    return Status::invalid_argument("only independent runs succeeded: there is nothing to plot");
  }
  const PlotFile overview = overview_page(summary);
  for (const std::string& strategy : summary.strategies) {
    DIST_TRY(write_plot_file(directory, plot_data(summary, strategy)));
    DIST_TRY(write_plot_file(directory, strategy_page(summary, strategy)));
  }
  DIST_TRY(write_plot_file(directory, overview));
  for (const std::string& strategy : summary.strategies) {
    DIST_TRY(draw_page(directory, strategy_page(summary, strategy), 1300, 600));
  }
  const int columns = static_cast<int>(summary.strategies.size());
  return draw_page(directory, overview, columns * 560 + 60, 980);
}

}  // namespace dist::bench
