// SPDX-License-Identifier: Apache-2.0
// Which rendezvous, and whether it may be at all.
#include "libdist/transport/rendezvous.h"

#include <fmt/format.h>

#include "libdist/transport/rendezvous_directory.h"
#include "libdist/transport/rendezvous_tcp.h"

namespace dist {
namespace {

constexpr std::string_view kDirectoryForm = "dir:";
constexpr std::string_view kTcpForm = "tcp:";

Status check_several_hosts(const Options& options, const tcp::Endpoint& address) {
  if (options.one_host || options.ranks == 1) return {};
  if (!options.rendezvous.starts_with(kTcpForm)) {
    return Status::invalid_argument(
        "the ranks run on several hosts, which cannot meet in a directory; set "
        "DIST_RENDEZVOUS=tcp:HOST:PORT, with the host of rank 0 and a free port there");
  }
  if (address.address().is_loopback()) {
    return Status::invalid_argument(
        fmt::format("the ranks run on several hosts, but bind-address {} is reachable from this "
                    "one only; set DIST_BIND_ADDRESS (0.0.0.0: all) and DIST_SECRET_FILE",
                    options.bind_address));
  }
  return {};
}

// In a directory only ranks of this host meet: they reach an unspecified address by loopback.
tcp::Endpoint reachable_here(const tcp::Endpoint& own) {
  if (!own.address().is_unspecified()) return own;
  if (own.address().is_v6()) return {tcp::asio::ip::address_v6::loopback(), own.port()};
  return {tcp::asio::ip::address_v4::loopback(), own.port()};
}

}  // namespace

Result<tcp::Endpoint> listening_address(const Options& options) {
  tcp::ErrorCodeOf code;
  const auto address = tcp::asio::ip::make_address(options.bind_address, code);
  if (code) {
    return Status::invalid_argument(
        fmt::format("bind-address '{}' is no IP address (127.0.0.1, 192.168.1.7, ::1, 0.0.0.0)",
                    options.bind_address));
  }
  if (!address.is_loopback() && options.secret_file.empty()) {
    return Status::invalid_argument(fmt::format(
        "bind-address {} is not loopback: whoever reaches it could join the job. Make a secret "
        "that all ranks share (head -c 32 /dev/urandom > FILE; chmod 600 FILE) and set "
        "DIST_SECRET_FILE=FILE",
        options.bind_address));
  }
  std::uint16_t port = 0;
  if (options.elastic && options.rendezvous.starts_with(kTcpForm)) {
    const auto known = own_port(options, options.rendezvous.substr(kTcpForm.size()));
    DIST_TRY(known);
    port = *known;
  }
  const tcp::Endpoint endpoint(address, port);
  DIST_TRY(check_several_hosts(options, endpoint));
  return endpoint;
}

Result<std::unique_ptr<Rendezvous>> open_rendezvous(const Options& options,
                                                    const tcp::Endpoint& own, TimePoint deadline) {
  const auto& form = options.rendezvous;
  if (form.empty()) {
    return meet_in_directory(options, default_directory(options.job), true, reachable_here(own),
                             deadline);
  }
  if (form.starts_with(kDirectoryForm)) {
    return meet_in_directory(options, form.substr(kDirectoryForm.size()), false,
                             reachable_here(own), deadline);
  }
  if (form.starts_with(kTcpForm) && options.elastic) {
    return meet_at_servers(options, form.substr(kTcpForm.size()), own, deadline);
  }
  if (form.starts_with(kTcpForm)) {
    return meet_at_rank_zero(options, form.substr(kTcpForm.size()), own, deadline);
  }
  return Status::invalid_argument(
      fmt::format("rendezvous '{}' is neither dir:PATH nor tcp:HOST:PORT", form));
}

}  // namespace dist
