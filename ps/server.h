// SPDX-License-Identifier: Apache-2.0
// The server: receives contributions, applies them when the policy allows, answers pulls. A state
// machine on the rank's progress thread; it never blocks. How the policies differ it does not know.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/log.h"
#include "libdist/progress.h"
#include "libdist/status.h"
#include "libdist/trace.h"
#include "ps/host_memory.h"
#include "ps/link.h"
#include "ps/message.h"
#include "ps/norm_sum.h"
#include "ps/packing.h"
#include "ps/shard.h"
#include "ps/staging.h"
#include "ps/store.h"
#include "ps/update_pool.h"

namespace dist::ps {

/// Who must be there, and what a loss means.
struct Membership {
  bool elastic = false;  ///< workers come when they come, see Options::elastic
  bool drops = false;    ///< goes on without a worker that is lost
  bool changes() const { return elastic || drops; }
  int min_workers = 0;  ///< elastic: so many must have come before training starts; 0 = all
  /// Elastic: how long it stays without any worker.
  Duration patience = std::chrono::seconds(30);
};

struct ServerOptions {
  Roles roles;
  int server = 0;
  std::shared_ptr<const ShardMap> map;
  Rules rules;
  Update update = Sgd{};
  std::uint64_t layout_hash = 0;
  Duration timeout = std::chrono::seconds(120);
  /// Gradients of one worker that may wait here at once, before its pushes are held up. Without
  /// bound where contributions may be dropped (Rules::may_drop()).
  Bytes staging_per_worker = kStagingPerWorker;
  /// Pieces that the forward pass needs first are summed and sent first; else in their order.
  bool priority = true;
  Packing packing{};
  /// Threads for sums and updates; 0: the progress thread computes them.
  int threads = 0;
  Membership membership = {};
  const Log* log = nullptr;  ///< of who comes and goes; outlives the server
};

/// All but report() belongs to the progress thread once the task has been submitted.
class Server {
 public:
  /// `arena` is the layout, and the memory of the worker on the same rank if there is one: its
  /// gradients are read and its parameters written in place. Arena and trace must outlive the
  /// server's task. Error: resource.
  static Result<std::shared_ptr<Server>> create(ServerOptions options, Arena& arena, Trace& trace);

  /// The task that serves until all workers have ended. It fails when a worker is lost, breaks the
  /// protocol, or holds others back for longer than the timeout; then it first tells the others.
  static std::unique_ptr<Task> make_task(std::shared_ptr<Server> server);

  /// Before the task is submitted. See Strategy::use_checkpoints().
  Status use_checkpoints(checkpoint::Sink* sink, const checkpoint::Source* source);

  /// Before the task is submitted: gradients are read and parameters written where the workers have
  /// them. Where these share one copy of the parameters, it is written when all of them have asked
  /// for the next ones: until then somebody may still read it. `host` outlives the server.
  void use_host_memory(const HostMemory& host);

  /// What was copied to other ranks so. Thread-safe.
  Bytes bytes_placed() const { return Bytes(bytes_placed_.load(std::memory_order_relaxed)); }

  /// The worker on the same rank hands its messages over here, in the order in which it would send
  /// them, and takes the answers; payloads stay in the arena. Called on the progress thread.
  void deliver(const Header& header);
  std::optional<Header> take_answer();

  /// Why this server stops, or ok. It tells others for a moment before its task fails with it.
  const Status& failure() const { return failure_; }

  /// See Store::report(); as of the last pull that was answered. Thread-safe.
  ServerReport report() const;

  /// "server 1 (rank 3)".
  std::string name() const;

  // The task's part.
  Result<Advance> advance(Transport& transport);
  std::string waits_for() const;

 private:
  enum class Stage : std::uint8_t { header, memory, payload, ended };

  struct Pull {
    std::uint64_t step = 0;
    bool final = false;          // answered when nobody contributes any more
    std::vector<bool> answered;  // by piece
    std::size_t left = 0;        // pieces not answered yet
    TimePoint since;             // nothing was answered since then
  };

  // A worker as the server sees it. Its messages: hello; all pieces' init in order (worker 0); pull
  // 0; then steps; between two of them bye, and saves of worker 0. Step t is a push of each piece,
  // once, in any order, and pull t + 1, at any time among them: its answers follow as pieces are
  // applied. The next step begins when the pull was answered whole.
  struct Peer {
    int worker = 0;
    std::unique_ptr<Link> link;  // none for the worker on this rank
    std::deque<Header> inbox;    // of the worker on this rank
    std::deque<Header> outbox;   // to the worker on this rank
    Stage stage = Stage::header;
    Header current;                 // whose payload is awaited
    Staging::Buffer buffer;         // where it lands, unless in the store
    std::vector<std::byte> packed;  // or here, until it is complete and goes there decompressed
    bool present = false;           // connected, and not ended
    bool lost = false;              // not ended, and not connected any more
    std::uint32_t incarnation = 0;
    bool greeted = false;
    bool joining = false;  // greeted, and has not yet said with which step it goes on
    std::size_t next_init = 0;
    std::uint64_t step = 0;    // steps pushed whole
    std::vector<bool> pushed;  // of the step after them, by piece
    std::size_t pushes = 0;    // how many
    std::optional<Pull> pull;
    std::uint64_t pulls_answered = 0;
    bool contributes = true;
    std::uint64_t looked_at = 0;  // changes_ when there was last nothing to answer it
  };

