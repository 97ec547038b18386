// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/byte_ring.h"

#include <algorithm>
#include <cstring>

namespace dist {

std::size_t ByteRingWriter::room() const {
  const auto used = written_ - positions_->read.load(std::memory_order_seq_cst);
  return used <= ring_.size() ? ring_.size() - used : 0;
}

std::size_t ByteRingWriter::put(std::span<const std::byte> bytes) {
  const auto count = std::min(bytes.size(), room());
  if (count == 0) return 0;
  const auto at = written_ % ring_.size();
  const auto first = std::min(count, ring_.size() - at);
  std::memcpy(ring_.data() + at, bytes.data(), first);
  if (count > first) std::memcpy(ring_.data(), bytes.data() + first, count - first);
  written_ += count;
  return count;
}

std::size_t ByteRingReader::available() const {
  const auto filled = positions_->written.load(std::memory_order_seq_cst) - read_;
  return std::min<std::uint64_t>(filled, ring_.size());
}

bool ByteRingReader::plausible() const {
  return positions_->written.load(std::memory_order_relaxed) - read_ <= ring_.size();
}

std::size_t ByteRingReader::get(std::span<std::byte> bytes) {
  const auto count = std::min(bytes.size(), available());
  if (count == 0) return 0;
  const auto at = read_ % ring_.size();
  const auto first = std::min(count, ring_.size() - at);
  std::memcpy(bytes.data(), ring_.data() + at, first);
  if (count > first) std::memcpy(bytes.data() + first, ring_.data(), count - first);
  read_ += count;
  return count;
}

}  // namespace dist
