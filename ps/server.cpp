// SPDX-License-Identifier: Apache-2.0
#include "ps/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "libdist/check.h"

namespace dist::ps {
namespace {

constexpr Bytes kNoBound{std::uint64_t{1} << 62};

class ServerTask final : public Task {
 public:
  explicit ServerTask(std::shared_ptr<Server> server) : server_(std::move(server)) {}
  Result<Advance> advance(Transport& transport) override { return server_->advance(transport); }
  std::string waits_for() const override { return server_->waits_for(); }
  // Between two steps it waits as long as the workers compute; check_overdue() bounds the rest.
  bool has_deadline() const override { return false; }

 private:
  std::shared_ptr<Server> server_;
};

}  // namespace

Result<std::shared_ptr<Server>> Server::create(ServerOptions options, Arena& arena, Trace& trace) {
  auto store = Store::create(
      {options.map, options.server, options.roles.workers, arena.dtype(), options.update,
       options.rules, arena.alias_window(), layout_of(arena, *options.map, options.server)},
      trace);
  DIST_TRY(store);
  return std::shared_ptr<Server>(new Server(std::move(options), arena, *std::move(store)));
}

Server::Server(ServerOptions options, Arena& arena, std::unique_ptr<Store> store)
    : options_(std::move(options)),
      arena_(arena),
      packer_(options_.packing, arena.dtype()),
      staging_({bytes_of(options_.map->largest_piece(options_.server), arena.dtype()),
                options_.rules.may_drop() ? kNoBound : options_.staging_per_worker,
                options_.roles.workers, arena.alias_window()}),
      store_(std::move(store)),
      replies_in_place_(store_->pieces(), 0),
      pool_(*store_, options_.threads),
      norms_(options_.roles, *options_.map, options_.server),
      next_check_(Clock::now()),
      report_(store_->report()) {
  const Rank own_rank = options_.roles.server_rank(options_.server);
  for (int worker = 0; worker < options_.roles.workers; ++worker) {
    Peer peer;
    peer.worker = worker;
    peer.pushed.assign(store_->pieces(), false);
    peer.greeted = options_.roles.worker_rank(worker) == own_rank;
    peer.present = !options_.membership.elastic;
    peer.contributes = peer.present;
    if (!peer.greeted && peer.present) peer.link = make_link(worker);
    if (!peer.present) store_->leave(worker);
    peers_.push_back(std::move(peer));
  }
}

std::unique_ptr<Task> Server::make_task(std::shared_ptr<Server> server) {
  return std::make_unique<ServerTask>(std::move(server));
}

Status Server::use_checkpoints(checkpoint::Sink* sink, const checkpoint::Source* source) {
  checkpoint_sink_ = sink;
  if (source == nullptr) return {};
  DIST_TRY_BECAUSE(store_->resume(*source), name());
  if (!options_.membership.changes()) return {};
  // Any worker may be the first to come, and none of them knows files.
  resumed_at_ = source->step();
  return store_->resume_parameters(*source).because(name());
}

void Server::use_host_memory(const HostMemory& host) {
  host_ = &host;
  if (writes_in_place()) store_->use_parameters(host.parameters(0, {0, arena_.elems().value}));
  for (Peer& peer : peers_) {
    if (peer.link) peer.link->expect_in_place();
  }
}

void Server::deliver(const Header& header) {
  Peer& peer = peers_.at(header.worker);
  DIST_ASSERT(peer.link == nullptr, "only the worker on this rank is served without transport");
  peer.inbox.push_back(header);
}

std::optional<Header> Server::take_answer() {
  for (Peer& peer : peers_) {
    if (peer.link || peer.outbox.empty()) continue;
    const Header header = peer.outbox.front();
    peer.outbox.pop_front();
    return header;
  }
  return std::nullopt;
}

ServerReport Server::report() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

std::string Server::name() const {
  return fmt::format("server {} (rank {})", options_.server,
                     options_.roles.server_rank(options_.server));
}

std::size_t Server::place_of(std::uint32_t piece) const {
  const auto& owned = options_.map->of_server[static_cast<std::size_t>(options_.server)];
  return static_cast<std::size_t>(std::lower_bound(owned.begin(), owned.end(), piece) -
                                  owned.begin());
}

// Of all pieces the i-th to be served. The last ones hold the first layers.
std::size_t Server::by_priority(std::size_t i) const {
  return options_.priority ? store_->pieces() - 1 - i : i;
}

std::uint32_t Server::piece_id(std::size_t at) const {
  return options_.map->of_server[static_cast<std::size_t>(options_.server)][at];
}

Result<Advance> Server::advance(Transport& transport) {
  if (!failure_.ok()) return wind_down(transport);
  bool moved = false;
  const Status served = serve(transport, &moved);
  if (!served.ok()) {
    failure_ = served.because(fmt::format("{}: {}", options_.rules.strategy_name, name()));
    return Advance::moved;
  }
  if (finished()) return take_leave(transport);
  return moved ? Advance::moved : Advance::idle;
}

// One turn for everybody; whose turn fails is the culprit.
Status Server::serve(Transport& transport, bool* moved) {
  for (Peer& peer : peers_) {
    if (options_.membership.elastic) notice_arrival(transport, peer, moved);
    Status outcome = serve_peer(transport, peer, moved);
    if (!outcome.ok() && may_lose(outcome)) outcome = lose(transport, peer, outcome);
    if (outcome.ok()) continue;
    culprit_ = static_cast<std::uint32_t>(peer.worker);
    return outcome.because(fmt::format("worker {} (rank {}), step {}", peer.worker,
                                       options_.roles.worker_rank(peer.worker), peer.step));
  }
  *moved |= update(transport);
  DIST_TRY(update_by_norms(transport, moved));
  DIST_TRY(check_company());
  if (options_.membership.elastic) DIST_TRY(watch_servers(transport));
  return check_overdue(transport);
}

Status Server::serve_peer(Transport& transport, Peer& peer, bool* moved) {
  if (peer.lost || (peer.link == nullptr && options_.membership.elastic)) return {};
  DIST_TRY(receive(transport, peer, moved));
  DIST_TRY(reap(transport, peer, moved));
  return answer(transport, peer, moved);
}

Status Server::receive(Transport& transport, Peer& peer, bool* moved) {
  if (peer.link == nullptr) return receive_local(transport, peer, moved);
  if (peer.stage == Stage::header) {
    const auto header = peer.link->receive_header(transport);
    DIST_TRY(header);
    if (!header->has_value()) return {};
    *moved = true;
    DIST_TRY(check_turn(peer, **header));
    if ((*header)->payload_bytes == 0) return handle(transport, peer, **header);
    peer.current = **header;
    peer.stage = Stage::memory;
  }
  if (peer.stage == Stage::memory) DIST_TRY(find_memory(transport, peer, moved));
  if (peer.stage != Stage::payload) return {};
  const auto complete = peer.link->payload_complete(transport);
  DIST_TRY(complete);
  if (!*complete) return {};
  *moved = true;
  peer.stage = Stage::header;
  return handle(transport, peer, peer.current);
}

// First parameters land where they stay; gradients in staging, as soon as there is room.
Status Server::find_memory(Transport& transport, Peer& peer, bool* moved) {
  if (peer.current.kind == Kind::init) {
    peer.link->receive_payload(transport, store_->parameters(peer.next_init));
  } else {
    auto buffer = staging_.lend(peer.worker);
    DIST_TRY(buffer);
    if (!buffer->has_value()) return {};
    peer.buffer = **std::move(buffer);
    auto into = peer.buffer.bytes().first(peer.current.payload_bytes);
    if (packs(Kind::push, place_of(peer.current.piece))) {
      peer.packed.resize(peer.current.payload_bytes);
      into = peer.packed;
    }
    peer.link->receive_payload(transport, into);
  }
  *moved = true;
  peer.stage = Stage::payload;
  return {};
}

// The same messages as from afar; payloads are read where the worker made them.
Status Server::receive_local(Transport& transport, Peer& peer, bool* moved) {
  while (!peer.inbox.empty()) {
    const Header header = peer.inbox.front();
    peer.inbox.pop_front();
    *moved = true;
    DIST_TRY(check_turn(peer, header));
    DIST_TRY(handle(transport, peer, header));
  }
  return {};
}

bool Server::in_turn(const Peer& peer, const Header& header) const {
  const bool between_steps = peer.greeted && !peer.pull && peer.pushes == 0;
  const bool rests = between_steps && peer.pulls_answered == peer.step + 1;
  switch (header.kind) {
    case Kind::hello:
      return !peer.greeted;
    case Kind::init:
      return peer.greeted && peer.worker == 0 && !store_->ready() &&
             peer.next_init < store_->pieces() && header.piece == piece_id(peer.next_init);
    case Kind::push:
      return header.step == peer.step && peer.pulls_answered == peer.step + 1 &&
             !peer.pushed[place_of(header.piece)];
    case Kind::pull:
      // A server without pieces is never asked.
      // Who has just come may go on later than this server said: another one is further.
      if (between_steps && header.value == 0 && peer.joining) return header.step >= peer.step;
      return peer.greeted && store_->pieces() != 0 && !peer.pull &&
             (header.value == kFinal ? rests && header.step == peer.step
                                     : header.step == peer.pulls_answered);
    case Kind::save:
      return rests && (peer.worker == 0 || options_.membership.changes()) &&
             header.step == peer.step && checkpoint_sink_ != nullptr;
    case Kind::bye:
      return between_steps;
    default:
      return false;
  }
}

Status Server::check_turn(const Peer& peer, const Header& header) const {
  if (in_turn(peer, header)) return {};
  return Status::protocol(
      fmt::format("a {} (piece {}, step {}) came out of turn: {} steps and {} pieces were pushed, "
                  "{} pulls answered",
                  name_of(header.kind), header.piece, header.step, peer.step, peer.pushes,
                  peer.pulls_answered));
}

Status Server::handle(Transport& transport, Peer& peer, const Header& header) {
  switch (header.kind) {
    case Kind::hello:
      greet(transport, peer);
      ++changes_;
      if (header.value == options_.layout_hash) return {};
      return Status::invalid_argument(fmt::format(
          "has another layout (hash {:016x}, here {:016x}): every rank needs the same parameters "
          "in the same order, strategy, servers, placement, bucket sizes and update rule",
          header.value, options_.layout_hash));
    case Kind::init:
      if (header.payload_bytes == 0 || !peer.link) take_first_parameters(peer);
      store_->mark_initialised(peer.next_init++);
      ++changes_;
      return {};
    case Kind::push:
      return contribute(peer, header);
    case Kind::pull:
      if (std::exchange(peer.joining, false) && header.step != peer.step) {
        peer.step = peer.pulls_answered = header.step;
        store_->join(peer.worker, header.step);
        enqueue_all_ready();
      }
      peer.pull = Pull{header.step, header.value == kFinal,
                       std::vector<bool>(store_->pieces(), false), store_->pieces(), Clock::now()};
      ++changes_;
      if (peer.pull->final) stop_contributing(peer);
      return {};
    case Kind::save:
      ask_to_save(header.value);
      return {};
    case Kind::bye:
      end(transport, peer);
      return {};
    default:
      return Status::protocol("not a worker's message");
  }
}

std::span<const std::byte> Server::gradients_of(const Peer& peer, Range range) const {
  if (!peer.link) return arena_.gradients(range);
  if (host_ != nullptr) return host_->gradients(options_.roles.worker_rank(peer.worker), range);
  return peer.buffer.bytes().first(bytes_of(Elems(range.elems()), arena_.dtype()).value);
}

bool Server::may_write() const {
  return !writes_in_place() || std::none_of(peers_.begin(), peers_.end(),
                                            [&](const Peer& peer) { return still_reads(peer); });
}

Status Server::contribute(Peer& peer, const Header& header) {
  const auto at = place_of(header.piece);
  const auto data = gradients_of(peer, store_->piece(at).range);
  if (peer.link && packs(Kind::push, at)) {
    DIST_TRY(packer_.unpack(Kind::push, peer.packed, peer.buffer.bytes().first(data.size())));
  }
  DIST_TRY(store_->contribute(at, peer.worker, header.step, header.version, data,
                              std::move(peer.buffer)));
  peer.pushed[at] = true;
  if (++peer.pushes == store_->pieces()) {
    peer.pushed.assign(store_->pieces(), false);
    peer.pushes = 0;
    ++peer.step;
  }
  ++changes_;
  enqueue_ready(at);
  return {};
}

void Server::end(Transport& transport, Peer& peer) {
  peer.stage = Stage::ended;
  peer.present = false;
  const Header farewell{.kind = Kind::farewell, .worker = static_cast<std::uint32_t>(peer.worker)};
  if (peer.link) {
    peer.link->send(transport, farewell);
  } else {
    peer.outbox.push_back(farewell);
  }
  stop_contributing(peer);
}

void Server::stop_contributing(Peer& peer) {
  peer.contributes = false;
  store_->end(peer.worker);
  enqueue_all_ready();
}

void Server::enqueue_ready(std::size_t at) {
  if (store_->policy(at).update_ready()) ready_.insert(at);
}

void Server::enqueue_all_ready() {
  for (std::size_t at = 0; at < store_->pieces(); ++at) enqueue_ready(at);
  ++changes_;
}

// Takes back what the pool has computed, and gives it as much as it has threads. Without threads
// that is one piece a turn, so that the transport is not kept waiting for long.
bool Server::update(Transport& transport) {
  bool moved = false;
  for (const auto& update : pool_.take_finished()) {
    store_->finish(update);
    enqueue_ready(update.at);
    ++changes_;
    moved = true;
  }
  // Who has come or gone meanwhile may have changed what is ready.
  std::erase_if(ready_, [this](std::size_t at) { return !store_->policy(at).update_ready(); });
  const auto startable = [&](std::size_t at) {
    return !store_->busy(at) && replies_in_place_[at] == 0;  // nobody reads or writes it
  };
  save_if_asked();
  while (pool_.has_room() && saves_asked_.empty() && may_write()) {
    const auto last = std::find_if(ready_.rbegin(), ready_.rend(), startable);
    const auto first = std::find_if(ready_.begin(), ready_.end(), startable);
    if (first == ready_.end()) break;
    const auto at = options_.priority ? *last : *first;
    ready_.erase(at);
    pool_.start(store_->take_update(at), transport);
    ++changes_;  // a contribution may have been dropped
    moved = true;
  }
  return moved;
}

// The sums of a step wait here until the squares of all servers' sums are known.
Status Server::update_by_norms(Transport& transport, bool* moved) {
  if (!norms_.under_way()) {
    if (!store_->sums_complete()) return {};
    norms_.begin(transport, store_->policy(0).version() - 1, store_->squares());
    *moved = true;
  }
  const auto squares = norms_.advance(transport, &lost_server_);
  DIST_TRY(squares);
  if (!squares->has_value()) return {};
  for (auto& half : store_->take_updates_by_norms(**squares))
    pool_.start(std::move(half), transport);
  *moved = true;
  return {};
}

// Where anybody may be gone the next moment all workers ask, and the first one is heard.
void Server::ask_to_save(std::uint64_t number) {
  if (options_.membership.changes() && number <= newest_save_) return;
  newest_save_ = number;
  saves_asked_.push_back(number);
}

// A checkpoint is a copy of what stands still: the next updates wait for those that are computed,
// and until the one before it is on disk, so that copies do not pile up.
void Server::save_if_asked() {
  if (saves_asked_.empty() || !pool_.idle() || !checkpoint_sink_->has_room()) return;
  checkpoint_sink_->accept(store_->snapshot(saves_asked_.front()));
  saves_asked_.pop_front();
}

bool Server::packs(Kind kind, std::size_t at) const {
  return packer_.packs(kind, Elems(store_->piece(at).range.elems()));
}

// Of those who came, all have ended, or at least one and the others are lost.
bool Server::finished() const {
  bool any_ended = false;
  for (const Peer& peer : peers_) {
    const bool ended = peer.stage == Stage::ended;
    if (peer.present || (ended && peer.link && peer.link->sends_in_flight() != 0)) return false;
    any_ended |= ended;
  }
  return any_ended && saves_asked_.empty();
}

}  // namespace dist::ps
