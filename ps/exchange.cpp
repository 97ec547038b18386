// SPDX-License-Identifier: Apache-2.0
#include "ps/exchange.h"

#include <fmt/format.h>

#include <utility>

namespace dist::ps {
namespace {

constexpr Duration kServerSpeaksFirst = std::chrono::seconds(2);

// A rank that leaves at once would be taken for the lost one by those who have not looked yet. Also
// time for the server on this rank to tell its story first.
constexpr Duration kLinger = std::chrono::milliseconds(400);

}  // namespace

void SendList::send(Transport& transport, const ServerPort& port, const Header& header,
                    std::span<const std::byte> payload) {
  headers_.push_back(std::make_unique<HeaderBytes>(encode(header)));
  sends_.push_back(
      {transport.send(port.rank(), Channel::to_server, *headers_.back()), port.server()});
  if (payload.empty()) return;
  sends_.push_back({transport.send(port.rank(), Channel::to_server, payload), port.server()});
}

Status SendList::advance(Transport& transport, const Worker& worker, bool* moved) {
  for (std::size_t i = 0; i < sends_.size();) {
    if (!transport.finished(sends_[i].operation)) {
      ++i;
      continue;
    }
    const auto done = std::exchange(sends_[i], sends_.back());
    sends_.pop_back();
    *moved = true;
    const Status outcome = transport.take(done.operation);
    if (!outcome.ok()) return worker.from(done.server, outcome);
  }
  return {};
}

Exchange::Exchange(std::shared_ptr<Worker> worker, Activity activity, std::string what)
    : worker_(std::move(worker)), activity_(activity), what_(std::move(what)) {}

Result<Advance> Exchange::advance(Transport& transport) {
  if (!failure_.ok()) return linger();
  bool moved = false;
  if (!begun_) {
    begun_ = last_moved_ = Clock::now();
    start(transport);
    moved = true;
  }
  const Status outcome = work(transport, &moved);
  const auto now = Clock::now();
  if (!outcome.ok()) {
    failure_ = outcome.because(title());
    failed_at_ = now;
    return Advance::moved;
  }
  if (moved) last_moved_ = now;
  if (!sends_.empty() || !complete()) return moved ? Advance::moved : Advance::idle;
  worker_->trace().record(activity_, what_, *begun_, now, bytes_);
  return Advance::finished;
}

Status Exchange::work(Transport& transport, bool* moved) {
  // Everything is looked at, because a server's last words tell more than a broken connection.
  const Status news = worker_->bad_news(transport);
  Status outcome = step(transport, moved);
  if (outcome.ok()) outcome = sends_.advance(transport, *worker_, moved);
  if (outcome.ok() || (!news.ok() && outcome.code() == ErrorCode::peer_lost)) outcome = news;
  const auto waited = Clock::now() - last_moved_;
  if (!outcome.ok() || *moved || patient() ||
      waited < worker_->options().timeout + kServerSpeaksFirst) {
    return outcome;
  }
  return Status::timed_out(fmt::format("{} did not answer for {:.1f} s",
                                       worker_->name_of_server(awaited_server()),
                                       std::chrono::duration<double>(waited).count()));
}

Result<Advance> Exchange::linger() const {
  const Server* local = worker_->local();
  if (Clock::now() - failed_at_ < kLinger) return Advance::idle;
  return local != nullptr && !local->failure().ok() ? local->failure() : failure_;
}

std::string Exchange::waits_for() const {
  return fmt::format("{}: {}", title(), worker_->name_of_server(awaited_server()));
}

std::string Exchange::title() const {
  return fmt::format("{}: {}", worker_->options().strategy_name, what_);
}

void Exchange::send(Transport& transport, int server, const Header& header,
                    std::span<const std::byte> payload) {
  const auto& port = worker_->ports()[static_cast<std::size_t>(server)];
  if (!port) {
    worker_->local()->deliver(header);
    return;
  }
  if (header.payload_bytes == 0) payload = {};
  sends_.send(transport, *port, header, payload);
  bytes_ += Bytes(payload.size());
}

}  // namespace dist::ps
