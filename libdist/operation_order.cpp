// SPDX-License-Identifier: Apache-2.0
#include "libdist/operation_order.h"

#include <algorithm>

namespace dist {
namespace {

bool share_a_rank(const std::vector<Rank>& a, const std::vector<Rank>& b) {
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    if (*i == *j) return true;
    *i < *j ? ++i : ++j;
  }
  return false;
}

}  // namespace

Ticket OperationOrder::submit(Progress& progress, std::unique_ptr<Task> task,
                              std::shared_ptr<const std::vector<Rank>> peers,
                              std::vector<Ticket> after) {
  const std::lock_guard lock(mutex_);
  const auto before = earlier(*peers);
  after.insert(after.end(), before.begin(), before.end());
  Ticket ticket = progress.submit(std::move(task), std::move(after));
  in_flight_.push_back({ticket, std::move(peers)});
  return ticket;
}

Status OperationOrder::run(Progress& progress, std::unique_ptr<Task> task,
                           const std::shared_ptr<const std::vector<Rank>>& peers) {
  bool free = false;
  {
    const std::lock_guard lock(mutex_);
    free = earlier(*peers).empty();
  }
  return free ? progress.run(std::move(task)) : submit(progress, std::move(task), peers).wait();
}

// Those in flight that talk to one of `peers`; forgets what has ended.
std::vector<Ticket> OperationOrder::earlier(const std::vector<Rank>& peers) {
  std::erase_if(in_flight_, [](const Entry& entry) { return entry.ticket.finished(); });
  std::vector<Ticket> tickets;
  for (const Entry& entry : in_flight_) {
    if (share_a_rank(*entry.peers, peers)) tickets.push_back(entry.ticket);
  }
  return tickets;
}

}  // namespace dist
