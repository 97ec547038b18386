// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/values.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace dist::bench::gpu {
namespace {

constexpr double kAgreement = 0.01;
constexpr double kCurve = 0.02;

bool synchronous(const Run& run) { return run.strategy == "ring" || run.strategy == "sync-ps"; }

Status differs(const char* what, const auto& got, const auto& wanted) {
  return Status::protocol(fmt::format("{} {} instead of {}", what, got, wanted));
}

Status check_identity(const Run& run, const nlohmann::json& record) {
  const auto model = record.at("model").get<std::string>();
  const auto precision = record.at("precision").get<std::string>();
  const auto batch = record.at("batch").get<int>();
  if (model != run.model) return differs("model", model, run.model);
  if (precision != run.precision) return differs("precision", precision, run.precision);
  if (batch != run.batch) return differs("batch", batch, run.batch);
  if (run.program == Program::peer) return {};
  const auto ranks = record.at("ranks").get<int>();
  const auto backend = record.at("backend").get<std::string>();
  if (ranks != run.ranks) return differs("ranks", ranks, run.ranks);
  if (!run.backend.empty() && backend != run.backend) {
    return differs("backend", backend, run.backend);
  }
  return {};
}

Status check_path(const Run& run, const nlohmann::json& record) {
  if (run.transport.empty()) return {};
  const auto algorithm = record.at("algorithm").get<std::string>();
  const bool staged = algorithm.starts_with("staged");
  const bool swept = !staged && algorithm.find("sweep") != std::string::npos;
  const bool sweeps = run.strategy == "ring" && run.transport == "shm";
  if (sweeps ? swept : staged) return {};
  return Status::protocol(fmt::format("{} over {} ran as '{}', not {}", run.strategy, run.transport,
                                      algorithm, sweeps ? "by a sweep" : "staged"));
}

}  // namespace

Status check_record(const Run& run, const nlohmann::json& record) try {
  DIST_TRY(check_identity(run, record));
  if (!(record.at("images_per_second").get<double>() > 0)) {
    return Status::protocol("no images a second");
  }
  for (const char* field : {"loss_first", "loss_last"}) {
    // What is not finite is null in JSON.
    if (!record.at(field).is_number()) {
      return Status::protocol(fmt::format("{} is not a finite number", field));
    }
  }
  if (run.program == Program::peer) return {};
  if (run.ranks > 1 && synchronous(run) && !record.at("replicas_equal").get<bool>()) {
    return Status::protocol("the replicas differ after the last step");
  }
  return check_path(run, record);
} catch (const nlohmann::json::exception& error) {
  return Status::protocol(fmt::format("bad record: {}", error.what()));
}

Status check_agreement(const std::vector<Outcome>& outcomes) {
  for (const Outcome& one : outcomes) {
    for (const Outcome& other : outcomes) {
      const bool both = one.state == State::ok && other.state == State::ok &&
                        !one.run.transport.empty() && !other.run.transport.empty() &&
                        synchronous(one.run) && synchronous(other.run) &&
                        one.run.ranks == other.run.ranks;
      if (!both) continue;
      const double a = one.record.value("loss_last", 0.0);
      const double b = other.record.value("loss_last", 0.0);
      if (std::abs(a - b) <= kAgreement * std::max(std::abs(a), std::abs(b))) continue;
      return Status::protocol(fmt::format("the last losses of {} ({:.6f}) and {} ({:.6f}) differ",
                                          one.run.name, a, other.run.name, b));
    }
  }
  return {};
}

Status check_curves(const std::vector<Outcome>& outcomes) {
  const auto curve = [](const Outcome& outcome) {
    return outcome.run.section == "curves" && outcome.state == State::ok;
  };
  const auto host = std::ranges::find_if(outcomes, [&](const Outcome& outcome) {
    return curve(outcome) && outcome.run.backend.empty();
  });
  if (host == outcomes.end()) return {};
  const double wanted = host->record.value("loss_last", 0.0);
  for (const Outcome& outcome : outcomes) {
    if (!curve(outcome)) continue;
    const double got = outcome.record.value("loss_last", 0.0);
    if (std::abs(got - wanted) <= kCurve * std::abs(wanted)) continue;
    return Status::protocol(fmt::format("the last loss of {} is {:.6f}, that of {} {:.6f}",
                                        outcome.run.name, got, host->run.name, wanted));
  }
  return {};
}

}  // namespace dist::bench::gpu
