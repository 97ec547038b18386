// SPDX-License-Identifier: Apache-2.0
// The tasks of a worker.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ps/exchange.h"
#include "ps/worker.h"

namespace dist::ps {
namespace {

// One message to every server, one answer from each.
class Greeting final : public Exchange {
 public:
  Greeting(std::shared_ptr<Worker> worker, Kind ask, Kind answer)
      : Exchange(std::move(worker), Activity::wait, std::string(name_of(ask))),
        ask_(ask),
        answer_(answer) {}

 private:
  void start(Transport& transport) override {
    for (int server = 0; server < map().servers(); ++server) {
      auto& port = worker_->ports()[static_cast<std::size_t>(server)];
      // A hello needs no words within a rank.
      if (!port && ask_ == Kind::hello) continue;
      if (port) {
        port->awaited = true;
        port->listen(transport);
      }
      Header header = worker_->header(ask_);
      if (ask_ == Kind::hello) header.value = worker_->options().layout_hash;
      send(transport, server, header);
      waiting_.push_back(server);
    }
  }

  Status step(Transport& transport, bool* moved) override {
    Status first;
    for (std::size_t i = 0; i < waiting_.size();) {
      const int server = waiting_[i];
      const auto answered = hear(transport, server);
      if (first.ok() && !answered.ok()) {
        first = worker_->from(server, answered.status());
      }
      if (!answered.ok() || !*answered) {
        ++i;
        continue;
      }
      waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
      *moved = true;
    }
    return first;
  }

  bool complete() const override { return waiting_.empty(); }
  int next_server() const override { return waiting_.empty() ? 0 : waiting_.front(); }

  Result<bool> hear(Transport& transport, int server) {
    auto& port = worker_->ports()[static_cast<std::size_t>(server)];
    if (!port) return worker_->local()->take_answer().has_value();
    const auto header = port->hear(transport);
    DIST_TRY(header);
    if (!header->has_value()) return false;
    if ((*header)->kind == Kind::failed) return worker_->told(*port, **header);
    if ((*header)->kind != answer_) {
      return Status::protocol(
          fmt::format("a {} where a {} is due", name_of((*header)->kind), name_of(answer_)));
    }
    if (answer_ == Kind::farewell) return true;
    if ((*header)->value != worker_->options().layout_hash) {
      return Status::invalid_argument(fmt::format(
          "another layout (hash {:016x}, here {:016x}): every rank needs the same parameters in "
          "the same order, strategy, servers, placement, bucket sizes and update rule",
          (*header)->value, worker_->options().layout_hash));
    }
    worker_->note_welcome(server, **header);
    port->awaited = false;
    port->listen(transport);
    return true;
  }

  const Kind ask_;
  const Kind answer_;
  std::vector<int> waiting_;  // servers whose answer is due
};

class Initialise final : public Exchange {
 public:
  explicit Initialise(std::shared_ptr<Worker> worker)
      : Exchange(std::move(worker), Activity::send, "first parameters") {}

 private:
  void start(Transport& transport) override {
    for (std::uint32_t id = 0; id < map().pieces.size(); ++id) {
      if (worker_->initialised(map().pieces[id].server)) continue;
      send(transport, map().pieces[id].server, worker_->piece_header(Kind::init, id),
           worker_->arena().parameters(map().pieces[id].range));
    }
  }
};

class Save final : public Exchange {
 public:
  Save(std::shared_ptr<Worker> worker, std::uint64_t step, std::uint64_t number)
      : Exchange(std::move(worker), Activity::send, fmt::format("save of step {}", number)),
        step_(step),
        number_(number) {}

 private:
  void start(Transport& transport) override {
    for (int server = 0; server < map().servers(); ++server) {
      if (map().of_server[static_cast<std::size_t>(server)].empty()) continue;
      Header header = worker_->header(Kind::save);
      header.step = step_;
      header.value = number_;
      send(transport, server, header);
    }
  }

  const std::uint64_t step_;
  const std::uint64_t number_;
};

class Push final : public Exchange {
 public:
  Push(std::shared_ptr<Worker> worker, std::size_t bucket, std::uint64_t step)
      : Exchange(std::move(worker), Activity::send,
                 fmt::format("push of bucket {}, step {}", bucket, step)),
        bucket_(bucket),
        step_(step) {}

 private:
  void start(Transport&) override {
    worker_->lanes().add(bucket_, step_);
    bytes_ = bytes_of(Elems(map().buckets[bucket_].range.elems()), worker_->arena().dtype());
  }

  // The lanes are shared: what moves for one push moves for all.
  Status step(Transport& transport, bool* moved) override {
    Status outcome = worker_->lanes().advance(transport);
    *moved |= std::exchange(moves_, worker_->lanes().moves()) != worker_->lanes().moves();
    return outcome;
  }

  bool complete() const override { return worker_->lanes().left(bucket_); }
  int next_server() const override { return worker_->lanes().busy_server().value_or(0); }

  const std::size_t bucket_;
  const std::uint64_t step_;
  std::uint64_t moves_ = 0;
};

// Each server answers with its pieces, in the order in which it has them.
class Pull final : public Exchange {
 public:
  Pull(std::shared_ptr<Worker> worker, std::uint64_t step, bool final,
       std::shared_ptr<Arrivals> arrivals)
      : Exchange(
            std::move(worker), Activity::receive,
            final ? "pull of the last parameters" : fmt::format("pull of parameters {}", step)),
        step_(step),
        final_(final),
        arrivals_(std::move(arrivals)) {}

 private:
  struct Stream {
    int server = 0;
    std::vector<std::uint32_t> due;  // pieces, ascending
    std::optional<Header> current;   // whose parameters are on their way
    Operation payload;
    std::vector<std::byte> packed;  // where they land if they are compressed
    bool complete() const { return due.empty() && !current; }
  };

