// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "bench/all_reduce/options.h"
#include "bench/statistics.h"
#include "bench/table.h"

namespace dist::bench {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// What is measured beside each other.
auto group_of(const Measurement& m) { return std::tuple(m.spec.contest, m.spec.ranks, m.touched); }
auto place_of(const Measurement& m) { return std::tuple_cat(group_of(m), std::tuple(m.bytes)); }

bool counts(const Measurement& m) { return m.failure.empty() && m.correct; }

// What an all-reduce could take at best. The fastest stream tells the wire's rate, and each rank
// sends 2 (ranks - 1) / ranks of its buffer.
std::optional<Measurement> as_limit(const Measurement& m) {
  if (m.spec.library != "limit" || m.spec.algorithm == "memcpy") return std::nullopt;
  Measurement limit = m;
  if (m.spec.algorithm == "stream") {
    limit.time_us_median = m.time_us_min * 2 * (m.spec.ranks - 1) / m.spec.ranks;
  }
  return limit;
}

bool is_peer(const Measurement& m) {
  return m.spec.library != "libdist" && m.spec.library != "limit";
}

void keep_faster(const Measurement& candidate, std::optional<Measurement>* best) {
  if (!*best || candidate.time_us_median < (*best)->time_us_median) *best = candidate;
}

std::optional<double> ratio(const std::optional<Measurement>& a,
                            const std::optional<Measurement>& b) {
  if (!a || !b || b->time_us_median <= 0) return std::nullopt;
  return a->time_us_median / b->time_us_median;
}

std::string ratio_text(const std::optional<double>& value, const char* unit) {
  return value ? fmt::format("{:.2f}{}", *value, unit) : "-";
}

std::string told(const std::optional<Measurement>& m) {
  return m ? fmt::format("{} {}", m->spec.name(), time_text(m->time_us_median)) : "-";
}

std::string group_title(const Measurement& m) {
  return fmt::format("{}, {} ranks, {}", m.spec.contest, m.spec.ranks,
                     m.touched ? "touched (every rank rewrites its buffer before each call)"
                               : "untouched (the same buffer again and again)");
}

template <typename Value, typename Container>
std::size_t place_in(Container& values, const Value& value) {
  const auto found = std::find(values.begin(), values.end(), value);
  if (found != values.end()) return static_cast<std::size_t>(found - values.begin());
  values.push_back(value);
  return values.size() - 1;
}

std::string time_table(const std::vector<const Measurement*>& group) {
  std::vector<std::uint64_t> sizes;
  std::vector<std::string> names;
  Rows rows(1, {"median time of a call"});
  std::string failures;
  for (const Measurement* each : group) {
    const std::size_t column = 1 + place_in(sizes, each->bytes);
    const std::size_t row = 1 + place_in(names, each->spec.name());
    if (rows[0].size() <= column) rows[0].push_back(size_text(each->bytes));
    if (rows.size() <= row) rows.push_back({each->spec.name()});
    rows[row].resize(std::max(rows[row].size(), column), "-");
    rows[row].push_back(counts(*each) ? time_text(each->time_us_median) : "failed");
    if (!counts(*each)) {
      failures +=
          fmt::format("{}, {}: {}\n", each->spec.name(), size_text(each->bytes), each->failure);
    }
  }
  for (auto& row : rows) row.resize(sizes.size() + 1, "-");
  return markdown_table(rows, 1) + failures;
}

}  // namespace

std::string time_text(double us) {
  const char* unit = "us";
  if (us >= 999.5) {
    us /= 1000;
    unit = "ms";
  }
  if (us >= 999.5) {
    us /= 1000;
    unit = "s";
  }
  const int digits = us < 9.995 ? 2 : us < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", us, digits, unit);
}

