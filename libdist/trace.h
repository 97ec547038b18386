// SPDX-License-Identifier: Apache-2.0
// What a rank did when: spans written as Chrome / Perfetto JSON, one file a rank.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// What a span was spent with.
enum class Activity : std::uint8_t { compute, wait, send, receive, reduce, update };
/// "compute", "wait", ...
std::string_view name_of(Activity activity);

/// Collects spans. Thread-safe. A disabled trace costs one branch a span.
class Trace {
 public:
  /// Of this rank.
  Trace(Rank rank, bool enabled) : rank_(rank), enabled_(enabled) {}

  /// Whether spans are kept.
  bool enabled() const { return enabled_; }

  /// One span of the calling thread; `bytes` is shown with it when not zero.
  void record(Activity activity, std::string_view name, TimePoint begin, TimePoint end,
              Bytes bytes = {});

  /// Writes {"traceEvents": [...]} with times in microseconds, process = rank, thread = activity.
  /// Open the file in ui.perfetto.dev or chrome://tracing; files of several ranks can be loaded
  /// together.
  Status write(const std::string& path) const;

 private:
  struct Span {
    Activity activity;
    std::string name;
    TimePoint begin;
    TimePoint end;
    Bytes bytes;
  };

  Rank rank_;
  bool enabled_;
  mutable std::mutex mutex_;
  std::vector<Span> spans_;  // guarded by mutex_
};

/// Records from construction to destruction.
class TraceScope {
 public:
  /// `trace` and `name` outlive the scope.
  TraceScope(Trace& trace, Activity activity, std::string_view name, Bytes bytes = {})
      : trace_(trace), activity_(activity), name_(name), bytes_(bytes), begin_(Clock::now()) {}
  ~TraceScope() { trace_.record(activity_, name_, begin_, Clock::now(), bytes_); }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  Trace& trace_;
  Activity activity_;
  std::string_view name_;
  Bytes bytes_;
  TimePoint begin_;
};

}  // namespace dist
