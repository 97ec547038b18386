// SPDX-License-Identifier: Apache-2.0
// The one allocation behind a replica's activations: page-aligned, in huge pages where the kernel
// gives them, since every layer streams through it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "libdist/status.h"

namespace nn::onednn {

class Buffer {
 public:
  Buffer() = default;
  /// Zeroed. Errors: not enough address space.
  static dist::Result<Buffer> allocate(std::uint64_t bytes);

  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer();

  std::byte* data() const { return data_; }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace nn::onednn
