// SPDX-License-Identifier: Apache-2.0
// MPI's own all-reduce, polled from the progress thread.
#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <array>
#include <vector>

#include "allreduce/all_reduce.h"
#include "libdist/memory/reduce.h"
#include "libdist/transport/mpi_comm.h"

namespace dist::allreduce {
namespace {

// MPI counts with int; a power of two keeps the parts aligned.
constexpr std::uint64_t kPartElems = 1ull << 30;

// MPI moves only while it is asked.
constexpr Duration kPoll = std::chrono::microseconds(50);

Status mpi_status(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return {};
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return Status::peer_lost(
      fmt::format("{}: {}", what, std::string_view(text.data(), static_cast<std::size_t>(length))));
}

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i8:
      return MPI_INT8_T;
    case DType::i16:
      return MPI_INT16_T;
    case DType::i32:
      return MPI_INT32_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::u8:
      return MPI_UINT8_T;
    case DType::u16:
      return MPI_UINT16_T;
    case DType::u32:
      return MPI_UINT32_T;
    case DType::u64:
      return MPI_UINT64_T;
    case DType::f16:
    case DType::bf16:
      break;
  }
  return MPI_DATATYPE_NULL;
}

// A mean is a sum that is divided where it has arrived.
MPI_Op mpi_operation(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
    case Reduction::mean:
      return MPI_SUM;
    case Reduction::min:
      return MPI_MIN;
    case Reduction::max:
      return MPI_MAX;
    case Reduction::product:
      return MPI_PROD;
  }
  return MPI_OP_NULL;
}

class NativeAllReduce final : public Task {
 public:
  NativeAllReduce(AllReduceOptions options, Trace& trace)
      : options_(std::move(options)), trace_(trace) {}

  Result<Advance> advance(Transport& transport) override {
    const bool first = began_ == TimePoint();
    if (first) {
      began_ = Clock::now();
      DIST_TRY_BECAUSE(start(transport), options_.label);
    }
    int all = 0;
    const int code = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &all,
                                 MPI_STATUSES_IGNORE);
    DIST_TRY_BECAUSE(mpi_status(code, "MPI_Testall"), options_.label);
    if (all == 0) return first ? Advance::moved : Advance::idle;
    if (options_.reduction == Reduction::mean) {
      divide(options_.data, static_cast<std::uint64_t>(options_.ranks), options_.dtype);
    }
    trace_.record(Activity::reduce, options_.label, began_, Clock::now(),
                  Bytes(options_.data.size()));
    return Advance::finished;
  }

  std::string waits_for() const override {
    return fmt::format("{}: MPI_Iallreduce with all ranks", options_.label);
  }

  Duration poll_interval() const override { return kPoll; }

 private:
  Status start(Transport& transport) {
    void* const communicator = mpi_communicator(transport);
    if (communicator == nullptr) {
      return Status::unavailable(
          fmt::format("MPI_Iallreduce needs the transport mpi, this one is {}; choose "
                      "algorithm ring or transport mpi",
                      transport.name()));
    }
    const auto type = mpi_type(options_.dtype);
    if (type == MPI_DATATYPE_NULL) {
      return Status::unavailable(fmt::format("MPI has no element type {}; choose algorithm ring",
                                             name_of(options_.dtype)));
    }
    const auto operation = mpi_operation(options_.reduction);
    const auto elems = options_.data.size() / size_of(options_.dtype);
    for (std::uint64_t first = 0; first < elems; first += kPartElems) {
      const auto part_elems = static_cast<int>(std::min(kPartElems, elems - first));
      requests_.push_back(MPI_REQUEST_NULL);
      const int code = MPI_Iallreduce(
          MPI_IN_PLACE, options_.data.data() + first * size_of(options_.dtype), part_elems, type,
          operation, *static_cast<MPI_Comm*>(communicator), &requests_.back());
      DIST_TRY(mpi_status(code, "MPI_Iallreduce"));
    }
    return {};
  }

  const AllReduceOptions options_;
  Trace& trace_;
  TimePoint began_;
  std::vector<MPI_Request> requests_;
};

}  // namespace

std::unique_ptr<Task> make_native_all_reduce(AllReduceOptions options, Trace& trace) {
  return std::make_unique<NativeAllReduce>(std::move(options), trace);
}

bool native_available(const Transport& transport) { return transport.name() == "mpi"; }

}  // namespace dist::allreduce
