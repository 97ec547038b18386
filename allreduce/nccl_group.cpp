// SPDX-License-Identifier: Apache-2.0
// A group over NCCL: a communicator, whose calls come from the thread that enqueues, and a watch,
// whose thread alone aborts it.
#include <fmt/format.h>
#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/device_group.h"
#include "allreduce/device_watch.h"
#include "allreduce/nccl_communicator.h"
#include "libdist/hash.h"

namespace dist::allreduce {
namespace {

// An abort ends in a moment or not at all.
constexpr Duration kAbortGrace = std::chrono::seconds(10);
constexpr Duration kLookInterval = std::chrono::milliseconds(20);
constexpr Duration kShortestLookInterval = std::chrono::milliseconds(1);
// From this version on NCCL can be told to accept several ranks on a GPU.
constexpr int kSharedGpuVersion = 23000;

class NcclGroup final : public DeviceGroup {
 public:
  NcclGroup(Progress& progress, const Options& options, Device& device)
      : progress_(progress),
        device_(device),
        timeout_(options.timeout),
        communicator_(device, options.rank, options.ranks) {}

  // A communicator that is idle hurts nobody.
  ~NcclGroup() override {
    if (communicator_.gone()) return;
    if (watch_ && !watch_->idle()) {
      abort(Status::cancelled("the group was destroyed before close()"));
    } else {
      (void)communicator_.abort(abort_grace());
    }
  }

  // Fails alone; the caller tells the others.
  Status init(const ncclUniqueId& id, Duration timeout) {
    DIST_TRY(communicator_.init(id));
    return communicator_.settle("ncclCommInitRankConfig", timeout, [] { return Status(); });
  }

  // From when all ranks are in.
  void watch() {
    const auto interval = std::clamp<Duration>(timeout_ / 20, kShortestLookInterval, kLookInterval);
    watch_.emplace(device_,
                   DeviceWatchOptions{fmt::format("nccl, rank {} of {}", rank(), ranks()), timeout_,
                                      interval, [this] { return failure_elsewhere(); },
                                      [this](const Status& why) { return end(why); }});
  }

  std::string_view name() const override { return "nccl"; }
  Rank rank() const override { return communicator_.rank(); }
  int ranks() const override { return communicator_.ranks(); }

  Status enqueue(Stream stream, std::span<const DeviceOperation> operations,
                 std::string_view what) override {
    DIST_TRY(watch_->failure());
    for (const DeviceOperation& operation : operations) {
      DIST_TRY_BECAUSE(check_for_nccl(operation), what);
      DIST_ASSERT(operation.data.size() % size_of(operation.dtype) == 0,
                  "device group: not whole elements");
    }
    Status issued = communicator_.issue(stream, operations);
    // Only what is on the stream can be marked.
    if (issued.ok()) issued = communicator_.settle("launch", timeout_, failed());
    if (issued.ok()) issued = watch_->mark(stream, std::string(what));
    return issued.ok() ? issued : watch_->fail(issued.because(what));
  }

  Status wait() override { return watch_->wait(); }
  Status failure() const override { return watch_->failure(); }
  void abort(const Status& why) override { (void)watch_->fail(why); }

  Status close() override {
    DIST_TRY(watch_->wait());
    if (communicator_.gone()) return {};
    Status flushed = communicator_.finalize();
    if (flushed.ok()) flushed = communicator_.settle("ncclCommFinalize", timeout_, failed());
    if (flushed.ok()) flushed = communicator_.destroy(abort_grace());
    return flushed.ok() ? flushed : watch_->fail(flushed.because("leaving the group"));
  }

 private:
  Duration abort_grace() const { return std::min(kAbortGrace, timeout_); }
  std::function<Status()> failed() const {
    return [this] { return watch_->failure(); };
  }

  // On the thread of the watch, like end().
  Status failure_elsewhere() {
    DIST_TRY(progress_.failure());
    return communicator_.late_error();
  }

  Status end(const Status& why) {
    const Status refused = communicator_.abort(abort_grace());
    auto outcome =
        refused.ok() ? why : Status(why.code(), why.message() + "; " + refused.message());
    progress_.cancel(outcome);
    return outcome;
  }

