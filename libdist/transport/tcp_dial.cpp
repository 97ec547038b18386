// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/tcp_dial.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "libdist/transport/secret_file.h"

namespace dist::tcp {
namespace {

// Whether the same call can succeed a moment later: the peer may just be between two worlds.
bool is_final(wire::Verdict verdict) {
  return verdict != wire::Verdict::duplicate && verdict != wire::Verdict::wrong_rank &&
         verdict != wire::Verdict::malformed;
}

std::string_view advice(wire::Verdict verdict) {
  switch (verdict) {
    case wire::Verdict::authentication:
      return "; give all ranks the same DIST_SECRET_FILE";
    case wire::Verdict::version:
      return "; start the same version of libdist on all ranks";
    default:
      return "";
  }
}

}  // namespace

struct Dial::Attempt : std::enable_shared_from_this<Dial::Attempt> {
  Attempt(asio::io_context& io, const Endpoint& endpoint, const wire::Secret& secret,
          const wire::Nonce& nonce, const wire::Hello& hello, Done callback)
      : socket(io),
        to(endpoint),
        rank(hello.to_rank),
        handshake(secret, nonce, hello),
        done(std::move(callback)) {}

  std::string where() const { return fmt::format("rank {} at {}", rank, text_of(to)); }

  // Where nobody listens on a port from which the kernel serves outgoing connections, it may serve
  // this one from that very port: a simultaneous open with oneself, which keeps the listener out.
  bool connected_to_itself() {
    ErrorCodeOf code;
    return socket.local_endpoint(code) == to;
  }

  void finish(DialOutcome outcome) {
    if (const auto call = std::exchange(done, nullptr)) call(std::move(outcome));
  }

  void fail(const std::string& why) {
    ErrorCodeOf code;
    socket.close(code);
    finish({std::nullopt, Status::peer_lost(fmt::format("{}: {}", where(), why)), false});
  }

  void connect() {
    socket.async_connect(to, [self = shared_from_this()](const ErrorCodeOf& code) {
      if (code) return self->fail(code.message());
      self->read_challenge();
    });
  }

  void read_challenge() {
    if (!done) return;  // abandoned: the secret may be gone
    if (connected_to_itself()) return fail("nobody listens there");
    asio::async_read(socket, asio::buffer(challenge),
                     [self = shared_from_this()](const ErrorCodeOf& code, std::size_t) {
                       if (code) return self->fail("closed before the handshake");
                       self->say_hello();
                     });
  }

  void say_hello() {
    if (!done) return;  // abandoned: the secret may be gone
    if (const auto read = handshake.respond(challenge); !read.ok()) return fail(read.message());
    const auto hello = handshake.hello_bytes();
    asio::async_write(socket, asio::buffer(hello.data(), hello.size()),
                      [self = shared_from_this()](const ErrorCodeOf& code, std::size_t) {
                        if (code) return self->fail("closed during the handshake");
                        self->read_answer();
                      });
  }

  void read_answer() {
    if (!done) return;  // abandoned: the secret may be gone
    asio::async_read(socket, asio::buffer(answer),
                     [self = shared_from_this()](const ErrorCodeOf& code, std::size_t) {
                       if (code) return self->fail("closed during the handshake");
                       self->conclude();
                     });
  }

  void conclude() {
    if (!done) return;  // abandoned: the secret may be gone
    const auto verdict = handshake.conclude(answer);
    if (!verdict.ok()) {
      return finish({std::nullopt, verdict.status().because(where()), true});
    }
    if (*verdict == wire::Verdict::welcome) {
      return finish({std::move(socket), {}, false});
    }
    finish({std::nullopt,
            Status::protocol(fmt::format("{} refused this rank: {}{}", where(), name_of(*verdict),
                                         advice(*verdict))),
            is_final(*verdict)});
  }

  Socket socket;
  Endpoint to;
  std::uint32_t rank;
  wire::ClientHandshake handshake;
  Done done;
  std::array<std::byte, wire::kChallengeBytes> challenge{};
  std::array<std::byte, wire::kAnswerBytes> answer{};
};

Dial::Dial(asio::io_context& context, const Endpoint& to, const wire::Secret& secret,
           const wire::Hello& hello, Done done) {
  const auto nonce = random_nonce();
  const auto fresh = nonce.ok() ? *nonce : wire::Nonce{};
  attempt_ = std::make_shared<Attempt>(context, to, secret, fresh, hello, std::move(done));
  auto socket = open_socket(context, to);
  if (nonce.ok() && socket.ok()) {
    attempt_->socket = *std::move(socket);
    attempt_->connect();
    return;
  }
  const auto why = nonce.ok() ? socket.status() : nonce.status();
  asio::post(context, [attempt = attempt_, why] { attempt->finish({std::nullopt, why, true}); });
}

Dial::~Dial() {
  attempt_->done = nullptr;
  ErrorCodeOf code;
  if (attempt_->socket.is_open()) attempt_->socket.close(code);
}

}  // namespace dist::tcp
