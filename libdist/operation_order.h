// SPDX-License-Identifier: Apache-2.0
// Operations of several groups or strategies over one transport. Between two ranks messages travel
// in order, so two operations that share a pair of ranks must not interleave; others run side by
// side.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "libdist/progress.h"
#include "libdist/types.h"

namespace dist {

class OperationOrder {
 public:
  /// Hands the task to the driver; it starts when all earlier operations that talk to one of the
  /// same peers, and the tickets of `after`, have ended. `peers`: ascending, without the own rank.
  /// Thread-safe; what different threads submit at once has no order.
  Ticket submit(Progress& progress, std::unique_ptr<Task> task,
                std::shared_ptr<const std::vector<Rank>> peers, std::vector<Ticket> after = {});

  /// submit() and wait in one; at no more cost than Progress::run() where nothing is in the way.
  Status run(Progress& progress, std::unique_ptr<Task> task,
             const std::shared_ptr<const std::vector<Rank>>& peers);

 private:
  struct Entry {
    Ticket ticket;
    std::shared_ptr<const std::vector<Rank>> peers;
  };

  std::vector<Ticket> earlier(const std::vector<Rank>& peers);

  std::mutex mutex_;
  std::vector<Entry> in_flight_;  // guarded by mutex_
};

}  // namespace dist
