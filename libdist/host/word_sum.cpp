// SPDX-License-Identifier: Apache-2.0
#include "libdist/host/word_sum.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

namespace dist {
namespace {

class WordSum final : public Task {
 public:
  WordSum(std::span<std::uint64_t> words, std::string what)
      : sums_(words), own_(words.begin(), words.end()), what_(std::move(what)) {}

  Result<Advance> advance(Transport& transport) override {
    const bool starts = peers_.empty() && transport.ranks() > 1;
    if (starts) start(transport);
    bool moved = starts;
    bool waits = false;
    for (Peer& peer : peers_) {
      DIST_TRY(take(transport, &peer.sending, peer.rank, &moved));
      const bool receives = peer.receiving.has_value();
      DIST_TRY(take(transport, &peer.receiving, peer.rank, &moved));
      if (receives && !peer.receiving) {
        for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += peer.words[i];
      }
      waits |= peer.sending || peer.receiving;
    }
    if (!waits) return Advance::finished;
    return moved ? Advance::moved : Advance::idle;
  }

  std::string waits_for() const override {
    for (const Peer& peer : peers_) {
      if (peer.receiving) return fmt::format("{}: receive from rank {}", what_, peer.rank);
    }
    return what_;
  }

 private:
  struct Peer {
    Rank rank;
    std::vector<std::uint64_t> words;
    std::optional<Operation> sending;
    std::optional<Operation> receiving;
  };

  void start(Transport& transport) {
    for (Rank rank = 0; rank < transport.ranks(); ++rank) {
      if (rank == transport.rank()) continue;
      peers_.push_back({rank, std::vector<std::uint64_t>(own_.size()), {}, {}});
      Peer& peer = peers_.back();
      peer.sending = transport.send(rank, Channel::control, std::as_bytes(std::span(own_)));
      peer.receiving =
          transport.receive(rank, Channel::control, std::as_writable_bytes(std::span(peer.words)));
    }
  }

  Status take(Transport& transport, std::optional<Operation>* operation, Rank rank, bool* moved) {
    if (!*operation || !transport.finished(**operation)) return {};
    const Status outcome = transport.take(**operation);
    operation->reset();
    *moved = true;
    return outcome.because(fmt::format("{}: rank {}", what_, rank));
  }

  const std::span<std::uint64_t> sums_;
  const std::vector<std::uint64_t> own_;
  const std::string what_;
  std::vector<Peer> peers_;
};

}  // namespace

std::unique_ptr<Task> make_word_sum(std::span<std::uint64_t> words, std::string what) {
  return std::make_unique<WordSum>(words, std::move(what));
}

}  // namespace dist
