// SPDX-License-Identifier: Apache-2.0
// The tasks of a worker. Each posts all its messages when it starts, in the order of the pieces, so
// that messages to a server keep their order from task to task.
#include <fmt/format.h>

#include <algorithm>

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
        first = answered.status().because(fmt::format("from {}", worker_->name_of_server(server)));
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
  // Workers begin at different servers, lest all of them crowd the first one.
  void start(Transport& transport) override {
    const int servers = map().servers();
    for (int i = 1; i <= servers; ++i) {
      push_to(transport, (worker_->options().worker + i) % servers);
    }
  }

  void push_to(Transport& transport, int server) {
    const auto& pieces = map().pieces;
    const auto& owned = map().of_server[static_cast<std::size_t>(server)];
    const auto first = std::partition_point(
        owned.begin(), owned.end(), [&](std::uint32_t id) { return pieces[id].bucket < bucket_; });
    for (auto at = first; at != owned.end() && pieces[*at].bucket == bucket_; ++at) {
      Header header = worker_->piece_header(Kind::push, *at);
      header.step = step_;
      header.version = worker_->versions()[*at];
      send(transport, server, header, worker_->arena().gradients(pieces[*at].range));
    }
  }

  const std::size_t bucket_;
  const std::uint64_t step_;
};

class Pull final : public Exchange {
 public:
  Pull(std::shared_ptr<Worker> worker, std::uint64_t step, bool final, std::uint64_t* staleness)
      : Exchange(
            std::move(worker), Activity::receive,
            final ? "pull of the last parameters" : fmt::format("pull of parameters {}", step)),
        step_(step),
        final_(final),
        staleness_(staleness) {}

 private:
  struct Reply {
    HeaderBytes header;
    Operation header_receive;
    Operation payload_receive;
    bool header_seen = false;
  };
  // The replies of one server, in the order of its pieces.
  struct Stream {
    int server = 0;
    std::vector<Reply> replies;
    std::size_t next = 0;
    bool complete() const { return next == replies.size(); }
  };

  void start(Transport& transport) override {
    for (int server = 0; server < map().servers(); ++server) {
      const auto& owned = map().of_server[static_cast<std::size_t>(server)];
      if (owned.empty()) continue;
      streams_.push_back({server, std::vector<Reply>(owned.size()), 0});
      post(transport, streams_.back());
      Header header = worker_->header(Kind::pull);
      header.step = step_;
      header.value = final_ ? kFinal : 0;
      send(transport, server, header);
    }
  }

  // Posts everything at once, straight into the arena. The first header is listened for already.
  void post(Transport& transport, Stream& stream) {
    const auto& port = worker_->ports()[static_cast<std::size_t>(stream.server)];
    if (!port) return;
    port->awaited = true;
    for (std::size_t i = 0; i < stream.replies.size(); ++i) {
      Reply& reply = stream.replies[i];
      const auto into = worker_->arena().parameters(map().pieces[piece_id(stream, i)].range);
      if (i != 0) {
        reply.header_receive = transport.receive(port->rank(), Channel::to_worker, reply.header);
      }
      reply.payload_receive = transport.receive(port->rank(), Channel::to_worker, into);
      bytes_ += Bytes(into.size());
    }
  }

  Status step(Transport& transport, bool* moved) override {
    Status first;
    for (Stream& stream : streams_) {
      if (stream.complete()) continue;
      const Status outcome = advance_stream(transport, stream, moved);
      // A server's last words are preferred to the loss of another rank.
      const bool better = first.ok() || first.code() == ErrorCode::peer_lost;
      if (!outcome.ok() && better) {
        first = outcome.because(fmt::format("from {}", worker_->name_of_server(stream.server)));
      }
    }
    return first;
  }

  Status advance_stream(Transport& transport, Stream& stream, bool* moved) {
    const auto& port = worker_->ports()[static_cast<std::size_t>(stream.server)];
    while (!stream.complete()) {
      Reply& reply = stream.replies[stream.next];
      if (!reply.header_seen) {
        const auto header = hear(transport, stream);
        DIST_TRY(header);
        if (!header->has_value()) return {};
        if ((*header)->kind == Kind::failed) return worker_->told(*port, **header);
        DIST_TRY(note(stream, **header));
        reply.header_seen = *moved = true;
      }
      if (port) {
        if (!transport.finished(reply.payload_receive)) return {};
        DIST_TRY(transport.take(reply.payload_receive));
        *moved = true;
      }
      ++stream.next;
    }
    if (port) {
      port->awaited = false;
      port->listen(transport);
    }
    return {};
  }

  Result<std::optional<Header>> hear(Transport& transport, Stream& stream) {
    const auto& port = worker_->ports()[static_cast<std::size_t>(stream.server)];
    if (!port) return worker_->local()->take_answer();
    if (stream.next == 0) return port->hear(transport);
    const Reply& reply = stream.replies[stream.next];
    if (!transport.finished(reply.header_receive)) return std::optional<Header>();
    DIST_TRY(transport.take(reply.header_receive));
    const auto header = port->check(reply.header);
    DIST_TRY(header);
    return std::optional(*header);
  }

  Status note(const Stream& stream, const Header& header) {
    const auto piece = piece_id(stream, stream.next);
    if (header.kind != Kind::reply || header.piece != piece || header.step != step_) {
      return Status::protocol(
          fmt::format("a {} (piece {}, step {}) where the reply with piece {}, step {} is due",
                      name_of(header.kind), header.piece, header.step, piece, step_));
    }
    worker_->versions()[piece] = header.version;
    if (staleness_ != nullptr) *staleness_ = std::max(*staleness_, header.value);
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

  std::uint32_t piece_id(const Stream& stream, std::size_t at) const {
    return map().of_server[static_cast<std::size_t>(stream.server)][at];
  }

  const std::uint64_t step_;
  const bool final_;
  std::uint64_t* const staleness_;
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
std::unique_ptr<Task> Worker::make_pull(std::uint64_t step, std::uint64_t* staleness) {
  return std::make_unique<Pull>(shared_from_this(), step, false, staleness);
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
