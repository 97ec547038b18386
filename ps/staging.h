// SPDX-License-Identifier: Apache-2.0
// Memory for gradients on their way into a server and for parameters on their way out, within a
// quota a worker.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "libdist/memory/mapping.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::ps {

/// Gradients of one worker that may wait at a server at once, unless the options say otherwise:
/// all but the fully connected layers of the large models, so that these need not go first.
inline constexpr Bytes kStagingPerWorker = 64_MiB;

/// How many buffers a quota is: rounded up, at least one.
std::size_t buffers_in(Bytes quota, Bytes buffer);

struct StagingOptions {
  Bytes buffer;            ///< of one piece, the largest
  Bytes quota_per_worker;  ///< rounded up to whole buffers, at least one
  int workers = 1;
  Bytes alias_window;  ///< not 0: all buffers are the same memory, see ArenaOptions
};

/// Buffers of one size, made when first needed and kept for reuse: at most workers x quota in all.
/// Not thread-safe. Must outlive its buffers.
class Staging {
 public:
  /// A loan; goes back when destroyed.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
      Buffer moved(std::move(other));
      swap(moved);
      return *this;
    }
    ~Buffer();
    std::span<std::byte> bytes() const { return memory_; }

   private:
    friend class Staging;
    void swap(Buffer& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(worker_, other.worker_);
      std::swap(memory_, other.memory_);
    }

    Staging* owner_ = nullptr;
    std::size_t worker_ = 0;
    std::span<std::byte> memory_;
  };

  explicit Staging(StagingOptions options);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// A buffer on the account of `worker`, or nothing while its quota is used up. Error: resource.
  Result<std::optional<Buffer>> lend(int worker);

  /// Buffers made so far, for tests.
  std::size_t made() const { return made_.size(); }

 private:
  void give_back(std::size_t worker, std::span<std::byte> memory);

  const StagingOptions options_;
  const std::size_t most_lent_;
  std::vector<std::size_t> lent_;  // by worker
  std::vector<Mapping> made_;
  std::vector<std::span<std::byte>> free_;
};

}  // namespace dist::ps