  // Elastic: servers say one byte to each other, when they end; one that goes without it is lost.
  struct OtherServer {
    Rank rank = 0;
    std::unique_ptr<std::byte> word;
    std::optional<Operation> hearing;
  };

  Server(ServerOptions options, Arena& arena, std::unique_ptr<Store> store);
  Status serve(Transport& transport, bool* moved);
  Status serve_peer(Transport& transport, Peer& peer, bool* moved);
  Status receive(Transport& transport, Peer& peer, bool* moved);
  Status receive_local(Transport& transport, Peer& peer, bool* moved);
  Status find_memory(Transport& transport, Peer& peer, bool* moved);
  std::size_t place_of(std::uint32_t piece) const;
  std::size_t by_priority(std::size_t i) const;
  bool in_turn(const Peer& peer, const Header& header) const;
  Status check_turn(const Peer& peer, const Header& header) const;
  Status handle(Transport& transport, Peer& peer, const Header& header);
  Status contribute(Peer& peer, const Header& header);
  void end(Transport& transport, Peer& peer);
  void stop_contributing(Peer& peer);
  void enqueue_ready(std::size_t at);
  void enqueue_all_ready();
  bool update(Transport& transport);
  Status update_by_norms(Transport& transport, bool* moved);
  void ask_to_save(std::uint64_t number);
  void save_if_asked();
  Status answer(Transport& transport, Peer& peer, bool* moved);
  void publish_report();
  void take_first_parameters(const Peer& peer);
  Status place(const Peer& peer, std::size_t at, std::span<const std::byte> payload, bool packed);
  std::span<const std::byte> gradients_of(const Peer& peer, Range range) const;
  std::span<std::byte> parameters_of(const Peer& peer, Range range) const;
  bool writes_in_place() const { return host_ != nullptr && host_->shares_parameters(); }
  bool still_reads(const Peer& peer) const { return peer.stage != Stage::ended && !peer.pull; }
  bool may_write() const;
  Result<bool> give(Transport& transport, Peer& peer, std::size_t at);
  Status reap(Transport& transport, Peer& peer, bool* moved);

  // server_membership.cpp
  std::unique_ptr<Link> make_link(int worker) const;
  void notice_arrival(Transport& transport, Peer& peer, bool* moved);
  void greet(Transport& transport, Peer& peer);
  Status lose(Transport& transport, Peer& peer, const Status& why);
  bool may_lose(const Status& why) const;
  bool may_start() const;
  Status check_company();
  Status watch_servers(Transport& transport);
  Result<Advance> take_leave(Transport& transport);
  int count(bool Peer::*what) const;

  // server_failure.cpp
  Status check_overdue(Transport& transport);
  Status check_norms_overdue() const;
  Status overdue(Transport& transport, const std::vector<int>& missing, Duration waited,
                 const std::string& what);
  std::vector<int> held_up_by(const Peer& peer) const;
  std::string name_workers(const std::vector<int>& workers) const;
  Result<Advance> wind_down(Transport& transport);
  void say_last_words(Transport& transport);

  bool packs(Kind kind, std::size_t at) const;
  bool may_answer(const Peer& peer, std::size_t at) const;
  bool finished() const;
  std::uint32_t piece_id(std::size_t at) const;

  const ServerOptions options_;
  Arena& arena_;
  Packer packer_;
  Staging staging_;  // before store and peers, whose buffers go back to it
  std::unique_ptr<Store> store_;
  const HostMemory* host_ = nullptr;
  std::atomic<std::uint64_t> bytes_placed_ = 0;
  checkpoint::Sink* checkpoint_sink_ = nullptr;
  std::deque<std::uint64_t> saves_asked_;  // by their numbers
  std::uint64_t newest_save_ = 0;          // that was asked for
  std::uint64_t resumed_at_ = 0;           // the step of the checkpoint that parameters came from
  std::vector<std::size_t> replies_in_place_;  // by piece: sends that read its parameters
  std::vector<Peer> peers_;                    // after it, since their links hold the counts
  bool started_ = false;                       // pulls are answered
  TimePoint alone_since_;                      // elastic: without any worker
  std::vector<OtherServer> others_;
  bool leaving_ = false;
  UpdatePool pool_;
  std::set<std::size_t> ready_;  // pieces whose update may be applied
  NormSum norms_;                // where an update needs them
  std::uint64_t changes_ = 1;    // grows when a pull may have become answerable
  TimePoint next_check_;

  // Set by the first failure.
  Status failure_;
  std::uint32_t culprit_ = kNobody;
  std::optional<Rank> lost_server_;
  TimePoint failed_at_;

  mutable std::mutex mutex_;
  ServerReport report_;  // guarded by mutex_
};

}  // namespace dist::ps
