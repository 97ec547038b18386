// SPDX-License-Identifier: Apache-2.0
// One lock for everything: a rank's kernel is a function on a stream of its FakeDevice that waits
// there for the others; the last one to come does the arithmetic for all.
#include "tests/support/fake_nccl.h"

#include <fmt/format.h>
#include <nccl.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "libdist/check.h"
#include "libdist/memory/reduce.h"
#include "tests/support/fake_device.h"

namespace {

using namespace dist;
using test::fake_nccl::Faults;

enum class Kind { all_reduce, reduce_scatter, all_gather, reduce, broadcast, send, receive };
constexpr std::array<const char*, 7> kNames = {
    "all-reduce", "reduce-scatter", "all-gather", "reduce", "broadcast", "send", "receive"};

struct Call {
  Kind kind;
  const std::byte* from;
  std::byte* to;
  std::uint64_t count;
  DType dtype;
  Reduction reduction;
  int peer;

  std::uint64_t bytes() const { return count * size_of(dtype); }
  std::string text() const {
    auto text =
        fmt::format("{} {} {}", kNames[static_cast<std::size_t>(kind)], count, name_of(dtype));
    if (kind == Kind::send || kind == Kind::receive) text += fmt::format(" peer {}", peer);
    if (kind == Kind::reduce || kind == Kind::broadcast) text += fmt::format(" root {}", peer);
    return text;
  }
};

// One collective of one launch, as far as ranks have come to it.
struct Slot {
  std::vector<std::optional<Call>> calls;
  bool done = false;
};

// What the ranks of a communicator share.
struct Meeting {
  int ranks = 0;
  int came = 0;
  int finalized = 0;
  std::map<std::pair<int, std::size_t>, Slot> slots;  // by launch and place in it
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> mail;  // by sender and receiver
};

struct Member {
  std::shared_ptr<Meeting> meeting;
  int rank = 0;
  Faults faults;
  int launch = 0;
  int running = 0;  // kernels on streams
  bool aborted = false;
  bool finalized = false;
  std::optional<TimePoint> fails_at;  // from then on there is an error
  int polls_left = 0;
  std::function<void()> background;  // what puts the launch on the stream
};

struct Global {
  std::mutex mutex;
  std::condition_variable changed;
  // All guarded by mutex.
  std::map<std::string, std::weak_ptr<Meeting>> meetings;
  std::map<ncclComm_t, std::shared_ptr<Member>> members;
  std::map<Rank, Faults> faults;
  std::map<Rank, std::vector<std::string>> launches;
  std::vector<std::string> breaches;
  std::uint64_t ids = 0;
  std::uintptr_t handles = 0;
  bool released = false;
};

Global& global() {
  static Global all;  // NOLINT: NCCL is one to a process
  return all;
}

thread_local Rank this_rank = 0;
thread_local int group_depth = 0;
struct Issued {
  ncclComm_t communicator;
  cudaStream_t stream;
  std::vector<Call> calls;
};
thread_local std::vector<Issued> group;

std::span<std::byte> out(const Call& call, std::uint64_t times = 1) {
  return {call.to, call.bytes() * times};
}

// With the lock held, when all ranks have come.
void compute(Slot& slot) {
  const Call& first = *slot.calls[0];
  const auto ranks = slot.calls.size();
  const auto sources_at = [&](std::uint64_t skip) {
    std::vector<std::span<const std::byte>> sources;
    for (const auto& call : slot.calls) sources.emplace_back(call->from + skip, first.bytes());
    return sources;
  };
  const auto reduce = [&](std::vector<std::span<std::byte>> outs, std::uint64_t skip) {
    reduce_in_order(outs, sources_at(skip), first.dtype, first.reduction);
  };
  switch (first.kind) {
    case Kind::all_reduce: {
      std::vector<std::span<std::byte>> outs;
      for (const auto& call : slot.calls) outs.push_back(out(*call));
      return reduce(outs, 0);
    }
    case Kind::reduce:
      return reduce({out(*slot.calls[static_cast<std::size_t>(first.peer)])}, 0);
    case Kind::reduce_scatter:
      for (std::size_t r = 0; r < ranks; ++r) reduce({out(*slot.calls[r])}, r * first.bytes());
      return;
    case Kind::all_gather:
      for (std::size_t r = 0; r < ranks; ++r) {
        for (const auto& call : slot.calls) {
          std::memmove(call->to + r * first.bytes(), slot.calls[r]->from, first.bytes());
        }
      }
      return;
    case Kind::broadcast:
      for (const auto& call : slot.calls) {
        std::memmove(call->to, slot.calls[static_cast<std::size_t>(first.peer)]->from,
                     first.bytes());
      }
      return;
    case Kind::send:
    case Kind::receive:
      return;
  }
}

bool alike(const Call& a, const Call& b) {
  return a.kind == b.kind && a.count == b.count && a.dtype == b.dtype &&
         a.reduction == b.reduction && a.peer == b.peer;
}

// The kernel of one launch; on the thread of a stream.
void run(const std::shared_ptr<Member>& member, int launch, const std::vector<Call>& calls) {
  Global& all = global();
  std::unique_lock lock(all.mutex);
  Meeting& meeting = *member->meeting;
  const auto wait_for = [&](auto&& condition) {
    all.changed.wait(lock, [&] { return member->aborted || condition(); });
    return !member->aborted;
  };
  const auto body = [&] {
    if (member->aborted) return;
    if (launch == member->faults.hangs_at && !wait_for([] { return false; })) return;
    for (const Call& call : calls) {
      if (call.kind != Kind::send) continue;
      meeting.mail[{member->rank, call.peer}].emplace_back(call.from, call.from + call.bytes());
    }
    all.changed.notify_all();
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const Call& call = calls[i];
      if (call.kind == Kind::send) continue;
      if (call.kind == Kind::receive) {
        auto& box = meeting.mail[{call.peer, member->rank}];
        if (!wait_for([&] { return !box.empty(); })) return;
        if (box.front().size() != call.bytes())
          all.breaches.emplace_back("sizes of a message differ");
        std::memcpy(call.to, box.front().data(), std::min(call.bytes(), box.front().size()));
        box.pop_front();
        continue;
      }
      Slot& slot = meeting.slots[{launch, i}];
      slot.calls.resize(static_cast<std::size_t>(meeting.ranks));
      slot.calls[static_cast<std::size_t>(member->rank)] = call;
      const bool last = std::all_of(slot.calls.begin(), slot.calls.end(),
                                    [](const auto& c) { return c.has_value(); });
      if (last) {
        for (const auto& c : slot.calls) {
          if (!alike(*c, call)) all.breaches.push_back(call.text() + " meets " + c->text());
        }
        if (all.breaches.empty()) compute(slot);
        slot.done = true;
        all.changed.notify_all();
      }
      if (!wait_for([&] { return slot.done; })) {
        // The memory is the caller's again: nobody may compute with it.
        slot.calls[static_cast<std::size_t>(member->rank)].reset();
        return;
      }
    }
  };
  body();
  --member->running;
  all.changed.notify_all();
}

