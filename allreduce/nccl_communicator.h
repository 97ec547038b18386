// SPDX-License-Identifier: Apache-2.0
// Internal to nccl_group.cpp: a communicator of NCCL that never blocks. Every call may leave work
// to NCCL's own threads, and is asked after until that is done or a deadline has passed.
#pragma once

#include <nccl.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <span>
#include <string_view>

#include "allreduce/device_group.h"
#include "libdist/memory/device.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::allreduce {

/// Ok for ncclSuccess and ncclInProgress.
Status nccl_status(ncclResult_t result, ncclComm_t communicator, std::string_view call);

/// Whether NCCL has what the operation needs. Errors: unavailable, invalid_argument.
Status check_for_nccl(const DeviceOperation& operation);

/// Calls come from several threads, one at a time in NCCL; who frees the communicator takes it away
/// from all others first. To be freed by its owner.
class NcclCommunicator {
 public:
  NcclCommunicator(Device& device, Rank rank, int ranks)
      : device_(device), rank_(rank), ranks_(ranks) {}
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  Rank rank() const { return rank_; }
  int ranks() const { return ranks_; }
  bool gone() const { return communicator_.load() == nullptr; }

  /// Begins to meet the others; settle() ends it.
  Status init(const ncclUniqueId& id);

  /// Begins to put the operations on the stream, as one launch; settle() ends it.
  Status issue(Stream stream, std::span<const DeviceOperation> operations);

  /// Begins to wait for all ranks' operations; settle() ends it, destroy() follows.
  Status finalize();

  /// Returns when NCCL has nothing left to do in the background, or `stop` has an error.
  Status settle(std::string_view what, Duration timeout, const std::function<Status()>& stop);

  /// An error that shows by itself. Does not wait for a call that is under way.
  Status late_error();

  Status destroy(Duration grace);

  /// Ends what is in flight, here alone. Waits for a call that is under way, but not for long: one
  /// that hangs is what an abort is for. Error: timed_out, where NCCL does not come back.
  Status abort(Duration grace);

 private:
  template <typename Body>
  Status call(const Body& body);
  Status take_away(Duration grace, ncclResult_t (*free)(ncclComm_t), std::string_view name);
  Status issue(ncclComm_t communicator, Stream stream, const DeviceOperation& operation) const;

  Device& device_;
  const Rank rank_;
  const int ranks_;
  std::mutex calls_;  // of NCCL with this communicator
  std::atomic<ncclComm_t> communicator_ = nullptr;
};

}  // namespace dist::allreduce
