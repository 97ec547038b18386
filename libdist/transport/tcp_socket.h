// SPDX-License-Identifier: Apache-2.0
// Sockets as this transport wants them: close-on-exec, non-blocking, without Nagle's delay; and
// their addresses as text.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "libdist/status.h"
#include "libdist/transport/file_descriptor.h"
#include "libdist/types.h"

namespace dist::tcp {

namespace asio = boost::asio;
using ErrorCodeOf = boost::system::error_code;
using Endpoint = asio::ip::tcp::endpoint;
using Socket = asio::ip::tcp::socket;

/// "127.0.0.1:5001" or "[::1]:5001".
std::string text_of(const Endpoint& endpoint);

/// The reverse; nothing if it is not the text of an endpoint.
std::optional<Endpoint> endpoint_of(std::string_view text);

/// The other end, or "an unknown address" where the kernel no longer knows.
std::string peer_text(int socket);

/// Both ends of a connected socket have one address: the bytes never leave this kernel.
bool stays_on_this_host(int socket);

/// Looks up a host name or number. Blocks as long as the system's resolver does.
Result<Endpoint> resolve(asio::io_context& context, const std::string& host,
                         const std::string& port);

/// A socket that is not yet connected.
Result<Socket> open_socket(asio::io_context& context, const Endpoint& towards);

/// Takes a connected socket away from Asio and gives it what every connection gets: no blocking, no
/// delay, keep-alive, and an end after `silence` in which the peer's kernel did not acknowledge.
FileDescriptor detach(Socket socket, Duration silence);

}  // namespace dist::tcp
