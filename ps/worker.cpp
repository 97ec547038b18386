// SPDX-License-Identifier: Apache-2.0
#include "ps/worker.h"

#include <fmt/format.h>

#include <algorithm>

namespace dist::ps {
namespace {

// What a worker did that made a server stop.
std::string_view reproach(ErrorCode code) {
  switch (code) {
    case ErrorCode::peer_lost:
      return "was lost";
    case ErrorCode::timed_out:
      return "kept the others waiting for too long";
    case ErrorCode::invalid_argument:
      return "has another layout or other options";
    case ErrorCode::protocol:
      return "broke the protocol";
    default:
      return "could not be served";
  }
}

}  // namespace

void ServerPort::listen(Transport& transport) {
  if (!header_) header_ = transport.receive(rank_, Channel::to_worker, incoming_);
}

Result<std::optional<Header>> ServerPort::hear(Transport& transport) {
  if (!header_ || !transport.finished(*header_)) return std::optional<Header>();
  const Status outcome = transport.take(*header_);
  header_.reset();
  DIST_TRY(outcome);
  const auto header = decode(incoming_, expected_);
  DIST_TRY(header);
  return std::optional(*header);
}

Worker::Worker(WorkerOptions options, Arena& arena, Trace& trace, std::shared_ptr<Server> local)
    : options_(std::move(options)),
      arena_(arena),
      trace_(trace),
      local_(std::move(local)),
      versions_(options_.map->pieces.size(), 0),
      packer_(options_.packing, arena.dtype()),
      initialised_(static_cast<std::size_t>(options_.roles.servers), false),
      lanes_(*this) {
  const Rank own_rank = options_.roles.worker_rank(options_.worker);
  for (int server = 0; server < options_.roles.servers; ++server) {
    const Rank rank = options_.roles.server_rank(server);
    const Expectation expected{Direction::to_worker,
                               static_cast<std::uint32_t>(options_.roles.workers),
                               static_cast<std::uint32_t>(options_.worker),
                               options_.map.get(),
                               server,
                               arena.dtype(),
                               &packer_};
    ports_.push_back(rank == own_rank ? nullptr : std::make_unique<ServerPort>(rank, expected));
  }
}

Status Worker::prepare() {
  auto made = ErrorFeedback::make(options_.packing.push, arena_);
  DIST_TRY(made);
  feedback_ = *std::move(made);
  return {};
}

std::vector<std::byte> Worker::pack(std::uint32_t piece) {
  const Range range = options_.map->pieces[piece].range;
  const auto plain = arena_.gradients(range);
  std::vector<std::byte> packed(packer_.payload_bytes(Kind::push, Elems(range.elems())).value);
  packer_.pack(Kind::push, plain, packed, feedback_.of(range));
  feedback_.clear_gaps(range);
  if (packed.size() < plain.size()) saved_ += Bytes(plain.size() - packed.size());
  return packed;
}

void Worker::use_host_memory() {
  in_place_ = true;
  for (const auto& port : ports_) {
    if (port) port->expect_in_place();
  }
}

std::string Worker::name_of_server(int server) const {
  return fmt::format("server {} (rank {})", server, options_.roles.server_rank(server));
}

Status Worker::from(int server, const Status& why) const {
  return why.because(fmt::format("from {}", name_of_server(server)));
}

// Servers may be at different steps: the latest is still to come for all of them.
void Worker::note_welcome(int server, const Header& welcome) {
  first_step_ = std::max(first_step_, welcome.step);
  initialised_[static_cast<std::size_t>(server)] = welcome.version != 0;
  resumed_at_ = std::max(resumed_at_, std::max<std::uint64_t>(welcome.version, 1) - 1);
}

Header Worker::header(Kind kind) const {
  return {.kind = kind, .worker = static_cast<std::uint32_t>(options_.worker)};
}

Header Worker::piece_header(Kind kind, std::uint32_t piece) const {
  Header out = header(kind);
  out.piece = piece;
  if (in_place_) return out;
  out.payload_bytes =
      bytes_of(Elems(options_.map->pieces[piece].range.elems()), arena_.dtype()).value;
  return out;
}

Header Worker::push_header(std::uint32_t piece, std::uint64_t step) const {
  Header out = piece_header(Kind::push, piece);
  out.step = step;
  out.version = versions_[piece];
  return out;
}

std::size_t Worker::may_overtake(int server) const {
  if (!options_.priority) return 0;
  const auto largest = bytes_of(options_.map->largest_piece(server), arena_.dtype());
  return buffers_in(options_.staging_per_worker, largest) - 1;
}

Status Worker::told(const ServerPort& port, const Header& failed) const {
  const auto code = failed.code == ErrorCode::ok ? ErrorCode::protocol : failed.code;
  const auto server = name_of_server(port.server());
  if (failed.worker == kNobody && failed.value != 0) {
    return {code, fmt::format("{} stopped because another server (rank {}) was lost", server,
                              failed.value - 1)};
  }
  if (failed.worker == kNobody) return {code, fmt::format("{} stopped: {}", server, name_of(code))};
  const auto culprit = static_cast<int>(failed.worker);
  return {code, fmt::format("{} stopped because worker {} (rank {}) {}", server, culprit,
                            options_.roles.worker_rank(culprit), reproach(code))};
}

Status Worker::bad_news(Transport& transport) {
  for (const auto& port : ports_) {
    if (!port || port->awaited) continue;
    const auto header = port->hear(transport);
    if (!header.ok()) return from(port->server(), header.status());
    if (!header->has_value()) continue;
    if ((*header)->kind == Kind::failed) return told(*port, **header);
    return Status::protocol(fmt::format("{} sent a {} that nobody asked for",
                                        name_of_server(port->server()), name_of((*header)->kind)));
  }
  return {};
}

}  // namespace dist::ps