nlohmann::json to_record(const Measurement& measurement, const nlohmann::json& provenance) {
  const JobSpec& spec = measurement.spec;
  nlohmann::json record = {{"record", measurement.failure.empty() ? "all_reduce" : "failure"},
                           {"library", spec.library},
                           {"algorithm", spec.algorithm},
                           {"contest", spec.contest},
                           {"transport", spec.transport},
                           {"ranks", spec.ranks},
                           {"bytes", measurement.bytes},
                           {"buffers", spec.buffers},
                           {"touched", measurement.touched},
                           {"tuned", spec.tuned},
                           {"correct", measurement.correct}};
  if (measurement.failure.empty()) {
    record["time_us_median"] = measurement.time_us_median;
    record["time_us_min"] = measurement.time_us_min;
    record["calls"] = measurement.calls;
    record["algorithm_bandwidth"] = algorithm_bandwidth(measurement);
    record["bus_bandwidth"] = bus_bandwidth(measurement);
  } else {
    record["reason"] = measurement.failure;
  }
  record["provenance"] = provenance;
  return record;
}

std::optional<double> Comparison::of_default() const { return ratio(ours, best_default); }
std::optional<double> Comparison::of_tuned() const { return ratio(ours, best_tuned); }
std::optional<double> Comparison::limit_reached() const { return ratio(limit, ours); }

std::vector<Comparison> compare(const std::vector<Measurement>& measurements) {
  std::vector<Comparison> out;
  for (const Measurement& ours : measurements) {
    if (ours.spec.library != "libdist" || !counts(ours)) continue;
    Comparison comparison;
    comparison.ours = ours;
    for (const Measurement& other : measurements) {
      if (!counts(other) || place_of(other) != place_of(ours)) continue;
      if (const auto limit = as_limit(other)) keep_faster(*limit, &comparison.limit);
      if (is_peer(other)) {
        keep_faster(other, other.spec.tuned ? &comparison.best_tuned : &comparison.best_default);
      }
    }
    out.push_back(std::move(comparison));
  }
  return out;
}

std::string time_tables(const std::vector<Measurement>& measurements) {
  std::string text;
  std::vector<decltype(group_of(measurements.front()))> groups;
  for (const Measurement& first : measurements) {
    const std::size_t before = groups.size();
    if (place_in(groups, group_of(first)) != before) continue;
    std::vector<const Measurement*> group;
    for (const Measurement& each : measurements) {
      if (group_of(each) == group_of(first)) group.push_back(&each);
    }
    text += fmt::format("\n{}\n\n{}", group_title(first), time_table(group));
  }
  return text;
}

std::string ratio_table(const std::vector<Comparison>& comparisons) {
  Rows rows = {{"where", "libdist", "best default peer", "of it", "best tuned peer", "of it",
                "limit", "reached"}};
  for (const Comparison& each : comparisons) {
    const Measurement& ours = each.ours;
    rows.push_back({fmt::format("{}, {} ranks, {}{}", ours.spec.contest, ours.spec.ranks,
                                size_text(ours.bytes), ours.touched ? ", touched" : ""),
                    fmt::format("{} {}", ours.spec.name(), time_text(ours.time_us_median)),
                    told(each.best_default), ratio_text(each.of_default(), "x"),
                    told(each.best_tuned), ratio_text(each.of_tuned(), "x"),
                    each.limit ? time_text(each.limit->time_us_median) : "-",
                    ratio_text(each.limit_reached(), "")});
  }
  return markdown_table(rows, 8);
}

std::string formulas() {
  return R"(time = of one call, the slowest rank's; median over all calls of all rounds.
of it = time of libdist / time of the peer (below 1: libdist is faster). reached = time of the limit / time of libdist.
algorithm bandwidth = bytes / time; bus bandwidth = algorithm bandwidth x 2 (ranks - 1) / ranks.
limit: sweep = all buffers in one mapping, each rank sums its share of all and stores into all, two rounds of flags;
memcpy = each rank copies its own buffer once; plain TCP ring = one thread a rank, one socket a neighbour;
over a wire = 2 (ranks - 1) / ranks x the shortest time in which each rank sent its buffer once.
)";
}

}  // namespace dist::bench
