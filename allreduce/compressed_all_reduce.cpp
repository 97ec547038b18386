// SPDX-License-Identifier: Apache-2.0
#include "allreduce/compressed_all_reduce.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "libdist/check.h"
#include "libdist/memory/reduce.h"
#include "libdist/plan.h"

namespace dist::allreduce {
namespace {

class CompressedAllReduce final : public Task {
 public:
  CompressedAllReduce(AllReduceOptions options, Compressor& compressor, LostInRounding lost,
                      Bytes& saved)
      : options_(std::move(options)), compressor_(compressor), lost_(lost), saved_(saved) {
    DIST_ASSERT(options_.reduction == Reduction::sum, "what is compressed is summed");
  }

  Result<Advance> advance(Transport& transport) override {
    bool moved = false;
    if (phase_ == Phase::start) {
      if (options_.ranks == 1) return Advance::finished;
      send_gradients(transport);
      moved = true;
    }
    DIST_TRY(finish_sends(transport, &moved));
    DIST_TRY(finish_receives(transport, &moved));
    if (phase_ == Phase::gradients && receives_.empty()) {
      DIST_TRY(send_sum(transport));
      moved = true;
    }
    if (phase_ == Phase::sums && receives_.empty() && sends_.empty()) return Advance::finished;
    return moved ? Advance::moved : Advance::idle;
  }

  std::string waits_for() const override {
    if (!receives_.empty()) {
      return fmt::format("{}: receive from rank {}", options_.label, peer(receives_.front().rank));
    }
    if (!sends_.empty()) {
      return fmt::format("{}: send to rank {}", options_.label, peer(sends_.front().rank));
    }
    return options_.label;
  }

 private:
  enum class Phase : std::uint8_t { start, gradients, sums };

  struct Flight {
    Operation operation;
    Rank rank = 0;
    std::vector<std::byte> bytes;  // encoded
  };

  Range chunk(Rank rank) const {
    const auto elems = options_.data.size() / size_of(options_.dtype);
    return chunk_range({0, elems}, options_.ranks, rank);
  }
  std::span<std::byte> bytes(Range range) const {
    return options_.data.subspan(range.begin * size_of(options_.dtype),
                                 range.elems() * size_of(options_.dtype));
  }
  static std::span<float> part(std::span<float> lost, Range range) {
    return lost.empty() ? lost : lost.subspan(range.begin, range.elems());
  }
  Rank peer(Rank rank) const {
    return options_.members ? (*options_.members)[static_cast<std::size_t>(rank)] : rank;
  }
  // The others, beginning after this rank: not all at once to the same one.
  template <typename Visit>
  void for_each_other(const Visit& visit) {
    for (int k = 1; k < options_.ranks; ++k) visit((options_.rank + k) % options_.ranks);
  }

  void send(Transport& transport, Rank to, std::vector<std::byte> encoded, Bytes plain) {
    saved_ += plain - std::min(plain, Bytes(encoded.size()));
    Flight flight{{}, to, std::move(encoded)};
    flight.operation = transport.send(peer(to), options_.channel, flight.bytes);
    sends_.push_back(std::move(flight));
  }

  void receive(Transport& transport, Rank from, Range range) {
    if (range.empty()) return;
    Flight flight{{}, from, {}};
    flight.bytes.resize(compressor_.encoded_bytes(Elems(range.elems())).value);
    flight.operation = transport.receive(peer(from), options_.channel, flight.bytes);
    receives_.push_back(std::move(flight));
  }

  void send_gradients(Transport& transport) {
    phase_ = Phase::gradients;
    for_each_other([&](Rank other) { receive(transport, other, chunk(options_.rank)); });
    for_each_other([&](Rank other) {
      const Range range = chunk(other);
      if (range.empty()) return;
      send(transport, other, encode(range, lost_.gradients), Bytes(bytes(range).size()));
    });
  }

  // The sum has the order of libdist/plan.h: it begins with the chunk's owner.
  Status send_sum(Transport& transport) {
    phase_ = Phase::sums;
    const Range own = chunk(options_.rank);
    if (!own.empty()) {
      std::vector<std::byte> decoded(bytes(own).size());
      for (const Flight& arrived : arrived_) {
        DIST_TRY_BECAUSE(compressor_.decode(arrived.bytes, decoded),
                         story(arrived, "receive from"));
        reduce_into(bytes(own), decoded, options_.dtype, Reduction::sum);
      }
    }
    arrived_.clear();
    for_each_other([&](Rank other) { receive(transport, other, chunk(other)); });
    if (own.empty()) return {};
    const auto encoded = encode(own, lost_.sums);
    for_each_other([&](Rank other) { send(transport, other, encoded, Bytes(bytes(own).size())); });
    return compressor_.decode(encoded, bytes(own));  // the others have no more
  }

  std::vector<std::byte> encode(Range range, std::span<float> lost) {
    std::vector<std::byte> encoded(compressor_.encoded_bytes(Elems(range.elems())).value);
    compressor_.encode(bytes(range), encoded, part(lost, range));
    return encoded;
  }

  Status finish_sends(Transport& transport, bool* moved) {
    for (std::size_t i = 0; i < sends_.size();) {
      if (!transport.finished(sends_[i].operation)) {
        ++i;
        continue;
      }
      DIST_TRY_BECAUSE(transport.take(sends_[i].operation), story(sends_[i], "send to"));
      sends_.erase(sends_.begin() + static_cast<std::ptrdiff_t>(i));
      *moved = true;
    }
    return {};
  }

  // In the order of the ranks, which is that of the sum.
  Status finish_receives(Transport& transport, bool* moved) {
    while (!receives_.empty() && transport.finished(receives_.front().operation)) {
      Flight flight = std::move(receives_.front());
      receives_.erase(receives_.begin());
      *moved = true;
      DIST_TRY_BECAUSE(transport.take(flight.operation), story(flight, "receive from"));
      if (phase_ == Phase::gradients) {
        arrived_.push_back(std::move(flight));
        continue;
      }
      DIST_TRY_BECAUSE(compressor_.decode(flight.bytes, bytes(chunk(flight.rank))),
                       story(flight, "receive from"));
    }
    return {};
  }

  std::string story(const Flight& flight, std::string_view what) const {
    return fmt::format("{}: {} rank {}", options_.label, what, peer(flight.rank));
  }

  const AllReduceOptions options_;
  Compressor& compressor_;
  const LostInRounding lost_;
  Bytes& saved_;
  Phase phase_ = Phase::start;
  std::vector<Flight> sends_;
  std::vector<Flight> receives_;
  std::vector<Flight> arrived_;  // parts of the own chunk
};

}  // namespace

std::unique_ptr<Task> make_compressed_all_reduce(AllReduceOptions options, Compressor& compressor,
                                                 LostInRounding lost, Bytes& saved) {
  return std::make_unique<CompressedAllReduce>(std::move(options), compressor, lost, saved);
}

}  // namespace dist::allreduce
