// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/rendezvous_tcp.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <boost/asio/executor_work_guard.hpp>
#include <chrono>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "libdist/transport/operation_table.h"
#include "libdist/transport/rendezvous_directory.h"
#include "libdist/transport/secret_file.h"
#include "libdist/transport/tcp_connection.h"
#include "libdist/transport/tcp_dial.h"
#include "libdist/transport/tcp_listener.h"

namespace dist {
namespace {

using tcp::Endpoint;

constexpr std::size_t kAddressBytes = 64;  // text, padded with zeros
constexpr Duration kStep = std::chrono::milliseconds(20);
constexpr Duration kPumpEvery = std::chrono::milliseconds(2);  // what Asio does not watch

using AddressText = std::array<std::byte, kAddressBytes>;

void write_address(const Endpoint& endpoint, std::span<std::byte> out) {
  const auto text = tcp::text_of(endpoint);
  DIST_ASSERT(text.size() < kAddressBytes, "an address longer than its field");
  std::fill(out.begin(), out.end(), std::byte{0});
  std::memcpy(out.data(), text.data(), text.size());
}

// Where the rank said "any address", the one it was seen at.
std::optional<Endpoint> read_address(std::span<const std::byte> bytes,
                                     const tcp::asio::ip::address& seen_at) {
  const auto end = std::find(bytes.begin(), bytes.end(), std::byte{0});
  auto endpoint = tcp::endpoint_of(
      {reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(end - bytes.begin())});
  if (endpoint && endpoint->address().is_unspecified()) endpoint->address(seen_at);
  return endpoint;
}

/// What a meeting needs, whichever side of it.
struct Meeting {
  const Options& options;
  std::string where;
  Endpoint endpoint;
  Endpoint own;
  const wire::Secret& secret;
  TimePoint deadline;
  tcp::asio::io_context context{1};
  tcp::asio::executor_work_guard<tcp::asio::io_context::executor_type> work{context.get_executor()};

  bool late() const { return Clock::now() >= deadline; }

  // Lets things happen until `done`, which is asked every now and then, or the deadline.
  template <typename Done>
  bool run_until(Done done) {
    while (!done()) {
      if (late()) return false;
      context.run_one_for(std::min<Duration>(kPumpEvery, deadline - Clock::now()));
    }
    return true;
  }

  wire::Hello hello() const {
    return {.purpose = wire::Purpose::rendezvous,
            .channel = static_cast<std::uint8_t>(Channel::control),
            .job = options.job,
            .epoch = 0,
            .rank = static_cast<std::uint32_t>(options.rank),
            .ranks = static_cast<std::uint32_t>(options.ranks),
            .to_rank = 0};
  }

  tcp::Identity identity(Rank peer) const {
    return {.job = options.job,
            .epoch = 0,
            .rank = options.rank,
            .peer = peer,
            .channel = Channel::control};
  }

  double waited() const { return std::chrono::duration<double>(options.connect_timeout).count(); }
};

/// Rank 0's side.
class Host {
 public:
  explicit Host(Meeting& meeting)
      : meeting_(meeting), present_(static_cast<std::size_t>(meeting.options.ranks), nullptr) {}

  Result<std::vector<Endpoint>> gather() {
    auto listener = tcp::Listener::open(meeting_.context, meeting_.endpoint);
    DIST_TRY(listener);
    (*listener)->serve(
        meeting_.secret, meeting_.hello(),
        [this](const wire::Hello& hello) {
          return present_[hello.rank] == nullptr ? wire::Verdict::welcome
                                                 : wire::Verdict::duplicate;
        },
        [this](tcp::Socket socket, const wire::Hello& hello) {
          welcome(std::move(socket), hello);
        });
    if (!meeting_.run_until([this] { return all_told(); })) {
      return Status::timed_out(fmt::format(
          "rank 0 waited {:.1f} s at {} and these ranks did not come: {}{}", meeting_.waited(),
          meeting_.where, fmt::join(missing(), ", "), (*listener)->refusals().text()));
    }
    (*listener)->close();
    return send_table();
  }

