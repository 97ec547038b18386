// SPDX-License-Identifier: Apache-2.0
#include "examples/train/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "examples/train/machine.h"
#include "examples/train/parameters.h"

namespace train {
namespace {

using json = nlohmann::ordered_json;  // fields stay in the order written

constexpr int kHashPieces = 4;  // of 16 bits, so that they are exact as doubles

// The places of one rank's row.
enum Column : std::size_t {
  kTrains,
  kWall,
  kBytes,
  kLossFirst,
  kLossLast,
  kMemory,
  kHistogram,  // length
  kDropped,
  kHash,
  kColumns = kHash + kHashPieces
};

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Standard error of the mean, as a part of the mean.
double relative_error(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double centre = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - centre) * (value - centre);
  const auto n = static_cast<double>(values.size());
  return std::sqrt(squares / (n - 1) / n) / centre;
}

std::vector<double> own_row(const TrainOptions& options, const Replica& replica,
                            const Measurements& measured) {
  std::vector<double> row(kColumns, 0.0);
  row[kTrains] = replica.trains() ? 1 : 0;
  row[kWall] = measured.wall_s;
  row[kBytes] = measured.bytes_sent_per_step;
  row[kLossFirst] = measured.loss_first;
  row[kLossLast] = measured.loss_last;
  row[kMemory] = static_cast<double>(peak_memory_bytes());
  const auto served = replica.strategy->server_report();
  row[kHistogram] = static_cast<double>(served.staleness.size());
  row[kDropped] = static_cast<double>(served.dropped);
  if (replica.trains() && !options.replays()) {
    const std::uint64_t hash = parameter_hash(*replica.network);
    for (int piece = 0; piece < kHashPieces; ++piece) {
      row[kHash + static_cast<std::size_t>(piece)] =
          static_cast<double>(hash >> (16 * piece) & 0xffff);
    }
  }
  return row;
}

std::uint64_t hash_of(const std::vector<double>& row) {
  std::uint64_t hash = 0;
  for (int piece = 0; piece < kHashPieces; ++piece) {
    hash |= static_cast<std::uint64_t>(row[kHash + static_cast<std::size_t>(piece)])
            << (16 * piece);
  }
  return hash;
}

dist::Result<std::vector<std::uint64_t>> sum_histograms(const Replica& replica, std::size_t length,
                                                        dist::World& world) {
  std::vector<double> sums(length, 0.0);
  const auto mine = replica.strategy->server_report().staleness;
  std::copy(mine.begin(), mine.end(), sums.begin());
  if (length == 0) return std::vector<std::uint64_t>();
  if (!stands_alone(world)) {
    const auto group = dist::make_group(world);
    DIST_TRY(group);
    DIST_TRY_BECAUSE((*group)->all_reduce(sums), "staleness");
  }
  return std::vector<std::uint64_t>(sums.begin(), sums.end());
}

int server_count(const TrainOptions& options, int ranks) {
  if (options.strategy != "sync-ps" && options.strategy != "async-ps") return 0;
  if (options.world.servers > 0) return options.world.servers;
  return options.world.placement == dist::Placement::dedicated ? 1 : ranks;
}

json replay_of(const TrainOptions& options) {
  if (!options.replays()) return nullptr;
  return {{"profile", options.replay_profile.empty() ? "estimated" : options.replay_profile},
          {"step_ms", options.replay_step_ms}};
}

std::string staleness_bound(const TrainOptions& options) {
  return options.world.staleness == dist::kUnlimitedStaleness
             ? "unlimited"
             : fmt::format("{}", options.world.staleness);
}

}  // namespace

bool stands_alone(const dist::World& world) { return world.options().drops_lost_workers(); }

dist::Result<std::vector<std::vector<double>>> gather(dist::World& world,
                                                      const std::vector<double>& mine) {
  if (stands_alone(world)) return std::vector<std::vector<double>>(1, mine);
  // Each rank fills its own part, so the sum is exact.
  const std::size_t n = mine.size();
  std::vector<double> all(n * static_cast<std::size_t>(world.ranks()), 0.0);
  std::copy(mine.begin(), mine.end(), all.begin() + static_cast<std::ptrdiff_t>(n) * world.rank());
  const auto group = dist::make_group(world);
  DIST_TRY(group);
  DIST_TRY((*group)->all_reduce(all));
  std::vector<std::vector<double>> rows;
  for (auto at = all.begin(); at != all.end(); at += static_cast<std::ptrdiff_t>(n)) {
    rows.emplace_back(at, at + static_cast<std::ptrdiff_t>(n));
  }
  return rows;
}

