// SPDX-License-Identifier: Apache-2.0
// A plain TCP ring: one thread a rank, one socket to each neighbour, both directions at once, sums
// as pieces land. What TCP allows here without any cleverness. "stream" instead of "tcp_ring": each
// rank sends its buffer to the right once, which tells the rate of a wire.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <thread>

#include "bench/peers/peer.h"

namespace dist::bench {
namespace {

constexpr std::uint64_t kPieceBytes = 256 << 10;
constexpr int kSpins = 200;
constexpr auto kConnectTime = std::chrono::seconds(30);

void require(bool fine, const char* what) {
  if (!fine) throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

class RingPeer : public Peer {
 public:
  explicit RingPeer(const PeerArguments& arguments)
      : arguments_(arguments), piece_(kPieceBytes / sizeof(float)) {
    if (arguments.ranks > 1) connect_neighbours();
  }
  ~RingPeer() override {
    close(right_);
    close(left_);
  }

  std::string version() const override { return "plain TCP ring"; }

  void all_reduce(float* data, std::uint64_t elems) override {
    const auto ranks = static_cast<std::uint64_t>(arguments_.ranks);
    const auto rank = static_cast<std::uint64_t>(arguments_.rank);
    for (std::uint64_t round = 0; round < 2 * (ranks - 1); ++round) {
      const auto out = (rank + 2 * ranks - round) % ranks;
      const auto in = (out + ranks - 1) % ranks;
      const auto begin = [&](std::uint64_t chunk) { return elems * chunk / ranks; };
      exchange(data + begin(out), begin(out + 1) - begin(out), data + begin(in),
               begin(in + 1) - begin(in), round < ranks - 1);
    }
  }

  void barrier() override {
    float tokens[64] = {};
    RingPeer::all_reduce(tokens, static_cast<std::uint64_t>(arguments_.ranks));
  }

 protected:
  // Sends one chunk to the right while the other comes from the left, to be added or to be kept.
  void exchange(const float* out, std::uint64_t out_elems, float* in, std::uint64_t in_elems,
                bool add) {
    const auto* from = reinterpret_cast<const char*>(out);
    auto* to = reinterpret_cast<char*>(in);
    std::uint64_t unsent = out_elems * sizeof(float);
    std::uint64_t missing = in_elems * sizeof(float);
    std::uint64_t pending = 0;  // bytes in piece_ that are not added yet: less than one element
    for (int idle = 0; unsent > 0 || missing > 0;) {
      bool moved = false;
      if (unsent > 0) {
        const auto sent = send(right_, from, unsent, MSG_DONTWAIT | MSG_NOSIGNAL);
        require(sent >= 0 || errno == EAGAIN, "send");
        if (sent > 0) {
          from += sent;
          unsent -= static_cast<std::uint64_t>(sent);
          moved = true;
        }
      }
      if (missing > 0) {
        auto* landing = add ? reinterpret_cast<char*>(piece_.data()) + pending : to;
        const auto room = add ? std::min(missing, kPieceBytes - pending) : missing;
        const auto got = recv(left_, landing, room, MSG_DONTWAIT);
        require(got != 0 && (got > 0 || errno == EAGAIN), "receive");
        if (got > 0) {
          missing -= static_cast<std::uint64_t>(got);
          to += add ? 0 : got;
          if (add) in = add_piece(in, pending + static_cast<std::uint64_t>(got), &pending);
          moved = true;
        }
      }
      idle = moved ? 0 : idle + 1;
      if (idle > 0) wait(idle, unsent > 0, missing > 0);
    }
  }

 private:
  float* add_piece(float* in, std::uint64_t bytes, std::uint64_t* pending) {
    const auto elems = bytes / sizeof(float);
    for (std::uint64_t i = 0; i < elems; ++i) in[i] += piece_[i];
    *pending = bytes % sizeof(float);
    if (*pending > 0) std::memmove(piece_.data(), piece_.data() + elems, *pending);
    return in + elems;
  }

  void wait(int idle, bool sending, bool receiving) const {
    if (idle < kSpins) {
      // With a core for each rank nobody else of the job wants it.
      if (static_cast<std::size_t>(arguments_.ranks) > arguments_.cores.size()) sched_yield();
      return;
    }
    pollfd polled[2] = {{sending ? right_ : -1, POLLOUT, 0}, {receiving ? left_ : -1, POLLIN, 0}};
    poll(polled, 2, 1000);
  }

  std::string port_file(int rank) const {
    return arguments_.control + "/port_" + std::to_string(rank);
  }

  // Each rank listens, tells "ADDRESS PORT" in a file, and calls its right neighbour.
  void connect_neighbours() {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    require(inet_pton(AF_INET, arguments_.address.c_str(), &address.sin_addr) == 1, "--address");
    socklen_t size = sizeof address;
    require(bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0, "bind");
    require(listen(listener, 1) == 0, "listen");
    require(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0,
            "getsockname");
    const std::string mine = port_file(arguments_.rank);
    std::ofstream(mine + ".new") << arguments_.address << ' ' << ntohs(address.sin_port) << '\n';
    require(std::rename((mine + ".new").c_str(), mine.c_str()) == 0, "rename");
    right_ = call(port_file((arguments_.rank + 1) % arguments_.ranks));
    left_ = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    require(left_ >= 0, "accept");
    close(listener);
    for (const int each : {left_, right_}) {
      const int yes = 1;
      setsockopt(each, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    }
  }

  static int call(const std::string& file) {
    std::string host;
    int port = 0;
    const auto deadline = std::chrono::steady_clock::now() + kConnectTime;
    while (!(std::ifstream(file) >> host >> port)) {
      if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("no " + file);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    require(inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1, "address of the neighbour");
    const int out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    require(connect(out, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "connect");
    return out;
  }

  const PeerArguments& arguments_;
  std::vector<float> piece_;
  int right_ = -1;
  int left_ = -1;
};

class StreamPeer : public RingPeer {
 public:
  using RingPeer::RingPeer;

  std::string version() const override { return "TCP stream"; }
  float* allocate(std::uint64_t elems) override {
    received_.assign(elems, 0);
    return Peer::allocate(elems);
  }
  void release() override {
    Peer::release();
    std::vector<float>().swap(received_);
  }
  void all_reduce(float* data, std::uint64_t elems) override {
    exchange(data, elems, received_.data(), elems, false);
  }
  const float* outcome(const float* /*data*/) const override { return received_.data(); }
  float outcome_factor(int rank, int ranks) const override {
    return static_cast<float>((rank + ranks - 1) % ranks + 1);
  }

 private:
  std::vector<float> received_;
};

int body(const PeerArguments& arguments) {
  std::unique_ptr<Peer> peer;
  if (arguments.algorithm == "stream") {
    peer = std::make_unique<StreamPeer>(arguments);
  } else if (arguments.algorithm == "tcp_ring") {
    peer = std::make_unique<RingPeer>(arguments);
  } else {
    throw std::runtime_error("--algorithm is tcp_ring or stream");
  }
  return serve(*peer, arguments);
}

}  // namespace
}  // namespace dist::bench

int main(int argc, char** argv) { return dist::bench::run_peer(argc, argv, dist::bench::body); }
