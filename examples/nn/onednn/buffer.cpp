// SPDX-License-Identifier: Apache-2.0
// Anonymous pages from the kernel.
#include "examples/nn/onednn/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace nn::onednn {

dist::Result<Buffer> Buffer::allocate(std::uint64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return dist::Status::resource(
        fmt::format("{} bytes cannot be mapped: {}", bytes, std::strerror(errno)));
  }
  madvise(data, bytes, MADV_HUGEPAGE);  // only a wish
  Buffer buffer;
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.bytes_ = bytes;
  return buffer;
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

}  // namespace nn::onednn
