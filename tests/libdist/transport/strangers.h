// SPDX-License-Identifier: Apache-2.0
// Whoever else knocks at a port of a job: scanners, programs of other people, garbage.
#pragma once

#include <unistd.h>

#include <atomic>
#include <functional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "tests/libdist/transport/tcp_support.h"

namespace dist::test {

/// Strangers at a port until it is told to stop: garbage of every length, hang-ups, idle
/// connections.
class Strangers {
 public:
  explicit Strangers(std::function<std::uint16_t()> port)
      : thread_([this, port = std::move(port)] { run(port); }) {}
  ~Strangers() { finish(); }
  int finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return visits_;
  }

 private:
  void run(const std::function<std::uint16_t()>& port) {
    std::mt19937 random(3);
    std::vector<FileDescriptor> idle;
    while (!stop_) {
      auto socket = plain_connect(port());
      if (!socket.valid()) {
        ::usleep(500);
        continue;
      }
      ++visits_;
      std::vector<std::byte> garbage(random() % 300);
      for (auto& byte : garbage) byte = static_cast<std::byte>(random() & 0xff);
      plain_send(socket, garbage);
      if (random() % 4 == 0 && idle.size() < 40) idle.push_back(std::move(socket));
      ::usleep(500);  // unbounded, a fast stranger uses up the host's ports: that stops anybody
    }
  }

  std::atomic<bool> stop_ = false;
  std::atomic<int> visits_ = 0;
  std::thread thread_;
};

}  // namespace dist::test
