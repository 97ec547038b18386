// SPDX-License-Identifier: Apache-2.0
// The text of data files and gnuplot scripts. Nothing is written or started here.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bench/plot.h"
#include "bench/table.h"

namespace dist::bench {
namespace {

// Okabe and Ito: told apart with any colour vision; the shapes of points differ as well.
constexpr std::array<const char*, 6> kColours = {"#0072B2", "#D55E00", "#009E73",
                                                 "#CC79A7", "#E69F00", "#56B4E9"};
constexpr std::array<int, 6> kPoints = {7, 5, 9, 11, 13, 2};
constexpr double kGroupWidth = 0.8;
constexpr std::size_t kMostLabelledBars = 10;

// Columns of a data file: place, workers, then five a model.
constexpr std::size_t kFirstColumn = 3;
constexpr std::size_t kColumnsPerModel = 5;
enum Offset : std::size_t { kRate, kRateError, kSpeedup, kSpeedupError, kIndependentSpeedup };

std::size_t column(std::size_t model, Offset offset) {
  return kFirstColumn + model * kColumnsPerModel + offset;
}

std::string number(double value) { return fmt::format("{:.6g}", value); }

// gnuplot's enhanced text gives these characters a meaning.
std::string plain_text(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '_' || c == '^' || c == '{' || c == '}' || c == '@' || c == '&' || c == '~') {
      escaped += "\\\\";
    }
    escaped += c == '"' ? '\'' : c;
  }
  return escaped;
}

std::string model_title(const std::string& model) {
  if (model.rfind("vgg", 0) == 0) return "VGG" + model.substr(3);
  if (model.rfind("resnet", 0) == 0) return "ResNet-" + model.substr(6);
  if (model == "inception_v4") return "Inception-v4";
  return plain_text(model);
}

std::string strategy_title(const std::string& strategy) {
  if (strategy == "ring") return "Ring all-reduce";
  if (strategy == "sync-ps") return "Synchronous parameter server";
  if (strategy == "async-ps") return "Asynchronous parameter server";
  return strategy;
}

double most_images_per_second(const Summary& summary, const std::string& strategy) {
  double most = 0;
  for (const auto& [key, cell] : summary.cells) {
    if (std::get<1>(key) == strategy) {
      most = std::max(most, cell.images_per_second + cell.images_per_second_se);
    }
  }
  return most;
}

int most_workers(const Summary& summary) {
  int most = 1;
  for (const auto& [key, cell] : summary.cells) most = std::max(most, cell.workers);
  return most;
}

// Whether the machine's own limit was measured beyond one rank, so that it can be drawn.
bool has_independent_line(const Summary& summary, const std::string& model) {
  return std::any_of(summary.ranks.begin(), summary.ranks.end(), [&](int ranks) {
    return ranks > 1 && summary.find(model, kIndependent, ranks) != nullptr;
  });
}

std::string common_settings() {
  return R"(set encoding utf8
set datafile missing "NaN"
set border 3 lw 1.2 lc rgb "#444444"
set tics nomirror out scale 0.5 textcolor rgb "#222222"
set grid ytics lc rgb "#dddddd" lw 1 lt 1
set style fill solid 0.9 noborder
set key top left Left reverse samplen 1.6 spacing 1.15 width 1
set errorbars small
)";
}

std::string worker_tics(const Summary& summary, const std::string& strategy) {
  std::string tics;
  for (std::size_t i = 0; i < summary.ranks.size(); ++i) {
    int workers = summary.ranks[i];
    for (const std::string& model : summary.models) {
      const Cell* cell = summary.find(model, strategy, summary.ranks[i]);
      if (cell != nullptr) workers = cell->workers;
    }
    tics += fmt::format("{}\"{}\" {}", i > 0 ? ", " : "", workers, i);
  }
  return tics;
}

// The bars of one strategy; `highest` is the top of the axis, so that panels can share it.
std::string bars(const Summary& summary, const std::string& strategy, double highest) {
  const std::size_t models = summary.models.size();
  const double width = kGroupWidth / static_cast<double>(models);
  std::string text = fmt::format(
      "set xlabel \"workers\"\nset ylabel \"images/s\"\nset xtics ({})\nset ytics auto\n"
      "set xrange [-0.6:{}]\nset yrange [0:{}]\nset boxwidth {} absolute\nplot ",
      worker_tics(summary, strategy), static_cast<double>(summary.ranks.size()) - 0.4,
      number(highest * 1.12), number(width * 0.94));
  const bool labelled = models * summary.ranks.size() <= kMostLabelledBars;
  for (std::size_t m = 0; m < models; ++m) {
    const double shift = (static_cast<double>(m) + 0.5) * width - kGroupWidth / 2;
    const std::string x = fmt::format("($1{:+.4f})", shift);
    const std::string file = strategy + ".dat";
    text += fmt::format("{}'{}' using {}:{} with boxes lc rgb '{}' title \"{}\"",
                        m > 0 ? ", \\\n  " : "", file, x, column(m, kRate),
                        kColours[m % kColours.size()], model_title(summary.models[m]));
    text += fmt::format(
        ", \\\n  '{0}' using {1}:(${2}-${3}):(0):(2*${3}) with vectors nohead lw 1.6 lc rgb "
        "'#222222' notitle",
        file, x, column(m, kRate), column(m, kRateError));
    if (labelled) {
      text += fmt::format(
          ", \\\n  '{0}' using {1}:(${2}+${3}):(sprintf(${2}>=100 ? '%.0f' : '%.1f', ${2})) with "
          "labels offset 0,0.6 font ',10' tc rgb '#222222' notitle",
          file, x, column(m, kRate), column(m, kRateError));
    }
  }
  return text + "\n";
}

