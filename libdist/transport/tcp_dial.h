// SPDX-License-Identifier: Apache-2.0
// The other end of the door: connects to a rank and proves to belong to its job.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "libdist/transport/tcp_socket.h"
#include "libdist/wire/handshake.h"

namespace dist::tcp {

/// How an attempt ended. Without a socket, `status` says why not.
struct DialOutcome {
  std::optional<Socket> socket;
  Status status;
  bool final = false;  ///< trying again cannot help: another secret, job, version or rank count
};

/// One attempt in flight. Dropping the handle abandons the attempt; its callback is then never
/// called.
class Dial {
 public:
  using Done = std::function<void(DialOutcome)>;

  /// Connects to `to`, says `hello`, and calls `done` from a handler of the io_context. There is no
  /// time limit of its own: the caller drops it. `secret` outlives it.
  Dial(asio::io_context& context, const Endpoint& to, const wire::Secret& secret,
       const wire::Hello& hello, Done done);
  ~Dial();
  Dial(const Dial&) = delete;
  Dial& operator=(const Dial&) = delete;

 private:
  struct Attempt;
  std::shared_ptr<Attempt> attempt_;
};

}  // namespace dist::tcp