  Progress& progress_;
  Device& device_;
  const Duration timeout_;
  NcclCommunicator communicator_;
  std::optional<DeviceWatch> watch_;  // last: its thread uses all of the above
};

// What every rank learns of all before it calls NCCL, which would wait without end for one that
// cannot come.
struct Introduction {
  std::uint64_t fails = 0;  // has no NCCL or no unique id to offer
  std::uint64_t version = 0;
  std::uint64_t gpu = 0;  // a hash of what names it
};
constexpr std::size_t kIdWords = sizeof(ncclUniqueId) / sizeof(std::uint64_t);
constexpr std::size_t kIntroductionWords = 3;

// Where they meet.
struct Door {
  Progress& progress;
  Trace& trace;
  Rank rank;
  int ranks;
};

Status sum_words(const Door& door, std::span<std::uint64_t> words, std::string_view what) {
  AllReduceOptions task;
  task.data = std::as_writable_bytes(words);
  task.dtype = DType::u64;
  task.rank = door.rank;
  task.ranks = door.ranks;
  task.label = fmt::format("nccl: {}", what);
  return door.progress.run(make_ring_all_reduce(std::move(task), door.trace));
}

Status check_introductions(std::span<const std::uint64_t> words, int ranks) {
  for (Rank r = 0; r < ranks; ++r) {
    const auto* own = &words[kIntroductionWords * static_cast<std::size_t>(r)];
    if (own[0] != 0) return Status::unavailable(fmt::format("nccl: rank {} cannot use it", r));
    if (own[1] != words[1]) {
      return Status::unavailable(fmt::format(
          "nccl: rank {} has version {}, rank 0 has {}; all need the same", r, own[1], words[1]));
    }
    for (Rank other = 0; other < r && own[1] < kSharedGpuVersion; ++other) {
      if (words[kIntroductionWords * static_cast<std::size_t>(other) + 2] != own[2]) continue;
      return Status::unavailable(fmt::format(
          "nccl: ranks {} and {} are on one GPU, which NCCL refuses; start one rank a GPU, or "
          "choose another transport",
          other, r));
    }
  }
  return {};
}

// The unique id that rank 0 made, once everybody is known to be able to use it.
Result<ncclUniqueId> meet(const Door& door, const Device& device) {
  const auto ranks = static_cast<std::size_t>(door.ranks);
  std::vector<std::uint64_t> words(kIntroductionWords * ranks + kIdWords);
  ncclUniqueId id{};
  int version = 0;
  auto own = nccl_status(ncclGetVersion(&version), nullptr, "ncclGetVersion");
  if (own.ok() && door.rank == 0) {
    own = nccl_status(ncclGetUniqueId(&id), nullptr, "ncclGetUniqueId");
    std::memcpy(&words[kIntroductionWords * ranks], &id, sizeof id);
  }
  const Introduction introduction{own.ok() ? 0u : 1u, static_cast<std::uint64_t>(version),
                                  fnv1a(device.uuid())};
  std::memcpy(&words[kIntroductionWords * static_cast<std::size_t>(door.rank)], &introduction,
              sizeof introduction);
  DIST_TRY(sum_words(door, words, "introduction"));
  if (!own.ok()) return own.because(fmt::format("nccl, rank {}", door.rank));
  DIST_TRY(check_introductions(words, door.ranks));
  std::memcpy(&id, &words[kIntroductionWords * ranks], sizeof id);
  return id;
}

}  // namespace

Status nccl_available() { return {}; }

Result<std::unique_ptr<DeviceGroup>> make_nccl_group(Progress& progress, Trace& trace,
                                                     const Options& options, Device& device) {
  const Door door{progress, trace, options.rank, options.ranks};
  const auto id = meet(door, device);
  DIST_TRY(id);
  auto group = std::make_unique<NcclGroup>(progress, options, device);
  const auto made = group->init(*id, std::min(options.connect_timeout, options.timeout));
  std::vector<std::uint64_t> failures(static_cast<std::size_t>(door.ranks));
  failures[static_cast<std::size_t>(door.rank)] = made.ok() ? 0 : 1;
  DIST_TRY(sum_words(door, failures, "agreement on the communicator"));
  DIST_TRY_BECAUSE(made, fmt::format("nccl, rank {} of {}", door.rank, door.ranks));
  const auto failed = std::find(failures.begin(), failures.end(), 1);
  if (failed != failures.end()) {
    return Status::unavailable(
        fmt::format("nccl: rank {} could not join the communicator", failed - failures.begin()));
  }
  group->watch();
  return std::unique_ptr<DeviceGroup>(std::move(group));
}

}  // namespace dist::allreduce
