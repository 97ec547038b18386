// SPDX-License-Identifier: Apache-2.0
// The threads of a server: they run updates of different pieces side by side. A piece belongs to
// one of them at a time; nothing is locked while it computes.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "libdist/transport/transport.h"
#include "ps/store.h"

namespace dist::ps {

/// Filled and emptied by one thread, the owner of the store. The destructor waits for updates that
/// are being computed and forgets the others.
class UpdatePool {
 public:
  /// `threads` = 0: start() computes at once, on the caller's thread. The store outlives this.
  UpdatePool(Store& store, int threads);
  ~UpdatePool();
  UpdatePool(const UpdatePool&) = delete;
  UpdatePool& operator=(const UpdatePool&) = delete;

  /// Whether a thread would begin at once. More can be given: they wait their turn.
  bool has_room() const { return started_ < std::max<std::size_t>(threads_.size(), 1); }

  /// Whether all that was started has been taken back.
  bool idle() const { return started_ == 0; }

  /// Takes an update; when it is computed the transport is woken (Transport::wake()).
  void start(Store::Update update, Transport& transport);

  /// Those that have been computed since the last call, for Store::finish().
  std::vector<Store::Update> take_finished();

 private:
  struct Job {
    Store::Update update;
    Transport* transport;
  };
  void work();

  Store& store_;
  std::size_t started_ = 0;  // not yet taken back; of the owner's thread
  std::mutex mutex_;
  std::condition_variable signal_;
  std::deque<Job> waiting_;  // guarded by mutex_, like all below
  std::vector<Store::Update> finished_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace dist::ps
