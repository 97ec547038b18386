// SPDX-License-Identifier: Apache-2.0
// The door of a server in an elastic world: stays open while the job runs, so that workers may
// come, and come back. It lives on a thread of its own: strangers who knock do not hold the job up.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "libdist/options.h"
#include "libdist/transport/rendezvous.h"
#include "libdist/transport/tcp_listener.h"
#include "libdist/transport/transport.h"

namespace dist::tcp {

/// The hello that a listener of an elastic world compares others with: any life of a rank may
/// knock.
wire::Hello hello_at_door(const Options& options);

/// A worker that has connected on all channels and proved that it belongs here.
struct Arrival {
  Rank rank = 0;
  std::uint32_t incarnation = 0;
  std::array<FileDescriptor, kChannels> sockets;  ///< by channel
};

class Door {
 public:
  /// Takes over all that the start used; serves from now on. `on_arrival` is called from the door's
  /// thread whenever there is something to take().
  Door(std::unique_ptr<asio::io_context> context, std::unique_ptr<Listener> listener,
       std::unique_ptr<Rendezvous> rendezvous, const Options& options,
       std::function<void()> on_arrival);
  ~Door();
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  /// Who has come since the last call, in order; of one rank each incarnation at most once, and
  /// none after a later one. Cheap where nobody has. Any thread, like refusals().
  std::vector<Arrival> take();

  /// Connections turned away so far.
  std::uint64_t refusals() const { return listener_->refusals().total(); }

 private:
  // The connections of the newest life of a rank. A life that has come whole never comes again.
  struct Slot {
    bool used = false;
    bool whole = false;
    std::uint32_t incarnation = 0;
    std::array<FileDescriptor, kChannels> sockets;
  };

  void run();
  wire::Verdict admit(const wire::Hello& hello);
  void accept(Socket socket, const wire::Hello& hello);

  const Options options_;
  const std::function<void()> on_arrival_;
  std::unique_ptr<asio::io_context> context_;
  std::unique_ptr<Rendezvous> rendezvous_;
  std::unique_ptr<Listener> listener_;
  std::vector<Slot> slots_;  // by rank; of the door's thread, like all handlers
  std::mutex mutex_;
  std::vector<Arrival> arrivals_;  // guarded by mutex_
  std::atomic<bool> any_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace dist::tcp
