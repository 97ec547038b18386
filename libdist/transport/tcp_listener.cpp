// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/tcp_listener.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "libdist/transport/secret_file.h"

namespace dist::tcp {
namespace {

constexpr std::size_t kMostPending = 64;
constexpr int kBacklog = 1024;  // the kernel takes its own limit if that is smaller
constexpr auto kHandshakeLimit = std::chrono::seconds(3);
constexpr auto kHandshakeLimitWhenFull = std::chrono::milliseconds(500);
constexpr auto kPauseWithoutDescriptors = std::chrono::milliseconds(50);

Status cannot_listen(const Endpoint& endpoint, int error) {
  const auto where = text_of(endpoint);
  if (error == EADDRINUSE) {
    return Status::resource(
        fmt::format("cannot listen on {}: port {} is in use; choose another port, or end the "
                    "program that holds it (ss -ltnp 'sport = :{}')",
                    where, endpoint.port(), endpoint.port()));
  }
  if (error == EADDRNOTAVAIL) {
    return Status::invalid_argument(fmt::format(
        "cannot listen on {}: this host does not have that address (ip address)", where));
  }
  return Status::resource(fmt::format("cannot listen on {}: {}", where, std::strerror(error)));
}

}  // namespace

std::string Refusals::text() const {
  if (total() == 0) return "";
  return fmt::format(
      "; connections turned away: {} with another secret, {} of another job or "
      "place, {} that spoke something else",
      secret, others, strangers);
}

/// One connection that has not yet proved itself. Kept alive by its handlers; `owner` is null once
/// the listener has let go of it.
struct Listener::Session {
  Session(Listener* listener, Socket accepted, const wire::Nonce& nonce)
      : owner(listener),
        socket(std::move(accepted)),
        limit(listener->context_),
        handshake(*listener->secret_, nonce, listener->self_) {}

