// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/mpi.h"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "libdist/transport/doorbell.h"
#include "libdist/transport/mpi_comm.h"
#include "libdist/transport/mpi_process.h"
#include "libdist/transport/operation_table.h"

namespace dist {
namespace {

// MPI counts in int: larger messages travel in pieces.
constexpr std::size_t kPieceBytes = std::size_t{1} << 30;
constexpr Duration kSpin = std::chrono::microseconds(100);
constexpr Duration kSpinCrowded = std::chrono::microseconds(4);
// Callers may say "for ever"; a point in time cannot.
constexpr Duration kLongestIdle = std::chrono::hours(1);
// MPI tells nobody that something has come, so a waiting rank must look again and again.
constexpr Duration kShortestNap = std::chrono::microseconds(20);
constexpr Duration kLongestNap = std::chrono::milliseconds(1);

std::string text_of(int error) {
  char text[MPI_MAX_ERROR_STRING] = "unknown error";
  int length = 0;
  MPI_Error_string(error, text, &length);
  return text;
}

class MpiTransport final : public Transport {
 public:
  MpiTransport(std::unique_ptr<MpiUse> use, MPI_Comm communicator, Rank rank, int ranks)
      : use_(std::move(use)),
        communicator_(communicator),
        rank_(rank),
        ranks_(ranks),
        spin_(2u * static_cast<unsigned>(ranks) <= std::thread::hardware_concurrency()
                  ? kSpin
                  : kSpinCrowded) {}
  ~MpiTransport() override { close(Duration::zero()); }

  std::string_view name() const override { return "mpi"; }
  Rank rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  TransferCounters counters() const override { return counters_; }
  bool finished(Operation operation) const override { return operations_.finished(operation); }
  Status take(Operation operation) override { return operations_.take(operation); }

  Operation send(Rank to, Channel channel, std::span<const std::byte> bytes) override;
  Operation receive(Rank from, Channel channel, std::span<std::byte> bytes) override;
  void progress(Duration idle) override;
  void wake() override;
  void close(Duration grace) override;

  MPI_Comm* communicator() { return &communicator_; }

 private:
  struct Message {
    bool receives = false;
    Rank peer = 0;
    Channel channel = Channel::collective;
    std::size_t bytes = 0;
    std::size_t pieces_left = 0;
    Status failure = {};
  };
  struct Piece {
    Operation operation;
    std::size_t bytes = 0;
  };

  Operation start(Message message);
  // Calls post(offset, count, request) for each piece; MPI keeps their order.
  template <typename Post>
  void post_pieces(Operation operation, std::size_t bytes, Post post);
  bool test_all();
  void settle(const Piece& piece, int error, const MPI_Status& status);
  void finish(Operation operation);
  Status judge(const Message& message, const Piece& piece, int error, const MPI_Status& status);
  bool nap(Duration limit);
  void cancel_receives(TimePoint deadline);

