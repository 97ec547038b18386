// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/transport.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "libdist/check.h"

namespace dist {

std::string_view name_of(Channel channel) {
  switch (channel) {
    case Channel::collective:
      return "collective";
    case Channel::to_server:
      return "to_server";
    case Channel::to_worker:
      return "to_worker";
    case Channel::control:
      return "control";
  }
  return "unknown";
}

std::optional<std::uint32_t> Transport::incarnation(Rank) const { return 0; }

void Transport::disconnect(Rank, const Status&) {
  DIST_ASSERT(capabilities().losable_peers, "this transport cannot end one connection alone");
}

Status Transport::wait(Operation operation, TimePoint deadline) {
  const auto start = Clock::now();
  while (!finished(operation)) {
    const auto now = Clock::now();
    if (now >= deadline) {
      return Status::timed_out(fmt::format("{}: rank {} timed out after {:.1f} s", name(), rank(),
                                           std::chrono::duration<double>(now - start).count()));
    }
    progress(std::min<Duration>(deadline - now, std::chrono::milliseconds(100)));
  }
  return take(operation);
}

Status Transport::exchange(Rank to, std::span<const std::byte> out, Rank from,
                           std::span<std::byte> in, Channel channel, TimePoint deadline) {
  const Operation receiving = receive(from, channel, in);
  const Operation sending = send(to, channel, out);
  const Status received = wait(receiving, deadline);
  const Status sent = wait(sending, deadline);
  DIST_TRY_BECAUSE(received, fmt::format("receive from rank {}", from));
  DIST_TRY_BECAUSE(sent, fmt::format("send to rank {}", to));
  return {};
}

}  // namespace dist
