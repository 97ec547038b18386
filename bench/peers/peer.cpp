// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace dist::bench {
namespace {

// Two cache lines: the prefetcher fetches pairs.
constexpr std::uint64_t kLineBytes = 128;
constexpr std::uint64_t kPageBytes = 4096;
constexpr int kSpins = 2000;

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

void futex(std::atomic<std::uint32_t>& word, int operation, int value) {
  static_assert(sizeof word == sizeof(std::uint32_t));
  syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

int number(const std::string& text, const std::string& name) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 0 || value > 1 << 20) {
    throw std::runtime_error(name + ": '" + text + "' is not a count");
  }
  return static_cast<int>(value);
}

int rank_from_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "DIST_RANK"}) {
    if (const char* value = std::getenv(name)) return number(value, name);
  }
  throw std::runtime_error("--rank is missing, and no launcher's variable tells it");
}

std::vector<int> numbers(const std::string& text) {
  std::vector<int> out;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) out.push_back(number(word, "--cores"));
  return out;
}

}  // namespace

PeerArguments parse_peer_arguments(int argc, char** argv) {
  PeerArguments out;
  out.rank = -1;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--control") {
      out.control = value;
    } else if (name == "--rank") {
      out.rank = number(value, "--rank");
    } else if (name == "--ranks") {
      out.ranks = number(value, "--ranks");
    } else if (name == "--cores") {
      out.cores = numbers(value);
    } else if (name == "--algorithm") {
      out.algorithm = value;
    } else if (name == "--buffers") {
      out.buffers = value;
    } else if (name == "--address") {
      out.address = value;
    } else {
      throw std::runtime_error("unknown argument " + std::string(name));
    }
  }
  if (argc % 2 == 0) throw std::runtime_error(std::string(argv[argc - 1]) + " has no value");
  if (out.control.empty()) throw std::runtime_error("--control DIR is missing");
  if (out.rank < 0) out.rank = rank_from_launcher();
  if (out.rank >= out.ranks) throw std::runtime_error("--rank is not below --ranks");
  return out;
}

void settle(const PeerArguments& arguments) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::signal(SIGPIPE, SIG_IGN);
  if (arguments.cores.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  const auto which = static_cast<std::size_t>(arguments.rank) % arguments.cores.size();
  CPU_SET(static_cast<std::size_t>(arguments.cores[which]), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail("cannot pin to a core");
}

std::uint64_t SharedFlags::bytes(int ranks) {
  const std::uint64_t needed = (static_cast<std::uint64_t>(ranks) + 1) * kLineBytes;
  return (needed + kPageBytes - 1) / kPageBytes * kPageBytes;
}

SharedFlags::SharedFlags(const PeerArguments& arguments, const std::string& name)
    : rank_(arguments.rank),
      ranks_(arguments.ranks),
      spins_(static_cast<std::size_t>(arguments.ranks) > arguments.cores.size() ? 0 : kSpins) {
  const std::string path = arguments.control + "/" + name;
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) fail(path);
  base_ = mmap(nullptr, bytes(ranks_), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (base_ == MAP_FAILED) fail(path);
}

SharedFlags::~SharedFlags() { munmap(base_, bytes(ranks_)); }

std::atomic<std::uint32_t>& SharedFlags::word(int line) const {
  auto* at = static_cast<std::byte*>(base_) + static_cast<std::uint64_t>(line) * kLineBytes;
  return *reinterpret_cast<std::atomic<std::uint32_t>*>(at);
}

// Counts wrap; ranks are never more than one round apart.
bool SharedFlags::behind(int rank) const {
  return static_cast<std::int32_t>(flag(rank).load(std::memory_order_acquire) - count_) < 0;
}

void SharedFlags::barrier() {
  ++count_;
  flag(rank_).store(count_, std::memory_order_release);
  for (int r = 0; r < ranks_; ++r) {
    for (int spins = 0; behind(r); ++spins) {
      if (spins >= spins_) sched_yield();
      __builtin_ia32_pause();
    }
  }
}

void SharedFlags::meet() {
  ++count_;
  flag(rank_).store(count_);  // sequentially consistent: then either side sees the other
  if (sleepers().load() > 0) futex(flag(rank_), FUTEX_WAKE, INT_MAX);
  for (int r = 0; r < ranks_; ++r) {
    for (int i = 0; i < spins_ && behind(r); ++i) __builtin_ia32_pause();
    if (!behind(r)) continue;
    sleepers().fetch_add(1);
    while (behind(r)) futex(flag(r), FUTEX_WAIT, static_cast<int>(count_ - 1));
    sleepers().fetch_sub(1);
  }
}

float* Peer::allocate(std::uint64_t elems) {
  mapped_bytes_ = elems * sizeof(float);
  mapped_ =
      mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped_ == MAP_FAILED) {
    mapped_ = nullptr;
    fail("cannot map a buffer");
  }
  return static_cast<float*>(mapped_);
}

void Peer::release() {
  if (mapped_ != nullptr) munmap(mapped_, mapped_bytes_);
  mapped_ = nullptr;
}

float Peer::outcome_factor(int /*rank*/, int ranks) const {
  return 0.5f * static_cast<float>(ranks * (ranks + 1));
}

int run_peer(int argc, char** argv, int (*body)(const PeerArguments&)) {
  try {
    const PeerArguments arguments = parse_peer_arguments(argc, argv);
    settle(arguments);
    return body(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argc > 0 ? argv[0] : "peer", error.what());
    return 1;
  }
}

}  // namespace dist::bench
