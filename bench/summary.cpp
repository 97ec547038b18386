// SPDX-License-Identifier: Apache-2.0
#include "bench/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "bench/statistics.h"

namespace dist::bench {
namespace {

using Key = std::tuple<std::string, std::string, int>;

template <typename T>
void add_once(std::vector<T>& list, const T& value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
}

// Every table and page has the strategies in the same order, whatever ran first.
int strategy_order(const std::string& strategy) {
  static constexpr std::array<std::string_view, 3> kOrder = {"sync-ps", "async-ps", "ring"};
  const auto found = std::find(kOrder.begin(), kOrder.end(), strategy);
  return static_cast<int>(found - kOrder.begin());
}

Cell gather(const std::vector<const Record*>& runs) {
  const auto column = [&](double Record::*field) {
    std::vector<double> values;
    values.reserve(runs.size());
    for (const Record* run : runs) values.push_back(run->*field);
    return values;
  };
  Cell cell;
  cell.runs = static_cast<int>(runs.size());
  cell.workers = runs.front()->workers;
  cell.batch = runs.front()->batch;
  cell.image = runs.front()->image;
  const auto rates = column(&Record::images_per_second);
  cell.images_per_second = mean(rates);
  cell.images_per_second_se =
      runs.size() > 1 ? standard_error(rates) : runs.front()->images_per_second_se;
  cell.step_ms = mean(column(&Record::step_ms));
  cell.exposed_ms = mean(column(&Record::exposed_ms));
  cell.bytes_sent_per_step = mean(column(&Record::bytes_sent_per_step));
  return cell;
}

void compare(Summary& summary) {
  for (auto& [key, cell] : summary.cells) {
    const std::string& model = std::get<0>(key);
    const Cell* one = summary.find(model, kIndependent, 1);
    const Cell* same = summary.find(model, kIndependent, cell.workers);
    if (one != nullptr && one->images_per_second > 0) {
      cell.speedup = cell.images_per_second / one->images_per_second;
      if (&cell != one) {
        cell.speedup_se = ratio_error(cell.images_per_second, cell.images_per_second_se,
                                      one->images_per_second, one->images_per_second_se);
      }
      cell.efficiency = *cell.speedup / cell.workers;
    }
    if (same != nullptr && same->images_per_second > 0) {
      cell.of_independent = cell.images_per_second / same->images_per_second;
    }
  }
}

}  // namespace

const Cell* Summary::find(const std::string& model, const std::string& strategy, int count) const {
  const auto found = cells.find({model, strategy, count});
  return found == cells.end() ? nullptr : &found->second;
}

Result<Summary> summarise(const std::vector<Record>& records) {
  if (records.empty()) return Status::invalid_argument("there is no successful run to summarise");
  Summary summary;
  const Record& first = records.front();
  summary.kind = first.kind;
  summary.accelerator = first.accelerator;
  summary.backend = first.backend;
  summary.transport = first.transport;
  summary.batch = first.batch;
  summary.provenance = records.back().provenance;
  std::map<Key, std::vector<const Record*>> groups;
  for (const Record& record : records) {
    if (record.kind != summary.kind || record.accelerator != summary.accelerator) {
      return Status::invalid_argument(
          fmt::format("{} and {} runs in one set: give each sweep a directory of its own",
                      summary.kind + summary.accelerator, record.kind + record.accelerator));
    }
    add_once(summary.models, record.run.model);
    add_once(summary.ranks, record.run.ranks);
    if (record.run.strategy != kIndependent) add_once(summary.strategies, record.run.strategy);
    groups[{record.run.model, record.run.strategy, record.run.ranks}].push_back(&record);
  }
  std::sort(summary.ranks.begin(), summary.ranks.end());
  std::stable_sort(
      summary.strategies.begin(), summary.strategies.end(),
      [](const auto& a, const auto& b) { return strategy_order(a) < strategy_order(b); });
  for (const auto& [key, runs] : groups) summary.cells[key] = gather(runs);
  compare(summary);
  return summary;
}

}  // namespace dist::bench
