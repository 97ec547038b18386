// SPDX-License-Identifier: Apache-2.0
#include "allreduce/nccl_communicator.h"

#include <fmt/format.h>

#include <future>
#include <memory>
#include <optional>
#include <thread>

namespace dist::allreduce {
namespace {

using Kind = DeviceOperation::Kind;

// What is done in the background takes microseconds but for the first use of a connection.
constexpr int kPollsAtOnce = 200;
constexpr Duration kPollPause = std::chrono::microseconds(50);

// Not owned where somebody else kept it so long. std::timed_mutex would do, but the thread
// sanitizer of gcc 12 does not see it locked.
std::unique_lock<std::mutex> lock_within(std::mutex& mutex, Duration limit) {
  const auto began = Clock::now();
  std::unique_lock lock(mutex, std::try_to_lock);
  while (!lock.owns_lock() && Clock::now() - began < limit) {
    std::this_thread::sleep_for(kPollPause);
    (void)lock.try_lock();
  }
  return lock;
}

std::optional<ncclDataType_t> nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::f16:
      return ncclFloat16;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i8:
      return ncclInt8;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    case DType::u8:
      return ncclUint8;
    case DType::u32:
      return ncclUint32;
    case DType::u64:
      return ncclUint64;
    case DType::i16:
    case DType::u16:
      break;
  }
  return std::nullopt;
}

std::optional<ncclRedOp_t> nccl_reduction(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return ncclSum;
    case Reduction::min:
      return ncclMin;
    case Reduction::max:
      return ncclMax;
    case Reduction::product:
      return ncclProd;
    case Reduction::mean:
      break;
  }
  return std::nullopt;
}

bool reduces(Kind kind) {
  return kind == Kind::all_reduce || kind == Kind::reduce_scatter || kind == Kind::reduce;
}

// What is only copied goes as bytes, so that every element type can.
struct NcclTypes {
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t reduction = ncclSum;
  std::uint64_t size = 1;
};

Result<NcclTypes> nccl_types(const DeviceOperation& operation) {
  if (!reduces(operation.kind)) return NcclTypes{};
  const auto type = nccl_type(operation.dtype);
  if (!type) {
    return Status::unavailable(
        fmt::format("NCCL does not reduce {}; it knows f16, bf16, f32, f64 and integers of 8, 32 "
                    "and 64 bits",
                    name_of(operation.dtype)));
  }
  const auto reduction = nccl_reduction(operation.reduction);
  if (!reduction) {
    return Status::invalid_argument(
        "NCCL: a mean is a sum that is divided by the number of contributions; ask for the sum");
  }
  return NcclTypes{*type, *reduction, size_of(operation.dtype)};
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Calls `body` on a thread of its own and forgets it if it does not come back within `grace`.
bool returns_within(Duration grace, std::function<void()> body) {
  auto done = std::make_shared<std::promise<void>>();
  const auto returned = done->get_future();
  std::thread([body = std::move(body), done] {
    body();
    done->set_value();
  }).detach();
  return returned.wait_for(grace) == std::future_status::ready;
}

Status async_error(ncclComm_t communicator, bool* busy) {
  ncclResult_t state = ncclSuccess;
  const auto asked = ncclCommGetAsyncError(communicator, &state);
  if (asked != ncclSuccess) state = asked;
  *busy = state == ncclInProgress;
  return nccl_status(state, communicator, "ncclCommGetAsyncError");
}

}  // namespace

Status nccl_status(ncclResult_t result, ncclComm_t communicator, std::string_view call) {
  if (result == ncclSuccess || result == ncclInProgress) return {};
  const char* detail = ncclGetLastError(communicator);
  auto message = fmt::format("{}: {}", call, ncclGetErrorString(result));
  if (detail != nullptr && *detail != '\0') message += fmt::format(" ({})", detail);
  switch (result) {
    case ncclRemoteError:
    case ncclSystemError:
      return Status::peer_lost(std::move(message));
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return Status::invalid_argument(std::move(message));
    default:
      return Status::resource(std::move(message));
  }
}

Status check_for_nccl(const DeviceOperation& operation) {
  return detail::as_status(nccl_types(operation));
}

template <typename Body>
Status NcclCommunicator::call(const Body& body) {
  const std::lock_guard lock(calls_);
  const auto communicator = communicator_.load();
  if (communicator == nullptr) return Status::cancelled("the group was aborted");
  return body(communicator);
}

Status NcclCommunicator::init(const ncclUniqueId& id) {
  DIST_TRY(device_.make_current());
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t made = nullptr;
  const auto result = ncclCommInitRankConfig(&made, ranks_, id, rank_, &config);
  communicator_ = made;
  return nccl_status(result, nullptr, "ncclCommInitRankConfig");
}