  std::unique_ptr<MpiUse> use_;
  MPI_Comm communicator_;
  Rank rank_;
  int ranks_;
  Duration spin_;
  bool closed_ = false;
  bool broken_ = false;  // MPI itself has failed: nothing collective any more
  OperationTable operations_;
  TransferCounters counters_;
  std::unordered_map<std::uint64_t, Message> messages_;  // in flight, by operation
  std::vector<MPI_Request> requests_;
  std::vector<Piece> pieces_;  // of requests_, index by index
  std::vector<int> completed_;
  std::vector<MPI_Status> statuses_;
  Duration nap_ = kShortestNap;
  std::mutex mutex_;
  std::condition_variable woken_signal_;
  bool woken_ = false;  // guarded by mutex_
};

Operation MpiTransport::start(Message message) {
  DIST_ASSERT(message.peer >= 0 && message.peer < ranks_ && message.peer != rank_, "no such peer");
  const Operation operation = operations_.add();
  message.pieces_left = std::max<std::size_t>(1, (message.bytes + kPieceBytes - 1) / kPieceBytes);
  if (closed_) message.failure = Status::cancelled("this rank has closed the transport");
  messages_.emplace(operation.id, std::move(message));
  nap_ = kShortestNap;
  if (closed_) finish(operation);
  return operation;
}

template <typename Post>
void MpiTransport::post_pieces(Operation operation, std::size_t bytes, Post post) {
  if (closed_) return;
  std::size_t at = 0;
  do {
    const auto piece_bytes = std::min(kPieceBytes, bytes - at);
    MPI_Request request = MPI_REQUEST_NULL;
    const int error = post(at, static_cast<int>(piece_bytes), &request);
    if (error != MPI_SUCCESS) {
      settle({operation, piece_bytes}, error, MPI_Status{});
    } else {
      requests_.push_back(request);
      pieces_.push_back({operation, piece_bytes});
    }
    at += piece_bytes;
  } while (at < bytes);
}

Operation MpiTransport::send(Rank to, Channel channel, std::span<const std::byte> bytes) {
  const auto operation =
      start({.receives = false, .peer = to, .channel = channel, .bytes = bytes.size()});
  post_pieces(operation, bytes.size(), [&](std::size_t at, int count, MPI_Request* request) {
    return MPI_Isend(bytes.data() + at, count, MPI_BYTE, to, static_cast<int>(channel),
                     communicator_, request);
  });
  return operation;
}

Operation MpiTransport::receive(Rank from, Channel channel, std::span<std::byte> bytes) {
  const auto operation =
      start({.receives = true, .peer = from, .channel = channel, .bytes = bytes.size()});
  post_pieces(operation, bytes.size(), [&](std::size_t at, int count, MPI_Request* request) {
    return MPI_Irecv(bytes.data() + at, count, MPI_BYTE, from, static_cast<int>(channel),
                     communicator_, request);
  });
  return operation;
}

// Ends what MPI says has ended; true if anything has.
bool MpiTransport::test_all() {
  if (requests_.empty()) return false;
  completed_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int count = 0;
  const int error = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                 completed_.data(), statuses_.data());
  if (error != MPI_SUCCESS && error != MPI_ERR_IN_STATUS) {
    const auto failed = std::exchange(pieces_, {});
    requests_.clear();
    for (const Piece& piece : failed) settle(piece, error, MPI_Status{});
    return true;
  }
  if (count == MPI_UNDEFINED || count == 0) return false;
  for (int i = 0; i < count; ++i) {
    const auto& status = statuses_[static_cast<std::size_t>(i)];
    settle(pieces_[static_cast<std::size_t>(completed_[static_cast<std::size_t>(i)])],
           error == MPI_ERR_IN_STATUS ? status.MPI_ERROR : MPI_SUCCESS, status);
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    requests_[kept] = requests_[i];
    pieces_[kept] = pieces_[i];
    ++kept;
  }
  requests_.resize(kept);
  pieces_.resize(kept);
  return true;
}

Status MpiTransport::judge(const Message& message, const Piece& piece, int error,
                           const MPI_Status& status) {
  int error_class = error;
  if (error != MPI_SUCCESS) MPI_Error_class(error, &error_class);
  if (error_class == MPI_ERR_TRUNCATE) {
    return Status::protocol(fmt::format("rank {} sent a message of more than the {} bytes expected",
                                        message.peer, message.bytes));
  }
  if (error != MPI_SUCCESS) {
    broken_ = true;
    return Status::peer_lost(fmt::format("rank {}: {}", message.peer, text_of(error)));
  }
  if (!message.receives) return {};
  int count = 0;
  MPI_Get_count(&status, MPI_BYTE, &count);
  if (count == static_cast<int>(piece.bytes)) return {};
  return Status::protocol(
      fmt::format("rank {} sent a message of {} bytes where {} were expected", message.peer,
                  message.bytes - piece.bytes + static_cast<std::size_t>(count), message.bytes));
}

void MpiTransport::settle(const Piece& piece, int error, const MPI_Status& status) {
  Message& message = messages_.at(piece.operation.id);
  const auto outcome = judge(message, piece, error, status);
  if (message.failure.ok()) message.failure = outcome;
  if (outcome.ok()) {
    (message.receives ? counters_.received : counters_.sent) += Bytes(piece.bytes);
  }
  if (--message.pieces_left == 0) finish(piece.operation);
}

void MpiTransport::finish(Operation operation) {
  const auto found = messages_.find(operation.id);
  const Message& message = found->second;
  if (message.failure.ok()) {
    ++(message.receives ? counters_.messages_received : counters_.messages_sent);
  }
  operations_.finish(
      operation, message.failure.because(fmt::format(
                     "{} of {} bytes {} rank {} on {} -> mpi",
                     message.receives ? "receive" : "send", message.bytes,
                     message.receives ? "from" : "to", message.peer, name_of(message.channel))));
  messages_.erase(found);
}

// Sleeps; true if woken by wake().
bool MpiTransport::nap(Duration limit) {
  std::unique_lock lock(mutex_);
  woken_signal_.wait_for(lock, std::min(nap_, limit), [&] { return woken_; });
  nap_ = woken_ ? kShortestNap : std::min(2 * nap_, kLongestNap);
  return std::exchange(woken_, false);
}

// With nothing of its own in flight it returns after one nap, so that a caller that has something
// else in flight on the communicator (MPI_Iallreduce) can look at it.
void MpiTransport::progress(Duration idle) {
  const auto start = Clock::now();
  const auto end = start + std::min(idle, kLongestIdle);
  const auto spin_end = std::min(end, start + spin_);
  for (;;) {
    if (test_all()) {
      nap_ = kShortestNap;
      return;
    }
    const auto now = Clock::now();
    if (now >= end) return;
    if (now < spin_end && !requests_.empty()) {
      pause_briefly();
    } else if (nap(end - now) || requests_.empty()) {
      return;
    }
  }
}

void MpiTransport::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  woken_signal_.notify_all();
}

