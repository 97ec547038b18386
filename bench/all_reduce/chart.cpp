// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include "bench/all_reduce/options.h"

namespace dist::bench {
namespace {

constexpr int kWidth = 1000;
constexpr int kHeight = 640;

// Okabe and Ito: told apart with any colour vision; limits are dashed grey.
constexpr std::array<const char*, 7> kColours = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                                 "#E69F00", "#56B4E9", "#000000"};

struct Series {
  std::string name;
  bool limit = false;
  std::map<std::uint64_t, double> bandwidth;  // bytes -> bytes/s
};

using Pages = std::vector<std::pair<const Measurement*, std::vector<Series>>>;

bool same_page(const Measurement& a, const Measurement& b) {
  return a.spec.contest == b.spec.contest && a.spec.ranks == b.spec.ranks && a.touched == b.touched;
}

Pages sort_into_pages(const std::vector<Measurement>& measurements) {
  Pages pages;
  for (const Measurement& each : measurements) {
    if (!each.failure.empty() || each.spec.algorithm == "memcpy" ||
        each.spec.algorithm == "stream") {
      continue;
    }
    auto page = std::find_if(pages.begin(), pages.end(),
                             [&](const auto& other) { return same_page(*other.first, each); });
    if (page == pages.end()) page = pages.insert(pages.end(), {&each, {}});
    auto& all = page->second;
    const std::string name = each.spec.name();
    auto series =
        std::find_if(all.begin(), all.end(), [&](const Series& s) { return s.name == name; });
    if (series == all.end()) {
      series = all.insert(all.end(), {name, each.spec.library == "limit", {}});
    }
    series->bandwidth[each.bytes] = bus_bandwidth(each);
  }
  return pages;
}

std::string page_name(const Measurement& m) {
  return fmt::format("{}-{}ranks-{}", m.spec.contest, m.spec.ranks,
                     m.touched ? "touched" : "untouched");
}

// One gnuplot index a series: bytes and 10^9 bytes/s.
std::string data_of(const std::vector<Series>& all) {
  std::string text;
  for (const Series& series : all) {
    text += fmt::format("# {}\n", series.name);
    for (const auto& [bytes, bandwidth] : series.bandwidth) {
      text += fmt::format("{} {:.6g}\n", bytes, bandwidth / 1e9);
    }
    text += "\n\n";
  }
  return text;
}

std::string tics_of(const std::vector<Series>& all) {
  std::map<std::uint64_t, bool> sizes;
  for (const Series& series : all) {
    for (const auto& [bytes, bandwidth] : series.bandwidth) sizes[bytes] = true;
  }
  std::string tics;
  for (const auto& [bytes, there] : sizes) {
    tics += fmt::format("{}\"{}\" {}", tics.empty() ? "" : ", ", size_text(bytes), bytes);
  }
  return tics;
}

std::string script_of(const Measurement& page, const std::vector<Series>& all) {
  std::string text = fmt::format(
      "set title \"all-reduce, {}, {} ranks, {}\"\n"
      "set encoding utf8\nset border 3 lw 1.2 lc rgb \"#444444\"\nset tics nomirror\n"
      "set grid ytics lc rgb \"#dddddd\" lw 1 lt 1\nset key outside right noenhanced\n"
      "set logscale xy\nset xlabel \"bytes of each rank's buffer\"\n"
      "set ylabel \"bus bandwidth, 10^9 bytes/s\"\nset xtics ({}) rotate by -40\n"
      "set offsets graph 0.04, graph 0.04\nplot ",
      page.spec.contest, page.spec.ranks, page.touched ? "touched" : "untouched", tics_of(all));
  std::size_t colour = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string style =
        all[i].limit
            ? std::string("lc rgb '#888888' dt 2 pt 1")
            : fmt::format("lc rgb '{}' pt {}", kColours[colour % kColours.size()], 5 + 2 * colour);
    if (!all[i].limit) ++colour;
    text += fmt::format("{}'{}.dat' index {} using 1:2 with linespoints lw 2 {} title \"{}\"",
                        i > 0 ? ", \\\n  " : "", page_name(page), i, style, all[i].name);
  }
  return text + "\n";
}

}  // namespace

std::vector<PlotFile> bandwidth_pages(const std::vector<Measurement>& measurements) {
  std::vector<PlotFile> files;
  for (const auto& [first, all] : sort_into_pages(measurements)) {
    files.push_back({page_name(*first) + ".dat", data_of(all)});
    files.push_back({page_name(*first) + ".gp", script_of(*first, all)});
  }
  return files;
}

Status write_bandwidth_plots(const std::vector<Measurement>& measurements,
                             const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return Status::resource(fmt::format("cannot make {}: {}", directory, error.message()));
  }
  const auto files = bandwidth_pages(measurements);
  for (const PlotFile& file : files) DIST_TRY(write_plot_file(directory, file));
  for (std::size_t i = 1; i < files.size(); i += 2) {
    DIST_TRY(draw_page(directory, files[i], kWidth, kHeight));
  }
  return {};
}

}  // namespace dist::bench
