// SPDX-License-Identifier: Apache-2.0
// Each side's HMAC-SHA256 covers a label of its own (so that nothing can be reflected), both nonces
// (so that nothing can be replayed) and everything said before it.
#include "libdist/wire/handshake.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <initializer_list>

#include "libdist/check.h"
#include "libdist/wire/frame.h"
#include "libdist/wire/little_endian.h"

namespace dist::wire {
namespace {

constexpr std::string_view kClientLabel = "libdist handshake 1 client";
constexpr std::string_view kServerLabel = "libdist handshake 1 server";

enum class MessageType : std::uint8_t { challenge = 1, hello = 2, answer = 3 };

constexpr std::size_t kChallengeNonceAt = 8;
constexpr std::size_t kPurposeAt = 6;
constexpr std::size_t kChannelAt = 7;
constexpr std::size_t kJobAt = 8;
constexpr std::size_t kEpochAt = 16;
constexpr std::size_t kRankAt = 20;
constexpr std::size_t kRanksAt = 24;
constexpr std::size_t kToRankAt = 28;
constexpr std::size_t kHelloNonceAt = 32;
constexpr std::size_t kHelloMacAt = 64;
constexpr std::size_t kVerdictAt = 6;
constexpr std::size_t kAnswerMacAt = 8;

using Parts = std::initializer_list<std::span<const std::byte>>;

// At most label + challenge + hello + head of the answer: no heap before authentication.
constexpr std::size_t kMostSignedBytes = 256;

Mac sign(const Secret& secret, std::string_view label, Parts parts) {
  std::array<std::byte, kMostSignedBytes> text{};
  auto end =
      std::copy_n(reinterpret_cast<const std::byte*>(label.data()), label.size(), text.begin());
  for (const auto part : parts) {
    DIST_ASSERT(part.size() <= static_cast<std::size_t>(text.end() - end), "handshake too long");
    end = std::copy(part.begin(), part.end(), end);
  }
  Mac mac{};
  unsigned int length = 0;
  const auto* made =
      HMAC(EVP_sha256(), secret.bytes().data(), static_cast<int>(secret.bytes().size()),
           reinterpret_cast<const unsigned char*>(text.data()),
           static_cast<std::size_t>(end - text.begin()),
           reinterpret_cast<unsigned char*>(mac.data()), &length);
  DIST_ASSERT(made != nullptr && length == kMacBytes, "this OpenSSL has no HMAC-SHA256");
  return mac;
}

bool equal_in_constant_time(const Mac& mac, std::span<const std::byte> claimed) {
  return CRYPTO_memcmp(mac.data(), claimed.data(), kMacBytes) == 0;
}

void write_head(MessageType type, std::byte* at) {
  store(kMagic, at);
  store(kVersion, at + 4);
  store(static_cast<std::uint8_t>(type), at + 5);
}

// welcome here means: the head is good.
Verdict check_head(MessageType type, std::span<const std::byte> bytes, std::size_t length) {
  if (bytes.size() != length || load<std::uint32_t>(bytes.data()) != kMagic ||
      load<std::uint8_t>(bytes.data() + 5) != static_cast<std::uint8_t>(type)) {
    return Verdict::malformed;
  }
  return load<std::uint8_t>(bytes.data() + 4) == kVersion ? Verdict::welcome : Verdict::version;
}

Hello read_hello(std::span<const std::byte> bytes) {
  Hello hello;
  hello.purpose = static_cast<Purpose>(load<std::uint8_t>(bytes.data() + kPurposeAt));
  hello.channel = load<std::uint8_t>(bytes.data() + kChannelAt);
  hello.job = load<std::uint64_t>(bytes.data() + kJobAt);
  hello.epoch = load<std::uint32_t>(bytes.data() + kEpochAt);
  hello.rank = load<std::uint32_t>(bytes.data() + kRankAt);
  hello.ranks = load<std::uint32_t>(bytes.data() + kRanksAt);
  hello.to_rank = load<std::uint32_t>(bytes.data() + kToRankAt);
  return hello;
}

Verdict check_hello(const Hello& hello, const Hello& self) {
  const bool epoch_fits = self.epoch == kAnyEpoch || hello.epoch == self.epoch;
  if (hello.job != self.job || !epoch_fits) return Verdict::job;
  if (hello.ranks != self.ranks || hello.rank >= self.ranks) return Verdict::ranks;
  if (hello.purpose != self.purpose || hello.to_rank != self.to_rank ||
      hello.rank == self.to_rank) {
    return Verdict::wrong_rank;
  }
  return Verdict::welcome;
}

// Whether only a holder of the secret can say this verdict.
bool needs_proof(Verdict verdict) { return verdict == Verdict::welcome || verdict >= Verdict::job; }

}  // namespace

Secret::Secret(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {
  DIST_ASSERT(bytes_.size() >= kLeastSecretBytes, "a secret has at least 16 bytes");
}

Secret::~Secret() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

std::string_view name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::welcome:
      return "welcome";
    case Verdict::malformed:
      return "what was sent is no handshake";
    case Verdict::version:
      return "another version of the handshake";
    case Verdict::authentication:
      return "another secret";
    case Verdict::job:
      return "another job";
    case Verdict::ranks:
      return "another number of ranks";
    case Verdict::wrong_rank:
      return "another rank lives here";
    case Verdict::duplicate:
      return "this rank is already connected";
    case Verdict::superseded:
      return "this life of the rank, or a later one, has been here; raise DIST_INCARNATION";
  }
  return "unknown verdict";
}

