// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/tcp_socket.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <limits>

namespace dist::tcp {
namespace {

constexpr int kKeepAliveIdleSeconds = 10;
constexpr int kKeepAliveEverySeconds = 5;
constexpr int kKeepAliveProbes = 3;

// Best effort: a socket without one of these options still carries bytes.
void set_option(int socket, int level, int name, int value) {
  ::setsockopt(socket, level, name, &value, sizeof value);
}

Endpoint endpoint_at(int socket, int (*ask)(int, sockaddr*, socklen_t*), bool* known) {
  Endpoint endpoint;
  auto length = static_cast<socklen_t>(endpoint.capacity());
  *known = ask(socket, endpoint.data(), &length) == 0;
  if (*known) endpoint.resize(length);
  return endpoint;
}

}  // namespace

std::string text_of(const Endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

std::optional<Endpoint> endpoint_of(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == text.npos) return std::nullopt;
  auto host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  std::uint16_t port = 0;
  const auto digits = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  ErrorCodeOf code;
  const auto address = asio::ip::make_address(std::string(host), code);
  if (code) return std::nullopt;
  return Endpoint(address, port);
}

std::string peer_text(int socket) {
  bool known = false;
  const auto endpoint = endpoint_at(socket, ::getpeername, &known);
  return known ? text_of(endpoint) : "an unknown address";
}

bool stays_on_this_host(int socket) {
  bool own_known = false;
  bool other_known = false;
  const auto own = endpoint_at(socket, ::getsockname, &own_known);
  const auto other = endpoint_at(socket, ::getpeername, &other_known);
  return own_known && other_known && own.address() == other.address();
}

Result<Endpoint> resolve(asio::io_context& context, const std::string& host,
                         const std::string& port) {
  ErrorCodeOf code;
  asio::ip::tcp::resolver resolver(context);
  const auto found = resolver.resolve(host, port, asio::ip::resolver_base::numeric_service, code);
  if (code || found.empty()) {
    return Status::invalid_argument(
        fmt::format("cannot find the address of host '{}': {}", host, code.message()));
  }
  // Loopback and most clusters speak IPv4; take it where there is a choice.
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_v4()) return entry.endpoint();
  }
  return found.begin()->endpoint();
}

Result<Socket> open_socket(asio::io_context& context, const Endpoint& towards) {
  Socket socket(context);  // first: it may throw
  const int number = ::socket(towards.protocol().family(),
                              SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
  if (number < 0) {
    return Status::resource(fmt::format("cannot open a socket: {}", std::strerror(errno)));
  }
  ErrorCodeOf code;
  socket.assign(towards.protocol(), number, code);
  if (code) {
    ::close(number);
    return Status::resource(fmt::format("cannot watch a socket: {}", code.message()));
  }
  return socket;
}

FileDescriptor detach(Socket socket, Duration silence) {
  ErrorCodeOf code;
  socket.non_blocking(true, code);
  FileDescriptor detached(socket.release(code));
  const int number = detached.number();
  // The buffers are left to the kernel: it grows them to megabytes where that helps, and a size set
  // here would switch that off and be capped by net.core.wmem_max.
  set_option(number, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(number, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(number, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  set_option(number, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveEverySeconds);
  set_option(number, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(silence).count();
  const auto most = std::numeric_limits<int>::max();
  set_option(number, IPPROTO_TCP, TCP_USER_TIMEOUT,
             static_cast<int>(std::min<decltype(milliseconds)>(milliseconds, most)));
  // Some systems pace every connection to the bandwidth they believe in (bbr), which halves that of
  // loopback. There is nothing to be congested there; on a wire the system's choice stands.
  constexpr std::string_view kNoPacing = "reno";
  if (stays_on_this_host(number)) {
    ::setsockopt(number, IPPROTO_TCP, TCP_CONGESTION, kNoPacing.data(), kNoPacing.size());
  }
  return detached;
}

}  // namespace dist::tcp
