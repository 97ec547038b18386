// SPDX-License-Identifier: Apache-2.0
#include "bench/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace dist::bench {
namespace {

std::string number_or_dash(const std::optional<double>& value, const char* pattern) {
  return value ? fmt::format(fmt::runtime(pattern), *value) : "-";
}

// Three significant digits at least, whatever the size.
std::string rate(double value) {
  return value >= 100  ? fmt::format("{:.0f}", value)
         : value >= 10 ? fmt::format("{:.1f}", value)
                       : fmt::format("{:.2f}", value);
}

std::vector<std::string> row_of(const std::string& model, const std::string& strategy, int ranks,
                                const Cell& cell) {
  return {model,
          display_name(strategy),
          std::to_string(ranks),
          std::to_string(cell.workers),
          rate(cell.images_per_second) + " ± " + rate(cell.images_per_second_se),
          std::to_string(cell.runs),
          number_or_dash(cell.speedup, "{:.2f}"),
          number_or_dash(cell.efficiency, "{:.2f}"),
          number_or_dash(cell.of_independent, "{:.2f}"),
          fmt::format("{:.1f}", cell.step_ms),
          fmt::format("{:.1f}", cell.exposed_ms),
          fmt::format("{:.1f}", cell.bytes_sent_per_step / 1e6)};
}

std::string text_of(const nlohmann::json& object, const char* key, const std::string& fallback) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  return found->is_string() ? found->get<std::string>() : found->dump();
}

// Characters, not bytes: "±" is one column wide.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

constexpr const char* kMeaning = R"(
N is the number of workers. Columns (formulas and units in bench/README.md):
- images/s: T(N), mean over the runs ± standard error (over the runs; over the steps where there is one run).
- S(N) = T(N) / T_independent(1); the ideal line is S(N) = N. `independent` is the same training without any exchange.
- S/N: efficiency against the ideal.
- of independent: T(N) / T_independent(N), what the exchange alone costs: N ranks share this machine's cores and memory even without it.
- step: median milliseconds of a step. exposed: mean milliseconds a step waited for the exchange. sent: 10^6 bytes a rank sent in a step.
)";

}  // namespace

std::string markdown_table(const std::vector<std::vector<std::string>>& rows,
                           std::size_t first_number) {
  std::vector<std::size_t> widths(rows.front().size(), 3);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    text += '|';
    for (std::size_t i = 0; i < rows[r].size(); ++i) {
      const std::string pad(widths[i] - width_of(rows[r][i]), ' ');
      text += ' ' + (i < first_number ? rows[r][i] + pad : pad + rows[r][i]) + " |";
    }
    text += '\n';
    if (r > 0) continue;
    text += '|';
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += std::string(widths[i] + 1, '-') + (i < first_number ? "-|" : ":|");
    }
    text += '\n';
  }
  return text;
}

std::string describe_machine(const nlohmann::json& provenance) {
  return fmt::format(
      "{} x {}, {} GiB, {}, libdist {}{}", text_of(provenance, "cores", "?"),
      text_of(provenance, "cpu", "unknown processor"), text_of(provenance, "memory_gib", "?"),
      text_of(provenance, "kernel", "unknown kernel"), text_of(provenance, "library_version", "?"),
      provenance.contains("git_commit") && provenance["git_commit"].is_string()
          ? " (" + text_of(provenance, "git_commit", "") + ")"
          : "");
}

std::string describe_kind(const Summary& summary) {
  if (summary.kind != "emulated") {
    return fmt::format("{} on this machine: backend {}, transport {}, batch {} a worker",
                       summary.kind, summary.backend, summary.transport, summary.batch);
  }
  return fmt::format(
      "EMULATED: computation is replayed{}; the exchange is real, over {} inside one machine; "
      "batch {} a worker",
      summary.accelerator.empty() ? "" : " at the pace of one " + summary.accelerator,
      summary.transport, summary.batch);
}

std::string format_rows(const Summary& summary) {
  std::vector<std::vector<std::string>> rows = {{"model", "strategy", "ranks", "N", "images/s",
                                                 "runs", "S(N)", "S/N", "of independent", "step ms",
                                                 "exposed ms", "sent MB"}};
  std::vector<std::string> strategies = {kIndependent};
  strategies.insert(strategies.end(), summary.strategies.begin(), summary.strategies.end());
  for (const std::string& model : summary.models) {
    for (const std::string& strategy : strategies) {
      for (const int ranks : summary.ranks) {
        const Cell* cell = summary.find(model, strategy, ranks);
        if (cell != nullptr) rows.push_back(row_of(model, strategy, ranks, *cell));
      }
    }
  }
  return markdown_table(rows, 2);
}

std::string format_table(const Summary& summary, const std::vector<std::string>& failures) {
  std::string text = fmt::format("# Scaling, {}\n\n{}\n\n{}{}", summary.kind,
                                 describe_kind(summary), format_rows(summary), kMeaning);
  if (!failures.empty()) {
    text += "\n## Failed runs\n";
    for (const std::string& failure : failures) text += "- " + failure + "\n";
  }
  text += "\n## Provenance\n";
  text += "- " + describe_machine(summary.provenance) + "\n";
  for (const char* key : {"machine", "os", "compiler", "date", "command"}) {
    text += fmt::format("- {}: {}\n", key, text_of(summary.provenance, key, "unknown"));
  }
  return text;
}

}  // namespace dist::bench