std::shared_ptr<Member> find(ncclComm_t communicator, const char* caller) {
  Global& all = global();
  const auto at = all.members.find(communicator);
  if (at != all.members.end()) return at->second;
  all.breaches.push_back(fmt::format("{}: the communicator is gone", caller));
  return nullptr;
}

ncclResult_t launch(Issued issued) {
  Global& all = global();
  std::unique_lock lock(all.mutex);
  if (all.faults[this_rank].slow_calls) {
    lock.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    lock.lock();
  }
  const auto member = find(issued.communicator, "launch");
  if (member == nullptr) return ncclInvalidArgument;
  if (member->background || member->finalized) all.breaches.emplace_back("launch while busy");
  std::string text;
  for (const Call& call : issued.calls) text += (text.empty() ? "" : ", ") + call.text();
  all.launches[member->rank].push_back(text);
  const int number = member->launch++;
  if (member->faults.late_error_at != Faults::kNever && number >= member->faults.late_error_at) {
    member->fails_at = std::min(member->fails_at.value_or(TimePoint::max()),
                                Clock::now() + member->faults.late_error_after);
  }
  auto put = [member, number, stream = issued.stream, calls = std::move(issued.calls)] {
    test::FakeDevice::enqueue(Stream{stream},
                              [member, number, calls] { run(member, number, calls); });
  };
  ++member->running;
  const bool never = number == member->faults.never_issued_at;
  if (never || member->faults.polls > 0) {
    member->polls_left = never ? std::numeric_limits<int>::max() : member->faults.polls;
    member->background = std::move(put);
    return ncclInProgress;
  }
  lock.unlock();
  put();
  return ncclSuccess;
}

