// SPDX-License-Identifier: Apache-2.0
// The worker's side of the exchange, as tasks for the progress thread: hello, first parameters,
// push of a bucket, pull of a step, bye. A server on the same rank is spoken to without transport.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/compress/error_feedback.h"
#include "libdist/progress.h"
#include "libdist/trace.h"
#include "ps/arrivals.h"
#include "ps/message.h"
#include "ps/packing.h"
#include "ps/push_lanes.h"
#include "ps/server.h"
#include "ps/shard.h"

namespace dist::ps {

struct WorkerOptions {
  Roles roles;
  int worker = 0;
  std::shared_ptr<const ShardMap> map;
  std::string_view strategy_name;
  std::uint64_t layout_hash = 0;
  Duration timeout = std::chrono::seconds(120);
  /// As the servers have it.
  Bytes staging_per_worker = kStagingPerWorker;
  Packing packing{};
  /// The parameters that the forward pass needs first go first; else the pieces go in their order.
  bool priority = true;
};

/// The way to a server on another rank. A header receive is always posted, so that the server can
/// say at any time that it failed. Of the progress thread alone.
class ServerPort {
 public:
  ServerPort(Rank rank, Expectation expected) : rank_(rank), expected_(expected) {}

  int server() const { return expected_.server; }
  Rank rank() const { return rank_; }

  /// Posts the receive of the next header unless one is posted.
  void listen(Transport& transport);

  /// The header that listen() waited for, once it has come.
  Result<std::optional<Header>> hear(Transport& transport);

  /// From now on payloads are not sent: see HostMemory.
  void expect_in_place() { expected_.in_place = true; }

  /// A task expects the next header: nobody else may take it.
  bool awaited = false;

 private:
  const Rank rank_;
  Expectation expected_;
  HeaderBytes incoming_{};
  std::optional<Operation> header_;
};

/// What the tasks of one worker share. The make_ functions may be called on any thread, the rest
/// belongs to the tasks. Arena, trace and worker must outlive all operations of the tasks.
class Worker : public std::enable_shared_from_this<Worker> {
 public:
  /// Before the first task. Memory for what compression loses, if it needs that. Error: resource.
  Status prepare();

  /// `local` is the server on this rank, or null.
  Worker(WorkerOptions options, Arena& arena, Trace& trace, std::shared_ptr<Server> local);

  /// Servers read and write this worker's arena themselves. Before any task is made.
  void use_host_memory();

  /// Greets all servers, compares layouts, and learns where to go on.
  std::unique_ptr<Task> make_hello();
  /// Worker 0: gives every server that has none the first parameters.
  std::unique_ptr<Task> make_initialise();
  /// Sends a bucket's gradients to their servers; they must not change before the step's pull has
  /// ended.
  std::unique_ptr<Task> make_push(std::size_t bucket, std::uint64_t step);
  /// Waits for the parameters with `step` steps of this worker in them; they land in the arena, and
  /// `arrivals` hears of each piece. The backward pass of the step before it is over.
  std::unique_ptr<Task> make_pull(std::uint64_t step, std::shared_ptr<Arrivals> arrivals);
  /// The same with everything in them that other workers still push; this one pushes no more.
  std::unique_ptr<Task> make_final_pull(std::uint64_t step);
  /// Worker 0, or any where they come and go: asks all servers for a checkpoint; `step` steps of
  /// this worker are in it, `number` is its own. Ends when the question has left.
  std::unique_ptr<Task> make_save(std::uint64_t step, std::uint64_t number);
  /// Says that this worker has ended.
  std::unique_ptr<Task> make_bye();

  /// After the greeting: the step with which this worker goes on.
  std::uint64_t first_step() const { return first_step_; }
  /// The step of the checkpoint from which the servers took their parameters, else 0.
  std::uint64_t resumed_at() const { return resumed_at_; }

  // For the tasks.
  void note_welcome(int server, const Header& welcome);
  bool initialised(int server) const { return initialised_[static_cast<std::size_t>(server)]; }
  const WorkerOptions& options() const { return options_; }
  Arena& arena() const { return arena_; }
  Trace& trace() const { return trace_; }
  Server* local() const { return local_.get(); }
  /// By server; null for the local one.
  const std::vector<std::unique_ptr<ServerPort>>& ports() const { return ports_; }
  PushLanes& lanes() { return lanes_; }
  /// How many pieces may overtake another one on the way to a server; see PushOrder.
  std::size_t may_overtake(int server) const;
  /// What was pulled last, by piece.
  std::vector<std::uint64_t>& versions() { return versions_; }
  std::string name_of_server(int server) const;
  /// A failure told with the server it came from.
  Status from(int server, const Status& why) const;
  Header header(Kind kind) const;
  Header piece_header(Kind kind, std::uint32_t piece) const;
  Header push_header(std::uint32_t piece, std::uint64_t step) const;
  /// Gradients of a piece as they travel, where packer().packs() them.
  std::vector<std::byte> pack(std::uint32_t piece);
  Packer& packer() { return packer_; }
  /// What it has kept back of gradients, to be sent with the next ones; between two steps.
  const ErrorFeedback& held_back() const { return feedback_; }
  /// What compression has kept off the wire since the worker was made; exact between two steps.
  Bytes saved() const { return saved_; }
  /// What a server's `failed` means.
  Status told(const ServerPort& port, const Header& failed) const;
  /// The story of a server that failed or went away, or ok. Looks only where nobody awaits.
  Status bad_news(Transport& transport);

 private:
  const WorkerOptions options_;
  Arena& arena_;
  Trace& trace_;
  const std::shared_ptr<Server> local_;
  std::vector<std::unique_ptr<ServerPort>> ports_;
  std::vector<std::uint64_t> versions_;
  Packer packer_;
  ErrorFeedback feedback_;
  Bytes saved_;
  std::uint64_t first_step_ = 0;
  std::uint64_t resumed_at_ = 0;
  std::vector<bool> initialised_;  // by server
  bool in_place_ = false;
  PushLanes lanes_;
};

}  // namespace dist::ps
