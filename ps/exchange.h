// SPDX-License-Identifier: Apache-2.0
// What all tasks of a worker have in common: messages on their way, when to fail and how to tell
// it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libdist/progress.h"
#include "libdist/trace.h"
#include "ps/message.h"
#include "ps/worker.h"

namespace dist::ps {

/// Messages on their way to servers.
class SendList {
 public:
  void send(Transport& transport, const ServerPort& port, const Header& header,
            std::span<const std::byte> payload);

  /// Forgets what has left.
  Status advance(Transport& transport, const Worker& worker, bool* moved);

  bool empty() const { return sends_.empty(); }
  int first_server() const { return sends_.front().server; }

 private:
  struct Sending {
    Operation operation;
    int server;
  };
  std::vector<std::unique_ptr<HeaderBytes>> headers_;  // pointers: the transport reads them
  std::vector<Sending> sends_;
};

/// A task of a worker: starts once, then steps until it is complete and all it sent has left.
class Exchange : public Task {
 public:
  Result<Advance> advance(Transport& transport) final;
  std::string waits_for() const final;
  /// It keeps its own: a server that runs out of patience knows whom to blame and speaks first.
  bool has_deadline() const final { return false; }

 protected:
  /// `what` tells it in errors and traces: "push of bucket 3, step 12".
  Exchange(std::shared_ptr<Worker> worker, Activity activity, std::string what);

  virtual void start(Transport& transport) = 0;
  virtual Status step(Transport& /*transport*/, bool* /*moved*/) { return {}; }
  virtual bool complete() const { return true; }
  /// Whether it may wait as long as the servers live.
  virtual bool patient() const { return false; }
  /// A server whose answer is due.
  virtual int next_server() const { return 0; }

  /// Sends, or hands over to the server on this rank. The payload stays where it is if the header
  /// says that none follows, and in the arena for the server on this rank.
  void send(Transport& transport, int server, const Header& header,
            std::span<const std::byte> payload = {});

  const ShardMap& map() const { return *worker_->options().map; }

  const std::shared_ptr<Worker> worker_;
  Bytes bytes_;  // for the trace

 private:
  Status work(Transport& transport, bool* moved);
  Result<Advance> linger() const;
  std::string title() const;
  int awaited_server() const { return sends_.empty() ? next_server() : sends_.first_server(); }

  const Activity activity_;
  const std::string what_;
  SendList sends_;
  std::optional<TimePoint> begun_;
  TimePoint last_moved_;
  Status failure_;
  TimePoint failed_at_;
};

}  // namespace dist::ps