  Listener* owner;
  const TimePoint started = Clock::now();
  Socket socket;
  asio::steady_timer limit;
  wire::ServerHandshake handshake;
  std::array<std::byte, wire::kHelloBytes> hello{};
  std::array<std::byte, wire::kAnswerBytes> answer{};
};

Result<std::unique_ptr<Listener>> Listener::open(asio::io_context& context,
                                                 const Endpoint& endpoint) {
  auto socket = open_socket(context, endpoint);
  DIST_TRY(socket);
  // So that a port that served a moment ago can be taken again; another listener still excludes us.
  const int yes = 1;
  ::setsockopt(socket->native_handle(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (::bind(socket->native_handle(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) !=
          0 ||
      ::listen(socket->native_handle(), kBacklog) != 0) {
    return cannot_listen(endpoint, errno);
  }
  ErrorCodeOf code;
  const auto bound = socket->local_endpoint(code);
  asio::ip::tcp::acceptor acceptor(context);
  if (!code) {
    const int number = socket->release(code);
    if (!code) acceptor.assign(endpoint.protocol(), number, code);
  }
  if (code) return cannot_listen(endpoint, code.value());
  return std::unique_ptr<Listener>(new Listener(context, std::move(acceptor), bound));
}

Listener::Listener(asio::io_context& context, asio::ip::tcp::acceptor acceptor, Endpoint endpoint)
    : context_(context),
      acceptor_(std::move(acceptor)),
      pause_(context),
      endpoint_(std::move(endpoint)) {}

Listener::~Listener() { close(); }

void Listener::close() {
  ErrorCodeOf code;
  acceptor_.close(code);
  pause_.cancel(code);
  for (const auto& session : std::exchange(sessions_, {})) {
    session->owner = nullptr;
    session->limit.cancel(code);
    session->socket.close(code);
  }
}

void Listener::serve(const wire::Secret& secret, const wire::Hello& self, Admit admit,
                     Accepted accepted) {
  secret_ = &secret;
  self_ = self;
  admit_ = std::move(admit);
  accepted_ = std::move(accepted);
  wait_for_connection();
}

void Listener::wait_for_connection() {
  if (waiting_ || !acceptor_.is_open()) return;
  if (sessions_.size() >= kMostPending) return wait_for_room();
  waiting_ = true;
  acceptor_.async_wait(asio::ip::tcp::acceptor::wait_read,
                       [this, alive = std::weak_ptr(alive_)](const ErrorCodeOf& code) {
                         if (code || alive.expired()) return;
                         waiting_ = false;
                         accept_waiting();
                       });
}

// Idle connections must not keep the members of the job out for their full three seconds.
void Listener::wait_for_room() {
  pause_.expires_at(sessions_.front()->started + kHandshakeLimitWhenFull);
  pause_.async_wait([this, alive = std::weak_ptr(alive_)](const ErrorCodeOf& code) {
    if (code || alive.expired() || sessions_.size() < kMostPending) return;
    const auto oldest = sessions_.front();
    count(wire::Verdict::malformed);
    end(oldest);
  });
}

void Listener::accept_waiting() {
  while (acceptor_.is_open() && sessions_.size() < kMostPending) {
    const int number =
        ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (number >= 0) {
      Socket socket(context_);
      ErrorCodeOf code;
      socket.assign(endpoint_.protocol(), number, code);
      if (code) {
        ::close(number);
      } else {
        begin(std::move(socket));
      }
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // The connection stays in the queue; asking again at once would only burn the processor.
      pause_.expires_after(kPauseWithoutDescriptors);
      pause_.async_wait([this, alive = std::weak_ptr(alive_)](const ErrorCodeOf& code) {
        if (!code && !alive.expired()) accept_waiting();
      });
      return;
    } else if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO) {
      break;  // nobody else asks (EAGAIN), or it cannot go on
    }
  }
  wait_for_connection();
}

void Listener::begin(Socket socket) {
  const auto nonce = random_nonce();
  if (!nonce.ok()) return;
  auto session = std::make_shared<Session>(this, std::move(socket), *nonce);
  sessions_.push_back(session);
  session->limit.expires_after(kHandshakeLimit);
  session->limit.async_wait([session](const ErrorCodeOf& code) {
    if (code || session->owner == nullptr) return;
    ErrorCodeOf ignored;
    session->socket.close(ignored);  // ends the read or write in progress
  });
  const auto challenge = session->handshake.challenge();
  asio::async_write(session->socket, asio::buffer(challenge.data(), challenge.size()),
                    [session](const ErrorCodeOf& code, std::size_t) {
                      if (session->owner == nullptr) return;
                      if (code) return session->owner->on_hello(session, false);
                      asio::async_read(session->socket, asio::buffer(session->hello),
                                       [session](const ErrorCodeOf& read_code, std::size_t) {
                                         if (session->owner != nullptr) {
                                           session->owner->on_hello(session, !read_code);
                                         }
                                       });
                    });
}

void Listener::on_hello(const std::shared_ptr<Session>& session, bool complete) {
  if (!complete) {
    count(wire::Verdict::malformed);
    return end(session);
  }
  auto verdict = session->handshake.judge(session->hello);
  if (verdict == wire::Verdict::welcome) verdict = admit_(session->handshake.hello());
  session->answer = session->handshake.answer(verdict);
  asio::async_write(session->socket, asio::buffer(session->answer),
                    [session, verdict](const ErrorCodeOf& code, std::size_t) {
                      if (session->owner != nullptr) {
                        session->owner->on_answered(session, verdict, !code);
                      }
                    });
}

void Listener::on_answered(const std::shared_ptr<Session>& session, wire::Verdict verdict,
                           bool complete) {
  if (verdict != wire::Verdict::welcome || !complete) {
    count(complete ? verdict : wire::Verdict::malformed);
    return end(session);
  }
  Socket socket = std::move(session->socket);
  const auto hello = session->handshake.hello();
  end(session);
  accepted_(std::move(socket), hello);
}

void Listener::end(const std::shared_ptr<Session>& session) {
  ErrorCodeOf code;
  session->owner = nullptr;
  session->limit.cancel(code);
  if (session->socket.is_open()) session->socket.close(code);
  sessions_.erase(std::find(sessions_.begin(), sessions_.end(), session));
  wait_for_connection();
}

void Listener::count(wire::Verdict verdict) {
  if (verdict == wire::Verdict::authentication) {
    ++secret_refused_;
  } else if (verdict == wire::Verdict::malformed) {
    ++strangers_;
  } else {
    ++others_;
  }
}

}  // namespace dist::tcp
