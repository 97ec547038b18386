// SPDX-License-Identifier: Apache-2.0
// A range of zeroed memory straight from the system: pages appear when they are first touched. A
// shareable one can be mapped by other processes of the host too, and a mapping can show another
// one's memory at its own addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// Where a process of the same host and user finds a shareable mapping as long as its owner holds
/// it. Plain data, to be sent between ranks.
struct MappingAddress {
  std::uint64_t process = 0;  ///< pid
  std::uint64_t file = 0;     ///< its file descriptor
  std::uint64_t inode = 0;    ///< tells the memory from what another pid namespace calls the same
  std::uint64_t bytes = 0;    ///< its size
};

/// Owns the range; movable, and the memory stays where it is when moved.
class Mapping {
 public:
  /// Nothing mapped.
  Mapping() = default;

  /// Maps `bytes` of zeroed memory. With an `alias_window` other than 0 the whole range shows one
  /// window of that many bytes (rounded up to pages) again and again: values are then meaningless,
  /// but a replay of many large replicas fits in a small machine. Error: resource.
  static Result<Mapping> map(Bytes bytes, Bytes alias_window = {});

  /// Maps `bytes` of zeroed memory that attach() can reach from other processes. Lies in no file
  /// system, and is gone with the last process that maps it. Error: resource.
  static Result<Mapping> map_shareable(Bytes bytes);

  /// Maps the memory of another process (or of this one) a second time; it stays valid when its
  /// owner ends. Error: unavailable, where the system does not let this process reach it.
  static Result<Mapping> attach(const MappingAddress& address);

  /// Whether it was made by map_shareable() or attach(). The functions below ask for that.
  bool shareable() const { return file_ >= 0; }
  /// For attach() in another process.
  MappingAddress address() const;

  /// Lets this range show the memory of `other`, of the same size: addresses stay, contents are
  /// from now on the other's. Its own memory goes back to the system meanwhile. Error: resource.
  Status show(const Mapping& other);

  /// Lets the range show its own memory again, with the contents that it showed until now. Nobody
  /// may write to either meanwhile.
  Status show_own();

  /// Leaves nothing mapped there.
  Mapping(Mapping&& other) noexcept { swap(other); }
  /// Unmaps what was here.
  Mapping& operator=(Mapping&& other) noexcept {
    Mapping moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~Mapping();

  /// Page-aligned; exactly the size asked for.
  std::span<std::byte> bytes() const { return {base_, size_}; }

 private:
  void swap(Mapping& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    std::swap(file_, other.file_);
    std::swap(shows_other_, other.shows_other_);
  }
  static Result<Mapping> map_file(int file, Bytes bytes);
  Status alias(std::size_t window_bytes);

  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  std::size_t mapped_bytes_ = 0;
  int file_ = -1;  // of shareable or attached memory
  bool shows_other_ = false;
};

}  // namespace dist
