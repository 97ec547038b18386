// SPDX-License-Identifier: Apache-2.0
// How two ranks prove to each other that they belong to one job: both ends as pure state machines,
// without socket, clock or random source. Three messages of fixed length; see FORMAT.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "libdist/status.h"

namespace dist::wire {

inline constexpr std::size_t kNonceBytes = 32;
inline constexpr std::size_t kMacBytes = 32;
inline constexpr std::size_t kChallengeBytes = 40;
inline constexpr std::size_t kHelloBytes = 96;
inline constexpr std::size_t kAnswerBytes = 40;
inline constexpr std::size_t kLeastSecretBytes = 16;

using Nonce = std::array<std::byte, kNonceBytes>;
using Mac = std::array<std::byte, kMacBytes>;

/// Bytes that all ranks of a job share; wiped from memory at the end.
class Secret {
 public:
  explicit Secret(std::vector<std::byte> bytes);
  ~Secret();
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&&) = delete;
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// As the epoch of a ServerHandshake's `self`: whoever asks decides about the client's epoch.
inline constexpr std::uint32_t kAnyEpoch = 0xffffffff;

/// What the connection is for.
enum class Purpose : std::uint8_t { channel = 0, rendezvous = 1 };

/// What a client says about itself and about whom it means to reach.
struct Hello {
  Purpose purpose = Purpose::channel;
  std::uint8_t channel = 0;
  std::uint64_t job = 0;
  std::uint32_t epoch = 0;  ///< which life of the client's rank this is, where ranks may come back
  std::uint32_t rank = 0;
  std::uint32_t ranks = 0;
  std::uint32_t to_rank = 0;

  bool operator==(const Hello&) const = default;
};

/// The server's word on a hello.
enum class Verdict : std::uint8_t {
  welcome = 0,
  malformed = 1,       ///< no hello at all
  version = 2,         ///< another version of the handshake
  authentication = 3,  ///< the client does not hold the server's secret
  job = 4,             ///< another job or epoch
  ranks = 5,           ///< another number of ranks, or a rank that cannot be
  wrong_rank = 6,      ///< the client meant to reach another rank, or another door
  duplicate = 7,       ///< this rank is already connected on this channel
  superseded = 8,      ///< this life of the rank, or a later one, has been here
};
std::string_view name_of(Verdict verdict);

/// The side that accepted the connection. Order of calls: challenge, judge, answer.
class ServerHandshake {
 public:
  /// `self`: what a welcome hello must say, seen from the server: its own job, epoch, ranks,
  /// purpose and, in to_rank, its own rank. `nonce` must be fresh and random. Keeps a reference to
  /// `secret`.
  ServerHandshake(const Secret& secret, const Nonce& nonce, const Hello& self);

  std::span<const std::byte, kChallengeBytes> challenge() const { return challenge_; }

  /// Checks a hello, its authentication before any of its fields. hello() is meaningful unless the
  /// verdict is malformed, version or authentication.
  Verdict judge(std::span<const std::byte> hello_bytes);
  const Hello& hello() const { return hello_; }

  /// The last message: judge()'s verdict, or duplicate where the caller knows better.
  std::array<std::byte, kAnswerBytes> answer(Verdict verdict) const;

 private:
  const Secret& secret_;
  Hello self_;
  Hello hello_;
  std::array<std::byte, kChallengeBytes> challenge_{};
  std::array<std::byte, kHelloBytes> hello_bytes_{};
  bool authenticated_ = false;
};

/// The side that connected. Order of calls: respond, conclude.
class ClientHandshake {
 public:
  /// `nonce` must be fresh and random. Keeps a reference to `secret`.
  ClientHandshake(const Secret& secret, const Nonce& nonce, const Hello& hello);

  /// Reads the server's challenge; then hello_bytes() is what to send.
  Status respond(std::span<const std::byte> challenge);
  std::span<const std::byte, kHelloBytes> hello_bytes() const { return hello_bytes_; }

  /// Reads the server's answer. A verdict that only a holder of the secret may speak is believed
  /// only with its proof; without it the Result is a protocol error.
  Result<Verdict> conclude(std::span<const std::byte> answer) const;

 private:
  const Secret& secret_;
  Nonce nonce_;
  Hello hello_;
  std::array<std::byte, kChallengeBytes> challenge_{};
  std::array<std::byte, kHelloBytes> hello_bytes_{};
};

}  // namespace dist::wire