dist::Result<Report> make_report(const TrainOptions& options, const Replica& replica,
                                 const Measurements& measured, dist::World& world) {
  auto rows = gather(world, own_row(options, replica, measured));
  DIST_TRY_BECAUSE(rows, "gathering the report");
  Report report;
  if (stands_alone(world)) report.worker = replica.worker;
  report.workers = replica.workers;
  report.servers = server_count(options, world.ranks());
  report.threads = replica.threads;
  report.update = describe(make_update(options).value());
  report.transport = world.transport_name();
  if (replica.gpu) report.device = replica.gpu->device->name();
  if (replica.trains()) report.notes = replica.network->notes();
  report.server_imbalance = replica.strategy->server_report().imbalance;
  report.parameters = replica.network->graph().parameter_elements();
  report.parameter_hash = hash_of(rows->front());
  const auto trained = static_cast<double>(
      std::count_if(rows->begin(), rows->end(), [](const auto& row) { return row[kTrains] != 0; }));
  double slowest_s = 0;
  double histogram_length = 0;
  for (const auto& row : *rows) {
    slowest_s = std::max(slowest_s, row[kWall]);
    histogram_length = std::max(histogram_length, row[kHistogram]);
    report.bytes_sent_per_step += row[kBytes] / static_cast<double>(rows->size());
    report.peak_memory_bytes += row[kMemory];
    report.dropped += row[kDropped];
    if (row[kTrains] == 0) continue;
    report.loss_first += row[kLossFirst] / trained;
    report.loss_last += row[kLossLast] / trained;
    report.replicas_equal = report.replicas_equal && hash_of(row) == report.parameter_hash;
  }
  auto histogram = sum_histograms(replica, static_cast<std::size_t>(histogram_length), world);
  DIST_TRY(histogram);
  report.staleness = *std::move(histogram);
  if (measured.step_ms.empty()) return report;  // this rank only serves, or was stopped at once
  report.images_per_second = static_cast<double>(options.batch) * trained *
                             static_cast<double>(measured.step_ms.size()) / slowest_s;
  report.images_per_second_se = report.images_per_second * relative_error(measured.step_ms);
  report.step_ms_median = median(measured.step_ms);
  report.exposed_ms = measured.exposed_ms;
  report.exposed_bound_ms = measured.exposed_bound_ms;
  report.busy_ms = measured.busy_ms;
  report.update_ms = measured.update_ms;
  report.compression_ms = measured.compression_ms;
  report.compression_saved_bytes_per_step = measured.compression_saved_bytes_per_step;
  report.algorithm = measured.algorithm;
  report.memory_saved_bytes = measured.memory_saved_bytes;
  return report;
}