ncclResult_t add(Kind kind, const void* from, void* to, std::uint64_t count, ncclDataType_t type,
                 ncclRedOp_t op, int peer, ncclComm_t communicator, cudaStream_t stream) {
  static const std::map<ncclDataType_t, DType> kTypes = {
      {ncclInt8, DType::i8},      {ncclUint8, DType::u8},    {ncclInt32, DType::i32},
      {ncclUint32, DType::u32},   {ncclInt64, DType::i64},   {ncclUint64, DType::u64},
      {ncclFloat16, DType::f16},  {ncclFloat32, DType::f32}, {ncclFloat64, DType::f64},
      {ncclBfloat16, DType::bf16}};
  static const std::map<ncclRedOp_t, Reduction> kReductions = {{ncclSum, Reduction::sum},
                                                               {ncclProd, Reduction::product},
                                                               {ncclMax, Reduction::max},
                                                               {ncclMin, Reduction::min}};
  DIST_ASSERT(group_depth == 1, "fake nccl: a call outside of a group");
  const Call call{kind,
                  static_cast<const std::byte*>(from),
                  static_cast<std::byte*>(to),
                  count,
                  kTypes.at(type),
                  kReductions.at(op),
                  peer};
  if (group.empty()) group.push_back({communicator, stream, {}});
  if (group[0].communicator != communicator || group[0].stream != stream) return ncclInvalidUsage;
  group[0].calls.push_back(call);
  return ncclSuccess;
}

}  // namespace

namespace dist::test::fake_nccl {

void set_rank(Rank rank) { this_rank = rank; }

void set_faults(Rank rank, Faults faults) {
  const std::lock_guard lock(global().mutex);
  global().faults[rank] = faults;
}

void release() {
  const std::lock_guard lock(global().mutex);
  global().released = true;
  global().changed.notify_all();
}

std::vector<std::string> launches(Rank rank) {
  const std::lock_guard lock(global().mutex);
  return global().launches[rank];
}

std::vector<std::string> breaches() {
  const std::lock_guard lock(global().mutex);
  return global().breaches;
}

int live_communicators() {
  const std::lock_guard lock(global().mutex);
  return static_cast<int>(global().members.size());
}

void reset() {
  Global& all = global();
  const std::lock_guard lock(all.mutex);
  all.faults.clear();
  all.launches.clear();
  all.breaches.clear();
  all.released = false;
}

}  // namespace dist::test::fake_nccl

// The library's own names, as nccl.h declares them.

