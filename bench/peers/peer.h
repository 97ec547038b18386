// SPDX-License-Identifier: Apache-2.0
// What every opponent in all_reduce_bench is: a rank of a job that does what its control FIFO says.
// Standard library only, so that a peer links nothing but the library it stands for.
//
// Requests, a line each: "allocate BYTES", "run WARMUPS CALLS TOUCHED(0|1)", "check", "release",
// "quit". Replies, a line each: "ready RANK VERSION", "ok", "times NS NS ...", "correct", "wrong
// TEXT", "error TEXT". A rank that waits for a request sleeps in read(); when its starter is gone
// it ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace dist::bench {

/// --control DIR --ranks N [--rank R] [--cores 0,1] [--algorithm A] [--buffers shared|private]
/// [--address A]. Without --rank it is what mpirun put into the environment.
struct PeerArguments {
  std::string control;  ///< directory with to_R, from_R (FIFOs) and flags (shared memory)
  int rank = 0;
  int ranks = 1;
  std::vector<int> cores;  ///< rank r is pinned to cores[r % size]; empty = not pinned
  std::string algorithm;
  std::string buffers = "private";
  std::string address = "127.0.0.1";  ///< where a peer over TCP listens
};

/// Throws std::runtime_error that names the bad argument.
PeerArguments parse_peer_arguments(int argc, char** argv);

/// Pins the calling process (threads that it starts later inherit it) and asks to be ended with its
/// starter. Called before a library starts threads.
void settle(const PeerArguments& arguments);

/// Flags of all ranks, each on its own cache line, in a file that every rank maps.
class SharedFlags {
 public:
  /// `name` is a file of the control directory.
  SharedFlags(const PeerArguments& arguments, const std::string& name);
  ~SharedFlags();
  SharedFlags(const SharedFlags&) = delete;
  SharedFlags& operator=(const SharedFlags&) = delete;

  /// Returns when all ranks have called it equally often. Spins, then yields: the fastest there is
  /// where nothing else wants the core.
  void barrier();

  /// The same, but spins, then sleeps: a library with a thread of its own needs this core for it.
  void meet();

  static std::uint64_t bytes(int ranks);

 private:
  std::atomic<std::uint32_t>& word(int line) const;
  std::atomic<std::uint32_t>& flag(int rank) const { return word(rank); }
  std::atomic<std::uint32_t>& sleepers() const { return word(ranks_); }
  bool behind(int rank) const;

  void* base_ = nullptr;
  int rank_;
  int ranks_;
  int spins_;  ///< none where a rank waits for another one of its core
  std::uint32_t count_ = 0;
};

/// A library as the benchmark sees it. Functions throw std::exception for what went wrong.
class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;

  /// Name and version of the library, on one line.
  virtual std::string version() const = 0;

  /// The buffer of this rank, at least 64-byte aligned. Every rank calls it. The default maps
  /// private memory.
  virtual float* allocate(std::uint64_t elems);
  virtual void release();
  /// In place: every rank's data becomes the sum over all ranks.
  virtual void all_reduce(float* data, std::uint64_t elems) = 0;
  virtual void barrier() = 0;
  /// Where the outcome of all_reduce lies, and its factor on sample().
  virtual const float* outcome(const float* data) const { return data; }
  virtual float outcome_factor(int rank, int ranks) const;

 private:
  void* mapped_ = nullptr;
  std::uint64_t mapped_bytes_ = 0;
};

/// Element i before an all-reduce is (rank + 1) x sample(i): small integers, so sums are exact; the
/// prime period lets no chunk pass for another.
inline constexpr std::uint64_t kSamplePeriod = 4093;
constexpr float sample(std::uint64_t i) { return static_cast<float>(1 + i % kSamplePeriod % 61); }

/// Obeys the control FIFO until "quit" or its end; the exit code of the program.
int serve(Peer& peer, const PeerArguments& arguments);

/// The usual main(): arguments, settle, `make` the peer, serve; exceptions become exit code 1.
int run_peer(int argc, char** argv, int (*body)(const PeerArguments&));

}  // namespace dist::bench