ServerHandshake::ServerHandshake(const Secret& secret, const Nonce& nonce, const Hello& self)
    : secret_(secret), self_(self) {
  write_head(MessageType::challenge, challenge_.data());
  std::copy(nonce.begin(), nonce.end(), challenge_.begin() + kChallengeNonceAt);
}

Verdict ServerHandshake::judge(std::span<const std::byte> hello_bytes) {
  authenticated_ = false;
  const auto head = check_head(MessageType::hello, hello_bytes, kHelloBytes);
  if (head != Verdict::welcome) return head;
  const Mac mac = sign(secret_, kClientLabel, {challenge_, hello_bytes.first(kHelloMacAt)});
  if (!equal_in_constant_time(mac, hello_bytes.subspan(kHelloMacAt))) {
    return Verdict::authentication;
  }
  authenticated_ = true;
  std::copy(hello_bytes.begin(), hello_bytes.end(), hello_bytes_.begin());
  hello_ = read_hello(hello_bytes);
  return check_hello(hello_, self_);
}

std::array<std::byte, kAnswerBytes> ServerHandshake::answer(Verdict verdict) const {
  DIST_ASSERT(authenticated_ || !needs_proof(verdict), "a stranger must not be given a proof");
  std::array<std::byte, kAnswerBytes> bytes{};
  write_head(MessageType::answer, bytes.data());
  store(static_cast<std::uint8_t>(verdict), bytes.data() + kVerdictAt);
  if (authenticated_) {
    const Mac mac = sign(secret_, kServerLabel,
                         {challenge_, hello_bytes_, std::span(bytes).first(kAnswerMacAt)});
    std::copy(mac.begin(), mac.end(), bytes.begin() + kAnswerMacAt);
  }
  return bytes;
}

ClientHandshake::ClientHandshake(const Secret& secret, const Nonce& nonce, const Hello& hello)
    : secret_(secret), nonce_(nonce), hello_(hello) {}

Status ClientHandshake::respond(std::span<const std::byte> challenge) {
  switch (check_head(MessageType::challenge, challenge, kChallengeBytes)) {
    case Verdict::welcome:
      break;
    case Verdict::version:
      return Status::protocol(fmt::format("speaks version {} of the handshake, this rank {}",
                                          load<std::uint8_t>(challenge.data() + 4), kVersion));
    default:
      return Status::protocol("does not speak libdist's handshake");
  }
  std::copy(challenge.begin(), challenge.end(), challenge_.begin());
  std::byte* at = hello_bytes_.data();
  write_head(MessageType::hello, at);
  store(static_cast<std::uint8_t>(hello_.purpose), at + kPurposeAt);
  store(hello_.channel, at + kChannelAt);
  store(hello_.job, at + kJobAt);
  store(hello_.epoch, at + kEpochAt);
  store(hello_.rank, at + kRankAt);
  store(hello_.ranks, at + kRanksAt);
  store(hello_.to_rank, at + kToRankAt);
  std::copy(nonce_.begin(), nonce_.end(), hello_bytes_.begin() + kHelloNonceAt);
  const Mac mac =
      sign(secret_, kClientLabel, {challenge_, std::span(hello_bytes_).first(kHelloMacAt)});
  std::copy(mac.begin(), mac.end(), hello_bytes_.begin() + kHelloMacAt);
  return {};
}

Result<Verdict> ClientHandshake::conclude(std::span<const std::byte> answer) const {
  if (check_head(MessageType::answer, answer, kAnswerBytes) != Verdict::welcome) {
    return Status::protocol("its answer is not part of libdist's handshake");
  }
  const auto verdict = static_cast<Verdict>(load<std::uint8_t>(answer.data() + kVerdictAt));
  if (verdict > Verdict::superseded) {
    return Status::protocol("its answer holds a verdict that does not exist");
  }
  if (!needs_proof(verdict)) return verdict;
  const Mac mac =
      sign(secret_, kServerLabel, {challenge_, hello_bytes_, answer.first(kAnswerMacAt)});
  if (!equal_in_constant_time(mac, answer.subspan(kAnswerMacAt))) {
    return Status::protocol("it cannot prove that it holds this job's secret");
  }
  return verdict;
}

}  // namespace dist::wire