 private:
  struct Guest {
    Guest(tcp::Socket socket, const tcp::Identity& identity, const Endpoint& remote, Host& host)
        : seen_at(remote.address()),
          connection(tcp::detach(std::move(socket), host.meeting_.options.timeout), identity,
                     host.operations_, host.counters_, nullptr),
          receiving(connection.receive(text, wire::FrameType::address)) {}

    tcp::asio::ip::address seen_at;
    AddressText text{};
    tcp::Connection connection;
    Operation receiving;
    Operation sending;
    std::optional<Endpoint> address;
  };

  void welcome(tcp::Socket socket, const wire::Hello& hello) {
    tcp::ErrorCodeOf code;
    const auto remote = socket.remote_endpoint(code);
    if (code) return;
    const auto identity = meeting_.identity(static_cast<Rank>(hello.rank));
    guests_.push_back(std::make_unique<Guest>(std::move(socket), identity, remote, *this));
    present_[hello.rank] = guests_.back().get();
  }

  bool all_told() {
    bool all = true;
    for (std::size_t rank = 1; rank < present_.size(); ++rank) {
      Guest*& guest = present_[rank];
      if (guest != nullptr && !guest->address) guest->connection.pump();
      if (guest != nullptr && !guest->address && operations_.finished(guest->receiving)) {
        const auto received = operations_.take(guest->receiving);
        if (received.ok()) guest->address = read_address(guest->text, guest->seen_at);
        if (!guest->address) {
          guest->connection.fail(Status::cancelled("no address"));
          guest = nullptr;
        }
      }
      all &= guest != nullptr && guest->address.has_value();
    }
    return all;
  }

  std::vector<std::size_t> missing() const {
    std::vector<std::size_t> ranks;
    for (std::size_t rank = 1; rank < present_.size(); ++rank) {
      if (present_[rank] == nullptr || !present_[rank]->address) ranks.push_back(rank);
    }
    return ranks;
  }

  Result<std::vector<Endpoint>> send_table() {
    std::vector<Endpoint> table = {meeting_.own};
    for (std::size_t rank = 1; rank < present_.size(); ++rank) {
      table.push_back(*present_[rank]->address);
    }
    std::vector<std::byte> text(table.size() * kAddressBytes);
    for (std::size_t rank = 0; rank < table.size(); ++rank) {
      write_address(table[rank], std::span(text).subspan(rank * kAddressBytes, kAddressBytes));
    }
    for (std::size_t rank = 1; rank < present_.size(); ++rank) {
      present_[rank]->sending = present_[rank]->connection.send(text, wire::FrameType::table);
    }
    for (std::size_t rank = 1; rank < present_.size(); ++rank) {
      Guest& guest = *present_[rank];
      const auto told = [&] {
        return guest.connection.pump(), operations_.finished(guest.sending);
      };
      if (!meeting_.run_until(told)) {
        return Status::timed_out(fmt::format("rank {} did not take the table of addresses", rank));
      }
      DIST_TRY_BECAUSE(operations_.take(guest.sending), "table of addresses");
    }
    return table;
  }

  Meeting& meeting_;
  OperationTable operations_;
  TransferCounters counters_;
  std::vector<std::unique_ptr<Guest>> guests_;
  std::vector<Guest*> present_;  // by rank
};

/// The side of all other ranks.
class Visitor {
 public:
  explicit Visitor(Meeting& meeting) : meeting_(meeting) {
    write_address(meeting.own, own_);
    table_.resize(static_cast<std::size_t>(meeting.options.ranks) * kAddressBytes);
  }