// Another world of this process may go on driving MPI, which must not write into memory that this
// one has given back. Sends cannot be cancelled; MPI only reads there.
void MpiTransport::cancel_receives(TimePoint deadline) {
  std::vector<MPI_Request> receives;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (!messages_.at(pieces_[i].operation.id).receives) continue;
    MPI_Cancel(&requests_[i]);
    receives.push_back(requests_[i]);
  }
  int done = 0;
  do {
    MPI_Testall(static_cast<int>(receives.size()), receives.data(), &done, MPI_STATUSES_IGNORE);
  } while (done == 0 && Clock::now() < deadline);
}

// Operations in flight mean that this rank gives up while others may go on: then nothing collective
// may be called, since the others do not join in.
void MpiTransport::close(Duration grace) {
  if (closed_) return;
  closed_ = true;
  const bool quiet = messages_.empty() && !broken_;
  if (!broken_) cancel_receives(Clock::now() + grace);
  while (!messages_.empty()) {
    auto& [id, message] = *messages_.begin();
    message.failure = Status::cancelled("this rank has closed the transport");
    finish({id});
  }
  requests_.clear();
  pieces_.clear();
  if (quiet) {
    MPI_Comm_free(&communicator_);
  } else {
    use_->give_up();
  }
}

Status check_start(const Options& options) {
  if (MpiUse::initialised() || options.ranks == 1) return {};
  if (options.launcher == Launcher::none || options.launcher == Launcher::distrun) {
    return Status::invalid_argument(
        fmt::format("mpi: {} ranks were not started by mpirun (but by: {}); start them with "
                    "mpirun -n {}, or choose shm or tcp",
                    options.ranks, name_of(options.launcher), options.ranks));
  }
  return {};
}

}  // namespace

bool mpi_available() { return true; }

Result<std::unique_ptr<Transport>> open_mpi(const Options& options) {
  DIST_TRY(options.validate());
  DIST_TRY(check_start(options));
  auto use = MpiUse::begin();
  DIST_TRY(use);
  int rank = 0;
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (rank != options.rank || ranks != options.ranks) {
    if (ranks > 1) (*use)->give_up();
    return Status::invalid_argument(
        fmt::format("mpi: MPI says rank {} of {}, the options say rank {} of {}; start all ranks "
                    "with one mpirun",
                    rank, ranks, options.rank, options.ranks));
  }
  MPI_Comm communicator = MPI_COMM_NULL;
  int error = MPI_Comm_dup(MPI_COMM_WORLD, &communicator);
  if (error == MPI_SUCCESS) error = MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN);
  if (error != MPI_SUCCESS) {
    (*use)->give_up();
    return Status::resource(fmt::format("mpi: cannot make a communicator: {}", text_of(error)));
  }
  return std::unique_ptr<Transport>(
      std::make_unique<MpiTransport>(*std::move(use), communicator, rank, ranks));
}

void* mpi_communicator(Transport& transport) {
  auto* mpi = dynamic_cast<MpiTransport*>(&transport);
  return mpi != nullptr ? mpi->communicator() : nullptr;
}

}  // namespace dist
