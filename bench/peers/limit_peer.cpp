// SPDX-License-Identifier: Apache-2.0
// The machine's own limit: all buffers in one mapping that every rank reaches. "sweep": each rank
// sums its share of all buffers and stores into all, between two rounds of flags. "memcpy": each
// rank copies its buffer once.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "bench/peers/peer.h"

namespace dist::bench {
namespace {

constexpr std::uint64_t kLineElems = 16;

template <int kRanks>
[[gnu::always_inline]] inline void sweep(float* const* sources, std::uint64_t begin,
                                         std::uint64_t end) {
  std::array<float* __restrict, kRanks> at;
  for (std::size_t r = 0; r < kRanks; ++r) at[r] = sources[r];
#pragma GCC ivdep
  for (std::uint64_t i = begin; i < end; ++i) {
    float sum = at[0][i];
    for (std::size_t r = 1; r < kRanks; ++r) sum += at[r][i];
    for (std::size_t r = 0; r < kRanks; ++r) at[r][i] = sum;
  }
}

// The widest registers of the machine that runs it.
#define DIST_CLONES [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
DIST_CLONES void sweep_of_2(float* const* sources, std::uint64_t begin, std::uint64_t end) {
  sweep<2>(sources, begin, end);
}
DIST_CLONES void sweep_of_4(float* const* sources, std::uint64_t begin, std::uint64_t end) {
  sweep<4>(sources, begin, end);
}
DIST_CLONES void sweep_of_8(float* const* sources, std::uint64_t begin, std::uint64_t end) {
  sweep<8>(sources, begin, end);
}
// Any other count: adds buffer after buffer, a cache-sized piece at a time.
DIST_CLONES void sweep_of_any(float* const* sources, int ranks, std::uint64_t begin,
                              std::uint64_t end) {
  constexpr std::uint64_t kPieceElems = 1024;
  std::array<float, kPieceElems> sums;
  for (std::uint64_t at = begin; at < end; at += kPieceElems) {
    const auto count = std::min(kPieceElems, end - at);
    std::memcpy(sums.data(), sources[0] + at, count * sizeof(float));
    for (int r = 1; r < ranks; ++r) {
      for (std::uint64_t i = 0; i < count; ++i) sums[i] += sources[r][at + i];
    }
    for (int r = 0; r < ranks; ++r)
      std::memcpy(sources[r] + at, sums.data(), count * sizeof(float));
  }
}
#undef DIST_CLONES

class LimitPeer : public Peer {
 public:
  explicit LimitPeer(const PeerArguments& arguments)
      : arguments_(arguments), flags_(arguments, "limit") {}
  ~LimitPeer() override { LimitPeer::release(); }

  std::string version() const override { return "limit sweep"; }

  float* allocate(std::uint64_t elems) override {
    const std::string path = arguments_.control + "/arena";
    const std::uint64_t pages = (elems * sizeof(float) + 4095) / 4096;
    stride_elems_ = pages * 4096 / sizeof(float);
    bytes_ = pages * 4096 * static_cast<std::uint64_t>(arguments_.ranks);
    if (arguments_.rank == 0) {
      const int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      if (file < 0 || ftruncate(file, static_cast<off_t>(bytes_)) != 0) {
        throw std::runtime_error("cannot make " + path);
      }
      close(file);
    }
    flags_.barrier();
    const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    void* base = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (base == MAP_FAILED) throw std::runtime_error("cannot map " + path);
    base_ = static_cast<float*>(base);
    flags_.barrier();
    if (arguments_.rank == 0) unlink(path.c_str());
    sources_.clear();
    for (int r = 0; r < arguments_.ranks; ++r) {
      sources_.push_back(base_ + static_cast<std::uint64_t>(r) * stride_elems_);
    }
    return sources_[static_cast<std::size_t>(arguments_.rank)];
  }

  void release() override {
    if (base_ != nullptr) munmap(base_, bytes_);
    base_ = nullptr;
  }

  void all_reduce(float* /*data*/, std::uint64_t elems) override {
    const auto ranks = static_cast<std::uint64_t>(arguments_.ranks);
    const auto rank = static_cast<std::uint64_t>(arguments_.rank);
    const auto lines = (elems + kLineElems - 1) / kLineElems;
    const auto begin = std::min(elems, lines * rank / ranks * kLineElems);
    const auto end = std::min(elems, lines * (rank + 1) / ranks * kLineElems);
    flags_.barrier();
    switch (arguments_.ranks) {
      case 2:
        sweep_of_2(sources_.data(), begin, end);
        break;
      case 4:
        sweep_of_4(sources_.data(), begin, end);
        break;
      case 8:
        sweep_of_8(sources_.data(), begin, end);
        break;
      default:
        sweep_of_any(sources_.data(), arguments_.ranks, begin, end);
    }
    flags_.barrier();
  }

  void barrier() override { flags_.barrier(); }

 private:
  const PeerArguments& arguments_;
  SharedFlags flags_;
  float* base_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::uint64_t stride_elems_ = 0;
  std::vector<float*> sources_;
};

class CopyPeer : public Peer {
 public:
  explicit CopyPeer(const PeerArguments& arguments) : flags_(arguments, "limit") {}

  std::string version() const override { return "limit memcpy"; }

  float* allocate(std::uint64_t elems) override {
    copy_.assign(elems, 0);
    return Peer::allocate(elems);
  }
  void release() override {
    Peer::release();
    std::vector<float>().swap(copy_);
  }
  void all_reduce(float* data, std::uint64_t elems) override {
    std::memcpy(copy_.data(), data, elems * sizeof(float));
  }
  void barrier() override { flags_.barrier(); }
  const float* outcome(const float* /*data*/) const override { return copy_.data(); }
  float outcome_factor(int rank, int /*ranks*/) const override {
    return static_cast<float>(rank + 1);
  }

 private:
  SharedFlags flags_;
  std::vector<float> copy_;
};

int body(const PeerArguments& arguments) {
  std::unique_ptr<Peer> peer;
  if (arguments.algorithm == "memcpy") {
    peer = std::make_unique<CopyPeer>(arguments);
  } else if (arguments.algorithm == "sweep") {
    peer = std::make_unique<LimitPeer>(arguments);
  } else {
    throw std::runtime_error("--algorithm is sweep or memcpy");
  }
  return serve(*peer, arguments);
}

}  // namespace
}  // namespace dist::bench

int main(int argc, char** argv) { return dist::bench::run_peer(argc, argv, dist::bench::body); }
