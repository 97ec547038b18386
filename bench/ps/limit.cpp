// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/limit.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "bench/statistics.h"
#include "libdist/transport/file_descriptor.h"
#include "libdist/types.h"

namespace dist::bench {
namespace {

constexpr std::size_t kBlockBytes = 1 << 20;

Status failed(std::string_view what) {
  return Status::resource(fmt::format("limit of loopback: {}: {}", what, std::strerror(errno)));
}

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Moves `bytes` over each of the sockets, all of them at once, without looking at them.
Status move_all(const std::vector<FileDescriptor>& sockets, std::uint64_t bytes, bool send) {
  std::vector<std::byte> block(kBlockBytes);
  std::vector<std::uint64_t> left(sockets.size(), bytes);
  std::vector<pollfd> polls;
  polls.reserve(sockets.size());
  for (const auto& socket : sockets) {
    polls.push_back({socket.number(), static_cast<short>(send ? POLLOUT : POLLIN), 0});
  }
  while (std::any_of(left.begin(), left.end(), [](auto rest) { return rest != 0; })) {
    if (::poll(polls.data(), polls.size(), 10'000) <= 0) return failed("poll");
    for (std::size_t s = 0; s < polls.size(); ++s) {
      if (polls[s].revents == 0) continue;
      const auto most = std::min<std::uint64_t>(left[s], kBlockBytes);
      const auto moved = send ? ::send(polls[s].fd, block.data(), most, MSG_DONTWAIT | MSG_NOSIGNAL)
                              : ::recv(polls[s].fd, block.data(), most, MSG_DONTWAIT);
      if (moved < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (moved <= 0) return failed(send ? "send" : "receive");
      left[s] -= static_cast<std::uint64_t>(moved);
      if (left[s] == 0) polls[s].fd = -1;
    }
  }
  return {};
}

// The last rank's end: a listener, whose port all learn, then a socket a peer.
Result<std::vector<FileDescriptor>> connect_all(Group& group) {
  const bool centre = group.rank() == group.ranks() - 1;
  FileDescriptor own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (own.number() < 0) return failed("socket");
  std::array<std::uint64_t, 1> port = {0};
  if (centre) {
    auto address = loopback(0);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(own.number(), generic, length) != 0 || ::listen(own.number(), 64) != 0 ||
        ::getsockname(own.number(), generic, &length) != 0) {
      return failed("listen");
    }
    port[0] = ntohs(address.sin_port);
  }
  DIST_TRY(group.all_reduce(port));
  std::vector<FileDescriptor> sockets;
  if (!centre) {
    const auto address = loopback(static_cast<std::uint16_t>(port[0]));
    if (::connect(own.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return failed("connect");
    }
    sockets.push_back(std::move(own));
    return sockets;
  }
  for (int peer = 1; peer < group.ranks(); ++peer) {
    sockets.emplace_back(::accept4(own.number(), nullptr, nullptr, SOCK_CLOEXEC));
    if (sockets.back().number() < 0) return failed("accept");
  }
  return sockets;
}

}  // namespace

Result<double> loopback_limit(Group& group, std::uint64_t bytes, int rounds) {
  if (group.ranks() == 1) return 0.0;
  const auto sockets = connect_all(group);
  DIST_TRY(sockets);
  const bool centre = group.rank() == group.ranks() - 1;
  std::vector<double> seconds;
  for (int round = -1; round < rounds; ++round) {
    DIST_TRY(group.barrier());
    const auto begin = Clock::now();
    DIST_TRY(move_all(*sockets, bytes, !centre));
    DIST_TRY(move_all(*sockets, bytes, centre));
    std::array<double, 1> taken = {std::chrono::duration<double>(Clock::now() - begin).count()};
    DIST_TRY(group.all_reduce(taken, Reduction::max));
    if (round >= 0) seconds.push_back(taken[0]);
  }
  return 2.0 * static_cast<double>(bytes) * (group.ranks() - 1) / median(seconds);
}

}  // namespace dist::bench