  void start(Transport& transport) override {
    for (int server = 0; server < map().servers(); ++server) {
      const auto& owned = map().of_server[static_cast<std::size_t>(server)];
      if (owned.empty()) continue;
      streams_.push_back({server, owned, std::nullopt, {}, {}});
      const auto& port = worker_->ports()[static_cast<std::size_t>(server)];
      if (port) {
        port->awaited = true;
        port->listen(transport);
      }
      Header header = worker_->header(Kind::pull);
      header.step = step_;
      header.value = final_ ? kFinal : 0;
      send(transport, server, header);
    }
  }

  Status step(Transport& transport, bool* moved) override {
    Status first;
    for (Stream& stream : streams_) {
      const Status outcome = advance_stream(transport, stream, moved);
      // A server's last words are preferred to the loss of another rank.
      const bool better = first.ok() || first.code() == ErrorCode::peer_lost;
      if (!outcome.ok() && better) {
        first = worker_->from(stream.server, outcome);
      }
    }
    return first;
  }

  Status advance_stream(Transport& transport, Stream& stream, bool* moved) {
    const auto& port = worker_->ports()[static_cast<std::size_t>(stream.server)];
    while (!stream.complete()) {
      if (!stream.current) {
        const auto header = port ? port->hear(transport) : worker_->local()->take_answer();
        DIST_TRY(header);
        if (!header->has_value()) return {};
        if ((*header)->kind == Kind::failed) return worker_->told(*port, **header);
        DIST_TRY(note(stream, **header));
        *moved = true;
        if (port) receive(transport, stream, *port);
      }
      if (port && stream.current->payload_bytes != 0) {
        if (!transport.finished(stream.payload)) return {};
        DIST_TRY(transport.take(stream.payload));
        *moved = true;
        DIST_TRY(unpack(stream));
      }
      const auto piece = stream.current->piece;
      worker_->versions()[piece] = stream.current->version;
      if (arrivals_) arrivals_->arrived(piece, stream.current->value);
      stream.current.reset();
      if (port && stream.complete()) port->awaited = false;
    }
    return {};
  }

  // Straight into the arena, unless it is compressed, or the server has written it there; and the
  // next header, whatever it is.
  void receive(Transport& transport, Stream& stream, ServerPort& port) {
    if (stream.current->payload_bytes != 0) {
      const Range range = map().pieces[stream.current->piece].range;
      auto into = worker_->arena().parameters(range);
      if (worker_->packer().packs(Kind::reply, Elems(range.elems()))) {
        stream.packed.resize(stream.current->payload_bytes);
        into = stream.packed;
      }
      stream.payload = transport.receive(port.rank(), Channel::to_worker, into);
      bytes_ += Bytes(into.size());
    }
    port.listen(transport);
  }

  Status unpack(Stream& stream) {
    if (stream.packed.empty()) return {};
    const auto into = worker_->arena().parameters(map().pieces[stream.current->piece].range);
    Status outcome = worker_->packer().unpack(Kind::reply, stream.packed, into);
    stream.packed.clear();
    return outcome;
  }

  Status note(Stream& stream, const Header& header) {
    const auto due = std::lower_bound(stream.due.begin(), stream.due.end(), header.piece);
    if (header.kind != Kind::reply || header.step != step_ || due == stream.due.end() ||
        *due != header.piece) {
      return Status::protocol(
          fmt::format("a {} (piece {}, step {}) where replies with {} pieces of step {} are due",
                      name_of(header.kind), header.piece, header.step, stream.due.size(), step_));
    }
    if (header.version < worker_->versions()[header.piece]) {
      return Status::protocol(fmt::format("piece {} went back from version {} to {}", header.piece,
                                          worker_->versions()[header.piece], header.version));
    }
    stream.due.erase(due);
    stream.current = header;
    return {};
  }

  bool complete() const override {
    return std::all_of(streams_.begin(), streams_.end(),
                       [](const Stream& stream) { return stream.complete(); });
  }

  bool patient() const override { return final_; }

  int next_server() const override {
    const auto waiting = std::find_if(streams_.begin(), streams_.end(),
                                      [](const Stream& stream) { return !stream.complete(); });
    return waiting == streams_.end() ? 0 : waiting->server;
  }

  const std::uint64_t step_;
  const bool final_;
  const std::shared_ptr<Arrivals> arrivals_;
  std::vector<Stream> streams_;
};

}  // namespace

std::unique_ptr<Task> Worker::make_hello() {
  return std::make_unique<Greeting>(shared_from_this(), Kind::hello, Kind::welcome);
}
std::unique_ptr<Task> Worker::make_initialise() {
  return std::make_unique<Initialise>(shared_from_this());
}
std::unique_ptr<Task> Worker::make_push(std::size_t bucket, std::uint64_t step) {
  return std::make_unique<Push>(shared_from_this(), bucket, step);
}
std::unique_ptr<Task> Worker::make_pull(std::uint64_t step, std::shared_ptr<Arrivals> arrivals) {
  return std::make_unique<Pull>(shared_from_this(), step, false, std::move(arrivals));
}
std::unique_ptr<Task> Worker::make_final_pull(std::uint64_t step) {
  return std::make_unique<Pull>(shared_from_this(), step, true, nullptr);
}
std::unique_ptr<Task> Worker::make_save(std::uint64_t step, std::uint64_t number) {
  return std::make_unique<Save>(shared_from_this(), step, number);
}
std::unique_ptr<Task> Worker::make_bye() {
  return std::make_unique<Greeting>(shared_from_this(), Kind::bye, Kind::farewell);
}

}  // namespace dist::ps
