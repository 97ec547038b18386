// SPDX-License-Identifier: Apache-2.0
// What the tests of the TCP transport share: private directories, plain sockets, ranks as threads.
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/transport/file_descriptor.h"

namespace dist::test {

/// A directory of mode 0700 that goes away with the object.
class PrivateDirectory {
 public:
  PrivateDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "dist-tcp-test-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~PrivateDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  bool empty() const { return std::filesystem::is_empty(path_); }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& text, mode_t mode = 0600) {
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
}

/// The same in one process; another in each, so that tests can run side by side.
inline std::uint64_t job_of_this_test(std::uint64_t number = 0) {
  return number << 32 | static_cast<std::uint64_t>(::getpid());
}

inline Options rank_options(Rank rank, int ranks, const std::string& rendezvous) {
  Options options;
  options.rank = rank;
  options.ranks = ranks;
  options.job = job_of_this_test();
  options.rendezvous = rendezvous;
  options.connect_timeout = std::chrono::seconds(20);
  return options;
}

/// Runs function(rank) in a thread each and returns what they returned, by rank.
template <typename Function>
auto on_ranks(int ranks, Function function) {
  std::vector<std::future<decltype(function(0))>> running;
  for (Rank rank = 0; rank < ranks; ++rank) {
    running.push_back(std::async(std::launch::async, function, rank));
  }
  std::vector<decltype(function(0))> results;
  for (auto& one : running) results.push_back(one.get());
  return results;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// A plain socket that listens on loopback; port() says where.
class PlainListener {
 public:
  explicit PlainListener(int receive_buffer_bytes = 0)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer_bytes > 0) {
      ::setsockopt(socket_.number(), SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes,
                   sizeof receive_buffer_bytes);
    }
    auto address = loopback(0);
    socklen_t length = sizeof address;
    if (::bind(socket_.number(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        ::listen(socket_.number(), 16) != 0 ||
        ::getsockname(socket_.number(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      throw std::runtime_error("cannot listen on loopback");
    }
    port_ = ntohs(address.sin_port);
  }
  std::uint16_t port() const { return port_; }
  FileDescriptor accept() const {
    return FileDescriptor(::accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC));
  }

 private:
  FileDescriptor socket_;
  std::uint16_t port_ = 0;
};

/// Connects to a port of loopback; an invalid descriptor if nobody listens.
inline FileDescriptor plain_connect(std::uint16_t port) {
  FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto address = loopback(port);
  if (::connect(socket.number(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return FileDescriptor();
  }
  return socket;
}

/// Sends all bytes on a blocking socket, or as many as the other end takes.
inline void plain_send(const FileDescriptor& socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket.number(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

/// A port that was free a moment ago.
inline std::uint16_t free_port() { return PlainListener().port(); }

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

}  // namespace dist::test
