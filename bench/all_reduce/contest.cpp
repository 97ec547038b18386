// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/contest.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "bench/all_reduce/options.h"
#include "bench/statistics.h"

namespace dist::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kMostCalls = 20'000;
constexpr int kMostWarmups = 100;

struct Entry {
  Contestant* contestant = nullptr;
  std::string failure;
  int calls = 1;
  std::vector<double> times_us;  ///< of this size and mode
};

class Contest {
 public:
  Contest(const std::vector<Contestant*>& contestants, const ContestRules& rules) : rules_(rules) {
    for (Contestant* each : contestants) entries_.push_back({each, "", 1, {}});
  }

  /// False when it was stopped.
  bool hold_size(std::uint64_t bytes, const std::function<void(const Measurement&)>& on_measured);

 private:
  bool stopped() const { return rules_.stop && rules_.stop(); }
  void note(Entry& entry, const Status& status);
  void calibrate(Entry& entry, bool touched);
  void turn(Entry& entry, bool touched);
  bool rounds(std::uint64_t bytes, bool touched);
  // Runs `act` with buffers: those that are held, or its own for this while.
  template <typename Act>
  void with_buffers(Entry& entry, const Act& act);
  Measurement outcome(Entry& entry, std::uint64_t bytes, bool touched) const;
  void check(Entry& entry, std::string* wrong);

  const ContestRules& rules_;
  std::vector<Entry> entries_;
  std::uint64_t bytes_ = 0;
  bool held_ = true;
};

void Contest::note(Entry& entry, const Status& status) {
  if (status.ok() || !entry.failure.empty()) return;
  entry.failure = status.message();
  entry.contestant->end();  // its ranks may be spinning for each other
}

template <typename Act>
void Contest::with_buffers(Entry& entry, const Act& act) {
  if (!entry.failure.empty()) return;
  if (!held_) note(entry, entry.contestant->allocate(bytes_));
  if (entry.failure.empty()) act();
  if (!held_ && entry.failure.empty()) note(entry, entry.contestant->release());
}

// Longer and longer probes until one lasts long enough to tell a call's time, its own refill of the
// buffer included.
void Contest::calibrate(Entry& entry, bool touched) {
  with_buffers(entry, [&] {
    for (int calls = 1;; calls *= 10) {
      const auto start = Clock::now();
      auto times = entry.contestant->run(1, calls, touched);
      if (!times.ok()) return note(entry, times.status());
      const double us = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
      if (us > 250 * rules_.turn_ms || calls >= 1000) {
        entry.calls = calls_of_turn(rules_.turn_ms, us / (calls + 1));
        return;
      }
    }
  });
}

void Contest::turn(Entry& entry, bool touched) {
  with_buffers(entry, [&] {
    const int warmups = std::clamp(entry.calls / 10, 1, kMostWarmups);
    auto times = entry.contestant->run(warmups, entry.calls, touched);
    if (!times.ok()) return note(entry, times.status());
    entry.times_us.insert(entry.times_us.end(), times->begin(), times->end());
  });
}

bool Contest::rounds(std::uint64_t bytes, bool touched) {
  for (Entry& entry : entries_) {
    entry.times_us.clear();
    calibrate(entry, touched);
    if (stopped()) return false;
  }
  for (int round = 0; round < rules_.rounds; ++round) {
    if (rules_.progress) {
      const JobSpec& spec = entries_.front().contestant->spec();
      rules_.progress(fmt::format("{}, {} ranks, {}, {}", spec.contest, spec.ranks,
                                  size_text(bytes), touched ? "touched" : "untouched"),
                      round);
    }
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      // Another one begins each round, and the direction turns: nobody has the same one before it.
      const std::size_t step = round % 2 == 0 ? i : entries_.size() - 1 - i;
      turn(entries_[(step + static_cast<std::size_t>(round)) % entries_.size()], touched);
      if (stopped()) return false;
    }
  }
  return true;
}

Measurement Contest::outcome(Entry& entry, std::uint64_t bytes, bool touched) const {
  Measurement out;
  out.spec = entry.contestant->spec();
  out.bytes = bytes;
  out.touched = touched;
  out.failure = entry.failure;
  if (!entry.failure.empty() || entry.times_us.empty()) return out;
  out.calls = entry.times_us.size();
  out.time_us_min = *std::min_element(entry.times_us.begin(), entry.times_us.end());
  out.time_us_median = median(std::move(entry.times_us));
  return out;
}

void Contest::check(Entry& entry, std::string* wrong) {
  with_buffers(entry, [&] {
    auto found = entry.contestant->check();
    if (!found.ok()) return note(entry, found.status());
    *wrong = *found;
  });
}

bool Contest::hold_size(std::uint64_t bytes,
                        const std::function<void(const Measurement&)>& on_measured) {
  bytes_ = bytes;
  std::vector<Contestant*> alive;
  for (const Entry& entry : entries_) {
    if (entry.failure.empty()) alive.push_back(entry.contestant);
  }
  held_ = memory_needed(alive, bytes) <= rules_.memory_bytes;
  for (Entry& entry : entries_) {
    if (held_ && entry.failure.empty()) note(entry, entry.contestant->allocate(bytes));
  }
  std::vector<std::vector<Measurement>> outcomes;
  for (const bool touched : rules_.touched) {
    if (!rounds(bytes, touched)) return false;
    outcomes.emplace_back();
    for (Entry& entry : entries_) outcomes.back().push_back(outcome(entry, bytes, touched));
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    std::string wrong;
    check(entries_[i], &wrong);
    if (held_ && entries_[i].failure.empty()) note(entries_[i], entries_[i].contestant->release());
    for (auto& mode : outcomes) {
      if (mode[i].failure.empty()) mode[i].failure = entries_[i].failure;
      mode[i].correct = mode[i].failure.empty() && wrong.empty();
      if (!wrong.empty()) mode[i].failure = "wrong sum: " + wrong;
    }
  }
  for (const auto& mode : outcomes) {
    for (const Measurement& each : mode) on_measured(each);
  }
  return true;
}

}  // namespace

double algorithm_bandwidth(const Measurement& measurement) {
  if (measurement.time_us_median <= 0) return 0;
  return static_cast<double>(measurement.bytes) / measurement.time_us_median * 1e6;
}

double bus_bandwidth(const Measurement& measurement) {
  const double ranks = measurement.spec.ranks;
  return algorithm_bandwidth(measurement) * 2 * (ranks - 1) / ranks;
}

int calls_of_turn(double turn_ms, double call_us) {
  if (call_us <= 0) return kMostCalls;
  return static_cast<int>(std::clamp(turn_ms * 1000 / call_us, 1.0, double{kMostCalls}));
}

std::uint64_t memory_needed(const std::vector<Contestant*>& contestants, std::uint64_t bytes) {
  std::uint64_t buffers = 0;
  for (const Contestant* each : contestants) {
    buffers += 2 * static_cast<std::uint64_t>(each->spec().ranks);
  }
  return buffers * bytes;
}

void hold_contest(const std::vector<Contestant*>& contestants, const ContestRules& rules,
                  const std::function<void(const Measurement&)>& on_measured) {
  if (contestants.empty()) return;
  Contest contest(contestants, rules);
  for (const std::uint64_t bytes : rules.bytes) {
    if (!contest.hold_size(bytes, on_measured)) return;
  }
}

}  // namespace dist::bench
