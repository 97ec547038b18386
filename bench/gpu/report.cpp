// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/gpu/roof.h"

namespace dist::bench::gpu {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// A markdown table whose first row is the head.
std::string table(const Rows& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t c = 0; c < widths.size(); ++c) {
      text += fmt::format("| {:<{}} ", rows[r][c], widths[c]);
    }
    text += "|\n";
    if (r > 0) continue;
    for (const std::size_t width : widths) text += fmt::format("|{:-<{}}", "", width + 2);
    text += "|\n";
  }
  return text;
}

std::string or_dash(double value, const char* format) {
  return value > 0 ? fmt::format(fmt::runtime(format), value) : "-";
}

std::string section_table(const Findings& f) {
  Rows rows = {{"section", "ok", "failed", "cut", "skipped"}};
  for (const Section& section : f.sections) {
    const auto count = [&](State state) {
      return std::to_string(std::ranges::count_if(f.outcomes, [&](const Outcome& o) {
        return o.run.section == section.name && o.state == state;
      }));
    };
    rows.push_back({section.name, count(State::ok), count(State::failed), count(State::cut),
                    count(State::skipped)});
  }
  return table(rows);
}

std::string rank_table(const Findings& f) {
  Rows rows = {{"transport", "strategy", "ranks", "algorithm", "replicas equal", "last loss", ""}};
  for (const Outcome& o : f.outcomes) {
    if (o.run.section != "ranks") continue;
    const bool known = o.record.is_object();
    rows.push_back({o.run.transport, o.run.strategy, std::to_string(o.run.ranks),
                    known ? o.record.value("algorithm", "") : "-",
                    known ? (o.record.value("replicas_equal", false) ? "yes" : "no") : "-",
                    known ? or_dash(o.record.value("loss_last", 0.0), "{:.6f}") : "-",
                    std::string(name_of(o.state))});
  }
  return rows.size() == 1 ? "" : "\n## Several ranks on one GPU\n" + table(rows);
}

std::string curve_table(const Findings& f) {
  Rows rows = {{"run", "backend", "precision", "first loss", "last loss", ""}};
  for (const Outcome& o : f.outcomes) {
    if (o.run.section != "curves" || !o.record.is_object()) continue;
    rows.push_back({o.run.name, o.record.value("backend", ""), o.run.precision,
                    or_dash(o.record.value("loss_first", 0.0), "{:.6f}"),
                    or_dash(o.record.value("loss_last", 0.0), "{:.6f}"),
                    std::string(name_of(o.state))});
  }
  return rows.size() == 1 ? "" : "\n## The same training in every precision\n" + table(rows);
}

std::string rate_table(const Findings& f) {
  Rows rows = {{"model", "precision", "batch", "images/s", "step ms", "of FLOP peak",
                "of memory peak", "of roof"}};
  const auto peak = peak_of(f.device);
  for (const Outcome& o : f.outcomes) {
    if (o.run.section != "throughput" || o.state != State::ok) continue;
    const auto model = std::ranges::find(f.models, o.run.model, &ModelFacts::name);
    Fraction fraction;
    if (peak && peak->flops(o.run.precision) > 0 && model != f.models.end()) {
      const Work work = work_of(*model, o.run.precision, o.run.batch, *peak);
      fraction = fraction_of(work, o.run.batch, rate_of(o), o.run.precision, *peak);
    }
    rows.push_back({o.run.model, o.run.precision, std::to_string(o.run.batch),
                    fmt::format("{:.0f}", rate_of(o)),
                    fmt::format("{:.2f}", o.record.value("step_ms_median", 0.0)),
                    or_dash(fraction.of_flops, "{:.3f}"), or_dash(fraction.of_bytes, "{:.3f}"),
                    or_dash(fraction.of_roof, "{:.3f}")});
  }
  if (rows.size() == 1) return "";
  std::string text = "\n## Throughput, one rank\n" + table(rows);
  text += peak ? fmt::format(
                     "\nPeaks (data sheet, {}): {:g} TFLOP/s f32, {:g} tf32, {:g} f16 and bf16 "
                     "dense; memory {:g} GB/s{}.\n",
                     peak->device, peak->f32_tflops, peak->tf32_tflops, peak->f16_tflops,
                     peak->memory_gb_per_s,
                     f.copy_gb_per_s ? fmt::format(", {:.0f} measured by a copy", *f.copy_gb_per_s)
                                     : "")
               : fmt::format("\nThe peaks of {} are not in the table: no fractions.\n", f.device);
  return text;
}

