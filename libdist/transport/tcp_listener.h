// SPDX-License-Identifier: Apache-2.0
// The one door into a job: accepts connections, and hands on only those that have proved that they
// belong here. Whatever else knocks is counted and closed.
#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libdist/transport/tcp_socket.h"
#include "libdist/wire/handshake.h"

namespace dist::tcp {

/// Connections that were turned away, by reason.
struct Refusals {
  std::uint64_t strangers = 0;  ///< closed early, sent something else, or nothing in time
  std::uint64_t secret = 0;     ///< spoke the protocol without the right secret
  std::uint64_t others = 0;     ///< members of another job, or in the wrong place

  std::uint64_t total() const { return strangers + secret + others; }

  /// "" or "; 3 connections were refused: ..." for the end of an error message.
  std::string text() const;
};

class Listener {
 public:
  /// Decides about an authenticated hello of this job: welcome, or why not.
  using Admit = std::function<wire::Verdict(const wire::Hello&)>;
  /// Takes over a connection that was welcomed. May close() the listener, must not destroy it.
  using Accepted = std::function<void(Socket, const wire::Hello&)>;

  /// Binds and listens; connections queue up in the kernel until serve(). Port 0: any free one.
  static Result<std::unique_ptr<Listener>> open(asio::io_context& context,
                                                const Endpoint& endpoint);
  ~Listener();

  /// Where it really listens.
  const Endpoint& endpoint() const { return endpoint_; }

  /// Starts to accept, driven by the io_context. `self` is what hellos are compared with (see
  /// ServerHandshake). `secret` outlives the listener.
  void serve(const wire::Secret& secret, const wire::Hello& self, Admit admit, Accepted accepted);

  /// Stops listening and drops the connections that are not yet authenticated.
  void close();

  /// So far. Any thread.
  Refusals refusals() const { return {strangers_.load(), secret_refused_.load(), others_.load()}; }

 private:
  struct Session;

  Listener(asio::io_context& context, asio::ip::tcp::acceptor acceptor, Endpoint endpoint);
  void wait_for_connection();
  void wait_for_room();
  void accept_waiting();
  void begin(Socket socket);
  void on_hello(const std::shared_ptr<Session>& session, bool complete);
  void on_answered(const std::shared_ptr<Session>& session, wire::Verdict verdict, bool complete);
  void end(const std::shared_ptr<Session>& session);
  void count(wire::Verdict verdict);

  asio::io_context& context_;
  asio::ip::tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  Endpoint endpoint_;
  const wire::Secret* secret_ = nullptr;
  wire::Hello self_;
  Admit admit_;
  Accepted accepted_;
  std::vector<std::shared_ptr<Session>> sessions_;  // oldest first
  bool waiting_ = false;
  std::atomic<std::uint64_t> strangers_ = 0;
  std::atomic<std::uint64_t> secret_refused_ = 0;
  std::atomic<std::uint64_t> others_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // handlers may outlive the listener
};

}  // namespace dist::tcp
