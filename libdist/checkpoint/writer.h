// SPDX-License-Identifier: Apache-2.0
// Writes checkpoints while the training goes on.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "libdist/checkpoint/directory.h"
#include "libdist/checkpoint/layout.h"
#include "libdist/checkpoint/snapshot.h"
#include "libdist/types.h"

namespace dist::checkpoint {

struct WriterOptions {
  int keep = 2;  ///< complete checkpoints that stay
  /// For the other ranks' shards to come, before a checkpoint is given up.
  Duration timeout = std::chrono::seconds(120);
  /// Hears of every failure at once, on the writer's thread; wait() then tells only whether the
  /// last one failed.
  std::function<void(const Status&)> tell{};
};

/// A thread of low priority that writes this rank's shards, and on rank 0 completes checkpoints
/// when the others' shards are there too. All functions are thread-safe.
class Writer final : public Sink {
 public:
  /// What `directory` refers to must outlive the writer.
  Writer(Directory directory, Layout layout, WriterOptions options);

  /// Ends the write that is under way and gives up what waits.
  ~Writer() override;

  void accept(Snapshot snapshot) override;
  bool has_room() const override;
  std::unique_ptr<Source> newest() const override;

  /// Rank 0: completes a checkpoint once its shards are there. Never blocks. One whose shards are
  /// not all there when those of a later one are is passed over.
  void commit(Contents contents);

  /// Blocks until all that was asked for is done; the first failure since the last call (but see
  /// WriterOptions::tell).
  Status wait();

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Commit {
    Contents contents;
    TimePoint deadline;
  };

  void loop();
  void write_next(Lock& lock);
  bool commit_one(Lock& lock);
  void note(const Status& outcome);
  Status write(const Snapshot& snapshot);
  Result<bool> complete(const Commit& commit);
  bool idle() const { return snapshots_.empty() && commits_.empty() && !working_; }

  Directory directory_;
  const Layout layout_;
  const WriterOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::deque<Snapshot> snapshots_;  // guarded by mutex_
  std::deque<Commit> commits_;      // guarded by mutex_
  bool working_ = false;            // guarded by mutex_
  bool stopping_ = false;           // guarded by mutex_
  Status failure_;                  // guarded by mutex_
  std::thread thread_;              // last: it uses all of the above
};

}  // namespace dist::checkpoint
