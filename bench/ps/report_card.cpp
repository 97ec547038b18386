// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/report_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "bench/statistics.h"
#include "bench/table.h"

namespace dist::bench {
namespace {

constexpr int kWidth = 1300;
constexpr int kHeight = 960;
constexpr std::size_t kPlottedPoints = 150;

// Okabe and Ito: told apart with any colour vision.
constexpr std::array<const char*, 8> kColours = {"#000000", "#0072B2", "#D55E00", "#009E73",
                                                 "#CC79A7", "#E69F00", "#56B4E9", "#888888"};

Grade grade_one(const std::vector<const Term*>& terms) {
  Grade grade;
  grade.variant = terms.front()->variant;
  const auto mean_over = [&](const auto& field) {
    std::vector<double> values(terms.size());
    std::transform(terms.begin(), terms.end(), values.begin(),
                   [&](const Term* term) { return field(*term); });
    return mean(values);
  };
  std::vector<Curve> curves;
  std::vector<double> losses;
  for (const Term* term : terms) {
    curves.push_back(term->curve);
    losses.push_back(term->curve.back().loss);
  }
  grade.curve = mean_of(curves);
  grade.loss = mean(losses);
  grade.loss_error = standard_error(losses);
  grade.accuracy = mean_over([](const Term& t) { return t.curve.back().accuracy; });
  grade.seconds = mean_over([](const Term& t) { return t.curve.back().seconds; });
  Schooling& all = grade.mean;
  all = terms.front()->schooling;
  all.lessons.clear();
  for (double Schooling::*field : {&Schooling::bytes_sent, &Schooling::compression_ms,
                                   &Schooling::dropped, &Schooling::staleness_mean}) {
    all.*field = mean_over([field](const Term& t) { return t.schooling.*field; });
  }
  for (const Term* term : terms) {
    all.staleness_max = std::max(all.staleness_max, term->schooling.staleness_max);
  }
  return grade;
}

std::optional<double> ratio(const std::optional<double>& a, const std::optional<double>& b) {
  return a && b ? std::optional(*a / *b) : std::nullopt;
}

// Seed by seed, since the seed makes the data.
double error_of_ratio(const std::vector<const Term*>& terms,
                      const std::vector<const Term*>& reference, double loss) {
  std::vector<double> ratios;
  for (const Term* term : terms) {
    const auto same = std::find_if(reference.begin(), reference.end(),
                                   [term](const Term* other) { return other->seed == term->seed; });
    if (same == reference.end()) continue;
    const auto value =
        ratio(samples_to_reach(term->curve, loss), samples_to_reach((*same)->curve, loss));
    if (value) ratios.push_back(*value);
  }
  return standard_error(ratios);
}

Mark mark_of(const Curve& curve, const Curve& reference, double loss) {
  Mark mark{loss, samples_to_reach(curve, loss), seconds_to_reach(curve, loss), {}, {}, 0};
  mark.samples_ratio = ratio(mark.samples, samples_to_reach(reference, loss));
  mark.seconds_ratio = ratio(mark.seconds, seconds_to_reach(reference, loss));
  return mark;
}

nlohmann::json json_of(const std::optional<double>& value) {
  return value ? nlohmann::json(*value) : nlohmann::json();
}

std::string text_of(const std::optional<double>& value, const char* pattern) {
  return value ? fmt::format(fmt::runtime(pattern), *value) : "-";
}

nlohmann::json numbers_of(const Schooling& schooling) {
  return {{"workers", schooling.workers},
          {"servers", schooling.servers},
          {"learning_rate", schooling.learning_rate},
          {"momentum", schooling.momentum},
          {"bytes_sent_per_step", schooling.bytes_sent},
          {"compression_ms", schooling.compression_ms},
          {"dropped", schooling.dropped},
          {"staleness_max", schooling.staleness_max},
          {"staleness_mean", schooling.staleness_mean}};
}

double round_to(double value, double unit) { return std::round(value / unit) * unit; }

// One panel: columns of the data file, and what they are.
std::string panel(const std::string& file, const std::vector<Grade>& grades, int x, int y,
                  const std::string& x_title, const std::string& y_title) {
  std::string text = fmt::format("set xlabel \"{}\"\nset ylabel \"{}\"\n{}\nplot ", x_title,
                                 y_title, y == 3 ? "set logscale y" : "unset logscale y");
  for (std::size_t i = 0; i < grades.size(); ++i) {
    text += fmt::format("{}'{}' index {} using {}:{} with lines lw 2 lc rgb '{}'{} title \"{}\"",
                        i > 0 ? ", \\\n  " : "", file, i, x, y, kColours[i % kColours.size()],
                        i < kColours.size() ? "" : " dt (6,4)", grades[i].variant);
  }
  return text + "\n";
}

}  // namespace

std::vector<Grade> grade(const std::vector<Term>& terms, const std::vector<double>& losses) {
  std::vector<std::vector<const Term*>> variants;
  for (const Term& term : terms) {
    const auto same = std::find_if(variants.begin(), variants.end(), [&](const auto& other) {
      return other.front()->variant == term.variant;
    });
    if (same != variants.end()) {
      same->push_back(&term);
    } else {
      variants.push_back({&term});
    }
  }
  std::vector<Grade> grades;
  for (const auto& of_variant : variants) {
    Grade each = grade_one(of_variant);
    const Grade& reference = grades.empty() ? each : grades.front();
    if (reference.mean.bytes_sent > 0)
      each.bytes = each.mean.bytes_sent / reference.mean.bytes_sent;
    for (const double loss : losses) {
      each.marks.push_back(mark_of(each.curve, reference.curve, loss));
      each.marks.back().samples_ratio_error = error_of_ratio(of_variant, variants.front(), loss);
    }
    grades.push_back(std::move(each));
  }
  return grades;
}

std::string format_grades(const std::vector<Grade>& grades) {
  std::vector<std::vector<std::string>> rows = {{"policy", "learning rate", "momentum"}};
  const auto& marks = grades.front().marks;
  for (const Mark& mark : marks) {
    rows[0].push_back(
        fmt::format("{}to loss {:g}", rows[0].size() == 3 ? "samples " : "", mark.loss));
  }
  for (const char* title :
       {"of the first's", "time, of the first's", "loss at the end", "accuracy", "seconds",
        "stale, mean", "most", "dropped", "bytes sent", "packing ms"}) {
    rows[0].emplace_back(title);
  }
  for (const Grade& each : grades) {
    std::vector<std::string> row = {each.variant, fmt::format("{:.4g}", each.mean.learning_rate),
                                    fmt::format("{:g}", each.mean.momentum)};
    for (const Mark& mark : each.marks) row.push_back(text_of(mark.samples, "{:.0f}"));
    if (each.marks.empty() || !each.marks.back().samples_ratio) {
      row.insert(row.end(), {"-", "-"});
    } else {
      const Mark& last = each.marks.back();
      row.push_back(fmt::format("{:.2f} ± {:.2f}", *last.samples_ratio, last.samples_ratio_error));
      row.push_back(fmt::format("{:.2f}", *last.seconds_ratio));
    }
    row.push_back(fmt::format("{:.4f} ± {:.4f}", each.loss, each.loss_error));
    row.push_back(fmt::format("{:.3f}", each.accuracy));
    row.push_back(fmt::format("{:.2f}", each.seconds));
    row.push_back(fmt::format("{:.1f}", each.mean.staleness_mean));
    row.push_back(fmt::format("{:.0f}", each.mean.staleness_max));
    row.push_back(fmt::format("{:.3f}", each.mean.dropped));
    row.push_back(fmt::format("{:.3f}", each.bytes));
    row.push_back(fmt::format("{:.3f}", each.mean.compression_ms));
    rows.push_back(std::move(row));
  }
  return markdown_table(rows, 1);
}

nlohmann::json record_of(const Term& term, std::size_t points) {
  auto record = numbers_of(term.schooling);
  record["record"] = "ps_convergence";
  record["policy"] = term.variant;
  record["seed"] = term.seed;
  nlohmann::json samples, seconds, loss, accuracy;
  for (const CurvePoint& point : thin_out(term.curve, points)) {
    samples.push_back(point.samples);
    seconds.push_back(round_to(point.seconds, 1e-3));
    loss.push_back(round_to(point.loss, 1e-4));
    accuracy.push_back(round_to(point.accuracy, 1e-4));
  }
  record["curve"] = {
      {"samples", samples}, {"seconds", seconds}, {"loss", loss}, {"accuracy", accuracy}};
  return record;
}

nlohmann::json record_of(const Grade& grade) {
  auto record = numbers_of(grade.mean);
  record["record"] = "ps_convergence_grade";
  record["policy"] = grade.variant;
  record["loss"] = grade.loss;
  record["loss_se"] = grade.loss_error;
  record["accuracy"] = grade.accuracy;
  record["seconds"] = grade.seconds;
  record["samples"] = grade.curve.back().samples;
  record["bytes_ratio"] = grade.bytes;
  for (const Mark& mark : grade.marks) {
    record["marks"].push_back({{"loss", mark.loss},
                               {"samples", json_of(mark.samples)},
                               {"seconds", json_of(mark.seconds)},
                               {"samples_ratio", json_of(mark.samples_ratio)},
                               {"samples_ratio_se", mark.samples_ratio_error},
                               {"seconds_ratio", json_of(mark.seconds_ratio)}});
  }
  return record;
}

std::vector<PlotFile> learning_page(const std::string& name, const std::string& title,
                                    const std::string& time, const std::vector<Grade>& grades) {
  PlotFile data{name + ".dat", "# samples seconds loss accuracy\n"};
  for (const Grade& each : grades) {
    data.text += fmt::format("# {}\n", each.variant);
    for (const CurvePoint& point : thin_out(each.curve, kPlottedPoints)) {
      data.text += fmt::format("{:.0f} {:.4f} {:.5f} {:.5f}\n", point.samples, point.seconds,
                               point.loss, point.accuracy);
    }
    data.text += "\n\n";
  }
  PlotFile page{name + ".gp",
                "set encoding utf8\nset border 3 lw 1.2 lc rgb \"#444444\"\nset tics nomirror\n"
                "set grid ytics lc rgb \"#dddddd\" lw 1 lt 1\nset key left bottom Left reverse "
                "noenhanced samplen 2\n"};
  page.text += fmt::format("set multiplot layout 2,2 title \"{}\"\n", title);
  const std::string loss = "loss, mean of the last steps, before they are learnt";
  page.text += panel(data.name, grades, 1, 3, "samples, all workers together", loss);
  page.text += "unset key\n";
  page.text += panel(data.name, grades, 2, 3, time, loss);
  page.text += panel(data.name, grades, 1, 4, "samples, all workers together", "accuracy");
  page.text += panel(data.name, grades, 2, 4, time, "accuracy");
  page.text += "unset multiplot\n";
  return {data, page};
}

Status write_page(const std::string& directory, const std::vector<PlotFile>& page) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return Status::resource(fmt::format("cannot make {}: {}", directory, error.message()));
  }
  for (const PlotFile& file : page) DIST_TRY(write_plot_file(directory, file));
  return draw_page(directory, page.back(), kWidth, kHeight);
}

}  // namespace dist::bench