  Result<std::vector<Endpoint>> ask() {
    Status last = Status::timed_out("no attempt ended");
    while (!meeting_.late()) {
      auto outcome = dial();
      if (outcome.socket) {
        auto table = exchange(*std::move(outcome.socket));
        if (table.ok()) return table;
        last = table.status();
      } else if (outcome.final) {
        return outcome.status;
      } else if (!outcome.status.ok()) {
        last = outcome.status;
      }
      const auto retry_at = std::min(Clock::now() + kStep, meeting_.deadline);
      meeting_.run_until([&] { return Clock::now() >= retry_at; });
    }
    return Status::timed_out(fmt::format("rank {} waited {:.1f} s for rank 0 at {}; last: {}",
                                         meeting_.options.rank, meeting_.waited(), meeting_.where,
                                         last.message()));
  }

 private:
  tcp::DialOutcome dial() {
    std::optional<tcp::DialOutcome> outcome;
    const tcp::Dial attempt(meeting_.context, meeting_.endpoint, meeting_.secret, meeting_.hello(),
                            [&](tcp::DialOutcome ended) { outcome = std::move(ended); });
    meeting_.run_until([&] { return outcome.has_value(); });
    return outcome ? *std::move(outcome) : tcp::DialOutcome{};
  }

  Result<std::vector<Endpoint>> exchange(tcp::Socket socket) {
    tcp::Connection connection(tcp::detach(std::move(socket), meeting_.options.timeout),
                               meeting_.identity(0), operations_, counters_, nullptr);
    const auto sending = connection.send(own_, wire::FrameType::address);
    const auto receiving = connection.receive(table_, wire::FrameType::table);
    meeting_.run_until([&] { return connection.pump(), operations_.finished(receiving); });
    connection.fail(Status::timed_out("rank 0 did not send the table: some ranks have not come"));
    static_cast<void>(operations_.take(sending));  // the table says it all
    DIST_TRY(operations_.take(receiving));
    return read_table();
  }

  Result<std::vector<Endpoint>> read_table() const {
    std::vector<Endpoint> table;
    for (std::size_t at = 0; at < table_.size(); at += kAddressBytes) {
      const auto address =
          read_address(std::span(table_).subspan(at, kAddressBytes), meeting_.endpoint.address());
      if (!address) return Status::protocol("rank 0 sent a table with an address that is none");
      table.push_back(*address);
    }
    return table;
  }

  Meeting& meeting_;
  OperationTable operations_;
  TransferCounters counters_;
  AddressText own_{};
  std::vector<std::byte> table_;
};

class TableRendezvous final : public Rendezvous {
 public:
  TableRendezvous(std::unique_ptr<Rendezvous> secret_keeper, std::optional<wire::Secret> secret)
      : secret_keeper_(std::move(secret_keeper)), secret_(std::move(secret)) {}

  const wire::Secret& secret() const override {
    return secret_ ? *secret_ : secret_keeper_->secret();
  }
  std::optional<Endpoint> find(Rank rank) const override {
    return table_[static_cast<std::size_t>(rank)];
  }
  void set_table(std::vector<Endpoint> table) { table_ = std::move(table); }

