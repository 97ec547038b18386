// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/tcp_mesh.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "libdist/transport/tcp_dial.h"
#include "libdist/transport/tcp_door.h"

namespace dist::tcp {
namespace {

constexpr int kHandlersATurn = 64;
constexpr Duration kStep = std::chrono::milliseconds(10);
constexpr Duration kFirstRetry = std::chrono::milliseconds(2);
constexpr Duration kLongestRetry = std::chrono::milliseconds(50);

class Mesh {
 public:
  Mesh(asio::io_context& context, const Options& options, Listener& listener,
       const Rendezvous& rendezvous, TimePoint deadline)
      : context_(context),
        options_(options),
        listener_(listener),
        rendezvous_(rendezvous),
        deadline_(deadline),
        links_(static_cast<std::size_t>(options.ranks)),
        calls_(static_cast<std::size_t>(options.ranks)) {}

  Result<Links> connect() {
    listener_.serve(
        rendezvous_.secret(), hello_at_door(options_),
        [this](const wire::Hello& hello) { return admit(hello); },
        [this](Socket socket, const wire::Hello& hello) {
          link(static_cast<Rank>(hello.rank), hello.channel).emplace(std::move(socket));
        });
    while (!complete()) {
      if (!failure_.ok()) return failure_;
      const auto now = Clock::now();
      if (now >= deadline_) return timed_out();
      call_others(now);
      context_.run_one_for(std::min<Duration>(kStep, deadline_ - now));
      // A bounded turn: strangers who knock without end must not keep us from looking at the clock.
      for (int i = 0; i < kHandlersATurn && context_.poll_one() > 0; ++i) {
      }
    }
    if (!options_.elastic) listener_.close();
    return std::move(links_);
  }

 private:
  /// All attempts to reach one rank.
  struct Calls {
    std::array<std::unique_ptr<Dial>, kChannels> dials;
    TimePoint next_try;
    Duration retry_after = kFirstRetry;
    Status last;
  };

  std::optional<Socket>& link(Rank peer, std::size_t channel) {
    return links_[static_cast<std::size_t>(peer)][channel];
  }

  wire::Hello hello_to(Rank peer, std::size_t channel) const {
    return {.purpose = wire::Purpose::channel,
            .channel = static_cast<std::uint8_t>(channel),
            .job = options_.job,
            .epoch = options_.elastic ? options_.incarnation : 0,
            .rank = static_cast<std::uint32_t>(options_.rank),
            .ranks = static_cast<std::uint32_t>(options_.ranks),
            .to_rank = static_cast<std::uint32_t>(peer)};
  }

  // Workers that may leave know servers only.
  bool meets(Rank peer) const {
    if (peer == options_.rank) return false;
    return !options_.elastic || !options_.may_leave(peer);
  }
  bool calls(Rank peer) const {
    return meets(peer) && (peer < options_.rank || options_.may_leave(options_.rank));
  }

  wire::Verdict admit(const wire::Hello& hello) {
    const auto peer = static_cast<Rank>(hello.rank);
    if (!meets(peer) || calls(peer) || hello.channel >= kChannels) return wire::Verdict::wrong_rank;
    return link(peer, hello.channel) ? wire::Verdict::duplicate : wire::Verdict::welcome;
  }

  void call_others(TimePoint now) {
    for (Rank peer = 0; peer < options_.ranks; ++peer) {
      if (!calls(peer)) continue;
      Calls& calls = calls_[static_cast<std::size_t>(peer)];
      if (now < calls.next_try || !wants_call(peer)) continue;
      calls.next_try = now + calls.retry_after;
      calls.retry_after = std::min(calls.retry_after * 2, kLongestRetry);
      // Asked for anew each time: the peer may have come back at another address.
      const auto address = rendezvous_.find(peer);
      if (!address) continue;
      for (std::size_t channel = 0; channel < kChannels; ++channel) {
        if (!link(peer, channel) && !calls.dials[channel]) call(peer, channel, *address);
      }
    }
  }

  bool wants_call(Rank peer) {
    for (std::size_t channel = 0; channel < kChannels; ++channel) {
      if (!link(peer, channel) && !calls_[static_cast<std::size_t>(peer)].dials[channel]) {
        return true;
      }
    }
    return false;
  }

  void call(Rank peer, std::size_t channel, const Endpoint& address) {
    Calls& calls = calls_[static_cast<std::size_t>(peer)];
    calls.dials[channel] =
        std::make_unique<Dial>(context_, address, rendezvous_.secret(), hello_to(peer, channel),
                               [this, peer, channel](DialOutcome outcome) {
                                 Calls& ended = calls_[static_cast<std::size_t>(peer)];
                                 ended.dials[channel].reset();
                                 if (outcome.socket) {
                                   link(peer, channel).emplace(*std::move(outcome.socket));
                                   return;
                                 }
                                 if (outcome.final && failure_.ok()) failure_ = outcome.status;
                                 ended.last = outcome.status;
                               });
  }

  bool linked(Rank peer) {
    for (std::size_t channel = 0; channel < kChannels; ++channel) {
      if (!link(peer, channel)) return false;
    }
    return true;
  }

  bool complete() {
    for (Rank peer = 0; peer < options_.ranks; ++peer) {
      if (meets(peer) && !linked(peer)) return false;
    }
    return true;
  }

  Status timed_out() {
    std::vector<std::string> missing;
    for (Rank peer = 0; peer < options_.ranks; ++peer) {
      if (meets(peer) && !linked(peer)) missing.push_back(what_is_known_about(peer));
    }
    return Status::timed_out(
        fmt::format("rank {} waited {:.1f} s for the other ranks; missing: {}{}", options_.rank,
                    std::chrono::duration<double>(options_.connect_timeout).count(),
                    fmt::join(missing, ", "), listener_.refusals().text()));
  }

  std::string what_is_known_about(Rank peer) {
    const auto address = rendezvous_.find(peer);
    if (!address) return fmt::format("rank {} (did not come)", peer);
    if (!calls(peer)) {
      return fmt::format("rank {} (came, listens on {}, but did not connect here)", peer,
                         text_of(*address));
    }
    const auto& last = calls_[static_cast<std::size_t>(peer)].last;
    return fmt::format("rank {} ({})", peer,
                       last.ok() ? "does not answer at " + text_of(*address) : last.message());
  }

  asio::io_context& context_;
  const Options& options_;
  Listener& listener_;
  const Rendezvous& rendezvous_;
  TimePoint deadline_;
  Links links_;
  std::vector<Calls> calls_;  // by rank
  Status failure_;
};

}  // namespace

Result<Links> connect_all(asio::io_context& context, const Options& options, Listener& listener,
                          const Rendezvous& rendezvous, TimePoint deadline) {
  return Mesh(context, options, listener, rendezvous, deadline).connect();
}

}  // namespace dist::tcp