dist::Status append_record(const TrainOptions& options, const Report& report) {
  const Machine machine = this_machine();
  const bool values = !options.replays();  // a replay computes neither losses nor parameters
  json record = {
      {"record", "train"},
      {"kind", values ? "measured" : "emulated"},
      {"model", options.model},
      {"strategy", options.strategy},
      {"transport", report.transport},
      {"backend", options.backend},
      {"precision", options.precision},
      {"ranks", options.world.ranks},
      {"workers", report.workers},
      {"worker", report.worker < 0 ? json() : json(report.worker)},
      {"servers", report.servers},
      {"placement",
       options.world.placement == dist::Placement::dedicated ? "dedicated" : "colocated"},
      {"staleness_bound", staleness_bound(options)},
      {"algorithm", report.algorithm},
      {"launcher", dist::name_of(options.world.launcher)},
      {"batch", options.batch},
      {"image", options.image},
      {"steps", options.steps},
      {"warmup", options.warmup},
      {"seed", options.seed},
      {"data", options.data},
      {"optimizer", options.optimizer},
      {"learning_rate", options.learning_rate},
      {"weight_decay", options.weight_decay},
      {"clip_norm", options.clip_norm},
      {"schedule", options.schedule},
      {"update", report.update},
      {"deterministic", options.deterministic},
      {"threads", report.threads},
      {"images_per_second", report.images_per_second},
      {"images_per_second_se", report.images_per_second_se},
      {"step_ms_median", report.step_ms_median},
      {"exposed_communication_ms", report.exposed_ms},
      {"exposed_bound_ms", report.exposed_bound_ms},
      {"communication_busy_ms", report.busy_ms},
      {"update_ms", report.update_ms},
      {"bytes_sent_per_step", report.bytes_sent_per_step},
      {"compress", options.world.compress},
      {"compression_ms", report.compression_ms},
      {"compression_saved_bytes_per_step", report.compression_saved_bytes_per_step},
      {"peak_memory_bytes", values ? json(report.peak_memory_bytes) : json()},
      {"memory_saved_bytes", report.memory_saved_bytes},
      {"parameters", report.parameters},
      {"loss_first", values ? json(report.loss_first) : json()},
      {"loss_last", values ? json(report.loss_last) : json()},
      {"parameter_hash", values ? json(fmt::format("{:016x}", report.parameter_hash)) : json()},
      {"replicas_equal", values ? json(report.replicas_equal) : json()},
      {"staleness", report.staleness},
      {"dropped", report.dropped},
      {"server_imbalance", report.server_imbalance},
      {"replay", replay_of(options)},
      {"version", dist::version()},
      {"machine", {{"host", machine.host}, {"cpu", machine.cpu}, {"cores", machine.cores}}},
      {"time", utc_now()},
      {"command", options.command_line},
  };
  if (!report.device.empty()) record["device"] = report.device;
  if (!report.notes.empty()) record["notes"] = report.notes;
  std::ofstream file(options.json, std::ios::app);
  file << record.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  file.close();
  if (!file) return dist::Status::resource(fmt::format("--json: cannot write {}", options.json));
  return {};
}

std::string summary(const TrainOptions& options, const Report& report) {
  std::string text = fmt::format(
      "{}: {}, {}{} worker{} over {}, {} {}{}, batch {} a worker, image {}\n"
      "  {:.2f} +- {:.2f} images/s ({}; {} steps after {} of warm-up)\n"
      "  step {:.2f} ms (median); communication {:.2f} ms in flight, {:.2f} ms exposed{}; "
      "{:.3f} MB sent a rank{}\n",
      options.model, options.strategy,
      report.worker < 0 ? "" : fmt::format("worker {} of at most ", report.worker), report.workers,
      report.workers == 1 ? "" : "s", report.transport, options.backend, options.precision,
      report.device.empty() ? "" : fmt::format(" on {}", report.device), options.batch,
      options.image, report.images_per_second, report.images_per_second_se,
      options.replays() ? "emulated: computing replayed, communication real" : "measured",
      options.steps, options.warmup, report.step_ms_median, report.busy_ms, report.exposed_ms,
      report.exposed_bound_ms > 0
          ? fmt::format(" (at least {:.2f} on this link)", report.exposed_bound_ms)
          : "",
      report.bytes_sent_per_step / 1e6,
      report.algorithm.empty() ? "" : fmt::format("; {}", report.algorithm));
  text += fmt::format("  {}\n", report.update);
  if (options.world.compress != "none") {
    text += fmt::format("  compressed by {}: {:.3f} MB a step not sent, {:.2f} ms of work\n",
                        options.world.compress, report.compression_saved_bytes_per_step / 1e6,
                        report.compression_ms);
  }
  if (!options.replays()) {
    text +=
        fmt::format("  loss {:.6f} -> {:.6f}; {} parameters, hash {:016x}{}\n", report.loss_first,
                    report.loss_last, report.parameters, report.parameter_hash,
                    report.replicas_equal ? "" : " on worker 0, others differ");
  }
  if (report.servers > 0) {
    text +=
        fmt::format("  {} server{}, imbalance {:.3f}; {} contributions dropped\n", report.servers,
                    report.servers == 1 ? "" : "s", report.server_imbalance, report.dropped);
  }
  const auto applied =
      std::accumulate(report.staleness.begin(), report.staleness.end(), std::uint64_t{0});
  if (applied > 0) {
    double sum = 0;
    for (std::size_t s = 0; s < report.staleness.size(); ++s) {
      sum += static_cast<double>(s) * static_cast<double>(report.staleness[s]);
    }
    text +=
        fmt::format("  staleness {:.2f} versions on average\n", sum / static_cast<double>(applied));
  }
  return text;
}

}  // namespace train