 private:
  std::unique_ptr<Rendezvous> secret_keeper_;  // where there is no secret file
  std::optional<wire::Secret> secret_;
  std::vector<Endpoint> table_;
};

// A secret file, or, where all ranks are on this host anyway, the private directory's secret.
Result<std::unique_ptr<TableRendezvous>> with_secret(const Options& options,
                                                     const Endpoint& endpoint, const Endpoint& own,
                                                     TimePoint deadline) {
  if (!options.secret_file.empty()) {
    auto secret = read_secret_file(AT_FDCWD, options.secret_file);
    DIST_TRY(secret);
    return std::make_unique<TableRendezvous>(nullptr, *std::move(secret));
  }
  if (!endpoint.address().is_loopback()) {
    return Status::invalid_argument(fmt::format(
        "{} is not loopback: whoever reaches it could join the job. Make a secret that all ranks "
        "share (head -c 32 /dev/urandom > FILE; chmod 600 FILE) and set DIST_SECRET_FILE=FILE",
        tcp::text_of(endpoint)));
  }
  auto keeper = meet_in_directory(options, default_directory(options.job), true, own, deadline);
  DIST_TRY(keeper);
  return std::make_unique<TableRendezvous>(*std::move(keeper), std::nullopt);
}

Result<Endpoint> parse_where(const std::string& where) {
  const auto colon = where.rfind(':');
  auto host = where.substr(0, colon);
  if (colon == where.npos || host.empty() || colon + 1 == where.size()) {
    return Status::invalid_argument("write it as tcp:HOST:PORT");
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  tcp::asio::io_context context;
  auto endpoint = tcp::resolve(context, host, where.substr(colon + 1));
  DIST_TRY(endpoint);
  if (endpoint->port() == 0) {
    return Status::invalid_argument("the ranks must know the port beforehand: 0 is none");
  }
  return endpoint;
}

// By server; the last ranks are servers.
Result<std::vector<Endpoint>> parse_servers(const Options& options, const std::string& where) {
  std::vector<Endpoint> servers;
  for (std::size_t begin = 0; begin <= where.size();) {
    const auto end = std::min(where.find(',', begin), where.size());
    const auto server = parse_where(where.substr(begin, end - begin));
    DIST_TRY(server);
    servers.push_back(*server);
    begin = end + 1;
  }
  const auto expected = static_cast<std::size_t>(std::max(options.servers, 1));
  if (servers.size() == expected) return servers;
  return Status::invalid_argument(
      fmt::format("{} addresses for {} servers: an elastic world needs tcp:HOST:PORT,HOST:PORT,... "
                  "with one a server, since no rank lasts but these",
                  servers.size(), expected));
}

Result<std::unique_ptr<Rendezvous>> meet(const Options& options, const std::string& where,
                                         const Endpoint& own, TimePoint deadline) {
  const auto endpoint = parse_where(where);
  DIST_TRY(endpoint);
  auto rendezvous = with_secret(options, *endpoint, own, deadline);
  DIST_TRY(rendezvous);
  Meeting meeting{options, where, *endpoint, own, (*rendezvous)->secret(), deadline};
  auto table = options.rank == 0 ? Host(meeting).gather() : Visitor(meeting).ask();
  DIST_TRY(table);
  (*rendezvous)->set_table(*std::move(table));
  return std::unique_ptr<Rendezvous>(*std::move(rendezvous));
}

}  // namespace

Result<std::unique_ptr<Rendezvous>> meet_at_rank_zero(const Options& options,
                                                      const std::string& where, const Endpoint& own,
                                                      TimePoint deadline) {
  auto met = meet(options, where, own, deadline);
  DIST_TRY_BECAUSE(met, fmt::format("rendezvous tcp:{}", where));
  return met;
}

Result<std::unique_ptr<Rendezvous>> meet_at_servers(const Options& options,
                                                    const std::string& where, const Endpoint& own,
                                                    TimePoint deadline) {
  const auto servers = parse_servers(options, where);
  DIST_TRY_BECAUSE(servers, fmt::format("rendezvous tcp:{}", where));
  const auto outside = std::find_if(servers->begin(), servers->end(), [](const Endpoint& server) {
    return !server.address().is_loopback();
  });
  const auto& widest = outside == servers->end() ? servers->front() : *outside;
  auto rendezvous = with_secret(options, widest, own, deadline);
  DIST_TRY_BECAUSE(rendezvous, fmt::format("rendezvous tcp:{}", where));
  std::vector<Endpoint> table(static_cast<std::size_t>(options.ranks) - servers->size());
  table.insert(table.end(), servers->begin(), servers->end());
  (*rendezvous)->set_table(std::move(table));
  return std::unique_ptr<Rendezvous>(*std::move(rendezvous));
}

Result<std::uint16_t> own_port(const Options& options, const std::string& where) {
  if (options.may_leave(options.rank)) return std::uint16_t{0};
  const auto servers = parse_servers(options, where);
  DIST_TRY_BECAUSE(servers, fmt::format("rendezvous tcp:{}", where));
  return servers->at(servers->size() - static_cast<std::size_t>(options.ranks - options.rank))
      .port();
}

}  // namespace dist