Status NcclCommunicator::issue(Stream stream, std::span<const DeviceOperation> operations) {
  DIST_TRY(device_.make_current());
  return call([&](ncclComm_t communicator) {
    DIST_TRY(nccl_status(ncclGroupStart(), communicator, "ncclGroupStart"));
    Status issued;
    for (const DeviceOperation& operation : operations) {
      if (issued.ok() && !operation.data.empty()) issued = issue(communicator, stream, operation);
    }
    const auto ended = nccl_status(ncclGroupEnd(), communicator, "ncclGroupEnd");
    return issued.ok() ? ended : issued;
  });
}

Status NcclCommunicator::finalize() {
  return call([](ncclComm_t communicator) {
    return nccl_status(ncclCommFinalize(communicator), communicator, "ncclCommFinalize");
  });
}

Status NcclCommunicator::settle(std::string_view what, Duration timeout,
                                const std::function<Status()>& stop) {
  const auto began = Clock::now();
  for (int polls = 0;; ++polls) {
    bool busy = false;
    DIST_TRY(call([&](ncclComm_t communicator) { return async_error(communicator, &busy); }));
    if (!busy) return {};
    if (Clock::now() - began > timeout) {
      return Status::timed_out(
          fmt::format("{}: NCCL is not done after {} s; a rank has not come to it, or cannot be "
                      "reached",
                      what, seconds(timeout)));
    }
    DIST_TRY(stop());
    polls < kPollsAtOnce ? std::this_thread::yield() : std::this_thread::sleep_for(kPollPause);
  }
}

Status NcclCommunicator::late_error() {
  const std::unique_lock lock(calls_, std::try_to_lock);
  const auto communicator = communicator_.load();
  bool busy = false;
  return lock.owns_lock() && communicator != nullptr ? async_error(communicator, &busy) : Status();
}

Status NcclCommunicator::destroy(Duration grace) {
  return take_away(grace, &ncclCommDestroy, "ncclCommDestroy");
}

Status NcclCommunicator::abort(Duration grace) {
  return take_away(grace, &ncclCommAbort, "ncclCommAbort");
}

Status NcclCommunicator::take_away(Duration grace, ncclResult_t (*free)(ncclComm_t),
                                   std::string_view name) {
  ncclComm_t communicator = nullptr;
  {
    const auto lock = lock_within(calls_, grace);
    communicator = communicator_.exchange(nullptr);
  }
  const auto body = [communicator, free] { (void)free(communicator); };
  if (communicator == nullptr || returns_within(grace, body)) return {};
  return Status::timed_out(fmt::format(
      "{} has not returned after {} s: the GPU may still use the arena, and only the end of this "
      "process frees it",
      name, seconds(grace)));
}

Status NcclCommunicator::issue(ncclComm_t communicator, Stream stream,
                               const DeviceOperation& operation) const {
  const auto types = nccl_types(operation);
  DIST_TRY(types);
  const auto [type, reduction, size] = *types;
  const auto on = static_cast<cudaStream_t>(stream.handle);
  std::byte* const data = operation.data.data();
  const auto elems = operation.data.size() / size;
  const auto peer = operation.peer;
  const auto check = [&](ncclResult_t result) {
    return nccl_status(result, communicator, name_of(operation.kind));
  };
  switch (operation.kind) {
    case Kind::all_reduce:
      return check(ncclAllReduce(data, data, elems, type, reduction, communicator, on));
    case Kind::reduce:
      return check(ncclReduce(data, data, elems, type, reduction, peer, communicator, on));
    case Kind::broadcast:
      return check(ncclBroadcast(data, data, elems, type, peer, communicator, on));
    case Kind::send:
      return check(ncclSend(data, elems, type, peer, communicator, on));
    case Kind::receive:
      return check(ncclRecv(data, elems, type, peer, communicator, on));
    case Kind::reduce_scatter:
    case Kind::all_gather:
      break;
  }
  // NCCL's chunks are equal; what is left over belongs to the last rank's and goes by itself.
  const auto ranks = static_cast<std::uint64_t>(ranks_);
  const auto unit = size_of(operation.dtype);
  const auto chunk = operation.data.size() / unit / ranks * unit;
  const auto rest = operation.data.subspan(chunk * ranks);
  std::byte* const own = data + chunk * static_cast<std::uint64_t>(rank_);
  const bool reduced = operation.kind == Kind::reduce_scatter;
  if (chunk > 0) {
    DIST_TRY(check(
        reduced ? ncclReduceScatter(data, own, chunk / size, type, reduction, communicator, on)
                : ncclAllGather(own, data, chunk / size, type, communicator, on)));
  }
  if (rest.empty()) return {};
  return check(reduced ? ncclReduce(rest.data(), rest.data(), rest.size() / size, type, reduction,
                                    ranks_ - 1, communicator, on)
                       : ncclBroadcast(rest.data(), rest.data(), rest.size() / size, type,
                                       ranks_ - 1, communicator, on));
}

}  // namespace dist::allreduce