ncclResult_t ncclGetVersion(int* version) {
  const std::lock_guard lock(global().mutex);
  *version = global().faults[this_rank].version;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(global().mutex);
  std::memset(id, 0, sizeof *id);
  std::memcpy(id->internal, &++global().ids, sizeof global().ids);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  Global& all = global();
  const std::lock_guard lock(all.mutex);
  if (config->blocking != 0) all.breaches.emplace_back("a communicator that blocks");
  if (all.faults[rank].init_fails) return ncclSystemError;
  auto& known = all.meetings[std::string(id.internal, sizeof id.internal)];
  auto meeting = known.lock();
  if (meeting == nullptr) known = meeting = std::make_shared<Meeting>();
  meeting->ranks = ranks;
  meeting->came += all.faults[rank].init_hangs ? 0 : 1;
  auto member = std::make_shared<Member>();
  member->meeting = std::move(meeting);
  member->rank = rank;
  member->faults = all.faults[rank];
  *communicator = reinterpret_cast<ncclComm_t>(++all.handles);  // NOLINT: opaque to callers
  all.members[*communicator] = std::move(member);
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* error) {
  Global& all = global();
  std::unique_lock lock(all.mutex);
  const auto member = find(communicator, "ncclCommGetAsyncError");
  if (member == nullptr) return ncclInvalidArgument;
  const Meeting& meeting = *member->meeting;
  const bool failed = member->fails_at && Clock::now() >= *member->fails_at;
  *error = failed ? ncclRemoteError : ncclSuccess;
  if (failed) return ncclSuccess;
  if (meeting.came < meeting.ranks) *error = ncclInProgress;
  if (member->finalized && meeting.finalized < meeting.ranks) *error = ncclInProgress;
  if (!member->background) return ncclSuccess;
  *error = ncclInProgress;
  if (--member->polls_left > 0) return ncclSuccess;
  const auto put = std::exchange(member->background, nullptr);
  lock.unlock();
  put();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t communicator) {
  Global& all = global();
  const std::lock_guard lock(all.mutex);
  const auto member = find(communicator, "ncclCommFinalize");
  if (member == nullptr) return ncclInvalidArgument;
  if (member->running > 0) all.breaches.emplace_back("finalized with kernels on a stream");
  member->finalized = true;
  ++member->meeting->finalized;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  Global& all = global();
  const std::lock_guard lock(all.mutex);
  const auto member = find(communicator, "ncclCommDestroy");
  if (member == nullptr) return ncclInvalidArgument;
  if (!member->finalized || member->meeting->finalized < member->meeting->ranks) {
    all.breaches.emplace_back("destroyed before it was finalized");
  }
  all.members.erase(communicator);
  return ncclSuccess;
}

// Ends what runs here; the other ranks go on waiting.
ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  Global& all = global();
  std::unique_lock lock(all.mutex);
  const auto member = find(communicator, "ncclCommAbort");
  if (member == nullptr) return ncclInvalidArgument;
  if (member->faults.refuses_abort) all.changed.wait(lock, [&] { return all.released; });
  member->aborted = true;
  if (std::exchange(member->background, nullptr)) --member->running;
  all.changed.notify_all();
  all.members.erase(communicator);
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited" : "an error";
}
const char* ncclGetLastError(ncclComm_t) { return "told by the fake"; }

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  --group_depth;
  auto issued = std::exchange(group, {});
  return issued.empty() ? ncclSuccess : launch(std::move(issued[0]));
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t communicator, cudaStream_t stream) {
  return add(Kind::all_reduce, from, to, count, type, op, 0, communicator, stream);
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t communicator, cudaStream_t stream) {
  return add(Kind::reduce_scatter, from, to, count, type, op, 0, communicator, stream);
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclComm_t communicator, cudaStream_t stream) {
  return add(Kind::all_gather, from, to, count, type, ncclSum, 0, communicator, stream);
}
ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t communicator, cudaStream_t stream) {
  return add(Kind::reduce, from, to, count, type, op, root, communicator, stream);
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t communicator, cudaStream_t stream) {
  return add(Kind::broadcast, from, to, count, type, ncclSum, root, communicator, stream);
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return add(Kind::send, from, nullptr, count, type, ncclSum, peer, communicator, stream);
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t communicator, cudaStream_t stream) {
  return add(Kind::receive, nullptr, to, count, type, ncclSum, peer, communicator, stream);
}