// The speed-up lines of one strategy with the ideal line.
std::string lines(const Summary& summary, const std::string& strategy) {
  const int most = most_workers(summary);
  std::string text = fmt::format(
      "set xlabel \"workers\"\nset ylabel \"speed-up against one independent worker\"\n"
      "set xtics {0}\nset ytics {2}\nset xrange [0:{1}]\nset yrange [0:{1}]\n"
      "plot x with lines dt (8,6) lw 1.8 lc rgb '#555555' title \"ideal: S(N) = N\"",
      most > 8 ? 2 : 1, number(most * 1.05),
      most > 8   ? 2
      : most > 3 ? 1
                 : 0.5);
  for (std::size_t m = 0; m < summary.models.size(); ++m) {
    const char* colour = kColours[m % kColours.size()];
    const std::string model = model_title(summary.models[m]);
    text += fmt::format(
        ", \\\n  '{}.dat' using 2:{}:{} with yerrorlines pt {} ps 1.1 lw 2 lc rgb '{}' title "
        "\"{}\"",
        strategy, column(m, kSpeedup), column(m, kSpeedupError), kPoints[m % kPoints.size()],
        colour, model);
    if (!has_independent_line(summary, summary.models[m])) continue;
    text += fmt::format(
        ", \\\n  '{}.dat' using 2:{} with lines dt (2,4) lw 2 lc rgb '{}' title \"{} independent "
        "(no "
        "exchange)\"",
        strategy, column(m, kIndependentSpeedup), colour, model);
  }
  return text + "\n";
}

std::string page_labels(const Summary& summary, double title_y) {
  return fmt::format(
      "set label 1 \"{}\" at screen 0.5,{} center font ',11' tc rgb '#444444'\n"
      "set label 2 \"{}\" at screen 0.5,0.018 center font ',9' tc rgb '#777777'\n",
      plain_text(describe_kind(summary)), title_y,
      plain_text(describe_machine(summary.provenance)));
}

}  // namespace

PlotFile plot_data(const Summary& summary, const std::string& strategy) {
  std::string text = fmt::format("# {}\n# place workers", describe_kind(summary));
  for (const std::string& model : summary.models) {
    text += fmt::format(
        "  {0}:images_per_second {0}:standard_error {0}:speedup {0}:speedup_error "
        "{0}:independent_speedup",
        model);
  }
  text += '\n';
  for (std::size_t i = 0; i < summary.ranks.size(); ++i) {
    const int ranks = summary.ranks[i];
    std::string values;
    int workers = ranks;
    for (const std::string& model : summary.models) {
      const Cell* cell = summary.find(model, strategy, ranks);
      if (cell != nullptr) workers = cell->workers;
      const Cell* alone = summary.find(model, kIndependent, workers);
      const bool compared = cell != nullptr && cell->speedup;
      values += fmt::format("  {} {} {} {} {}", cell ? number(cell->images_per_second) : "NaN",
                            cell ? number(cell->images_per_second_se) : "NaN",
                            compared ? number(*cell->speedup) : "NaN",
                            compared ? number(cell->speedup_se) : "NaN",
                            alone && alone->speedup ? number(*alone->speedup) : "NaN");
    }
    text += fmt::format("{} {}{}\n", i, workers, values);
  }
  return {strategy + ".dat", text};
}

PlotFile strategy_page(const Summary& summary, const std::string& strategy) {
  std::string text = common_settings() + page_labels(summary, 0.915);
  text += fmt::format(
      "set multiplot layout 1,2 title \"{} ({})\" font ',16' offset 0,0 margins "
      "0.065,0.985,0.15,0.86 spacing 0.075,0.1\n",
      plain_text(strategy_title(strategy)), summary.kind);
  text += bars(summary, strategy, most_images_per_second(summary, strategy));
  text += "unset label 1\nunset label 2\nset grid xtics ytics\n";
  text += lines(summary, strategy) + "unset multiplot\n";
  return {strategy + ".gp", text};
}

PlotFile overview_page(const Summary& summary) {
  double highest = 0;
  for (const std::string& strategy : summary.strategies) {
    highest = std::max(highest, most_images_per_second(summary, strategy));
  }
  std::string text = common_settings() + page_labels(summary, 0.945);
  text += fmt::format(
      "set multiplot layout 2,{} title \"Three ways to train on N workers ({})\" font ',16' "
      "margins 0.05,0.985,0.09,0.89 spacing 0.055,0.12\n",
      summary.strategies.size(), summary.kind);
  for (const std::string& strategy : summary.strategies) {
    text += fmt::format("set title \"{}\" font ',13' offset 0,-0.6\n",
                        plain_text(strategy_title(strategy)));
    text += bars(summary, strategy, highest) + "unset label 1\nunset label 2\n";
  }
  text += "unset title\nset grid xtics ytics\n";
  for (const std::string& strategy : summary.strategies) text += lines(summary, strategy);
  return {"overview.gp", text + "unset multiplot\n"};
}

}  // namespace dist::bench