std::string duel_table(const Findings& f) {
  Rows rows = {
      {"model", "precision", "PyTorch", "ours images/s", "theirs images/s", "ratio", "runs"}};
  for (const Duel& duel : duels(f.outcomes)) {
    rows.push_back({duel.model, duel.precision, duel.mode, fmt::format("{:.0f}", duel.ours),
                    fmt::format("{:.0f}", duel.theirs), fmt::format("{:.2f}", duel.ratio()),
                    fmt::format("{} and {}", duel.runs_ours, duel.runs_theirs)});
  }
  return rows.size() == 1 ? "" : "\n## Beside PyTorch, taking turns, medians\n" + table(rows);
}

std::string kind_tables(const Findings& f) {
  std::string text;
  for (const Outcome& o : f.outcomes) {
    if (o.run.section != "breakdown" || o.state != State::ok) continue;
    const auto model = std::ranges::find(f.models, o.run.model, &ModelFacts::name);
    if (model == f.models.end()) continue;
    const auto kinds = by_kind(*model, o.record, o.run.precision);
    if (!kinds.ok()) continue;  // told when the run was checked
    double total_ms = 0;
    for (const auto& [name, kind] : *kinds) total_ms += kind.forward_ms + kind.backward_ms;
    Rows rows = {{"kind", "layers", "forward ms", "backward ms", "share", "TFLOP/s", "GB/s"}};
    for (const auto& [name, kind] : *kinds) {
      const double ms = kind.forward_ms + kind.backward_ms;
      rows.push_back({name, std::to_string(kind.layers), fmt::format("{:.3f}", kind.forward_ms),
                      fmt::format("{:.3f}", kind.backward_ms),
                      total_ms > 0 ? fmt::format("{:.3f}", ms / total_ms) : "-",
                      ms > 0 ? or_dash(kind.flop / ms / 1e9, "{:.1f}") : "-",
                      ms > 0 ? or_dash(kind.bytes / ms / 1e6, "{:.0f}") : "-"});
    }
    text += fmt::format("\n### {}, {}, batch {}: {:.2f} ms of layers\n{}", o.run.model,
                        o.run.precision, o.run.batch, total_ms, table(rows));
  }
  return text.empty() ? "" : "\n## Where the time goes, by kind of layer\n" + text;
}

std::string goal_table(const Findings& f) {
  Rows rows = {{"goal", "wanted", "measured", ""}};
  for (const Goal& goal : goals(f.outcomes, f.models, f.device)) {
    const auto text = [&](double value) { return fmt::format(fmt::runtime(goal.format), value); };
    rows.push_back({goal.what, (goal.at_most ? "at most " : "at least ") + text(goal.wanted),
                    goal.value ? text(*goal.value) : "-", goal.verdict()});
  }
  return "\n## Goals\n" + table(rows);
}

std::string complaints(const Findings& f) {
  std::string text;
  for (const Outcome& o : f.outcomes) {
    if (o.state == State::ok) continue;
    text +=
        fmt::format("- {} / {}: {}: {}\n", o.run.section, o.run.name, name_of(o.state), o.reason);
  }
  for (const std::string& failure : f.failures) text += fmt::format("- failed: {}\n", failure);
  return text.empty() ? "" : "\n## Not ok\n" + text;
}

}  // namespace

std::string format_report(const Findings& f) {
  std::string text = fmt::format("# gpu_check on {}\n\n", f.device);
  text += section_table(f) + curve_table(f) + rank_table(f) + rate_table(f) + duel_table(f) +
          goal_table(f) + kind_tables(f) + complaints(f);
  text += "\n## Provenance\n";
  for (const auto& [key, value] : f.provenance.items()) {
    text +=
        fmt::format("- {}: {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

std::vector<std::string> failures_of(const Findings& f, bool strict) {
  std::vector<std::string> all = f.failures;
  for (const Outcome& o : f.outcomes) {
    const auto section = std::ranges::find(f.sections, o.run.section, &Section::name);
    const bool needed = section != f.sections.end() && section->must_finish;
    if (o.state == State::failed || (o.state == State::cut && needed)) {
      all.push_back(fmt::format("{}: {}", o.run.name, o.reason));
    }
  }
  if (!strict) return all;
  for (const Goal& goal : goals(f.outcomes, f.models, f.device)) {
    if (!goal.met()) all.push_back(fmt::format("{}: {}", goal.what, goal.verdict()));
  }
  return all;
}

}  // namespace dist::bench::gpu
