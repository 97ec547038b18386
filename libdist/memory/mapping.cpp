// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace dist {
namespace {

std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

Status no_memory(std::size_t bytes) {
  return Status::resource(
      fmt::format("cannot map {} bytes: {}; use a smaller model or fewer ranks on this machine",
                  bytes, std::strerror(errno)));
}

}  // namespace

Result<Mapping> Mapping::map(Bytes bytes, Bytes alias_window) {
  Mapping mapping;
  if (bytes.value == 0) return mapping;
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (bytes.value > SIZE_MAX - page_bytes) {
    errno = ENOMEM;
    return no_memory(bytes.value);
  }
  // The system lends more than it has and kills whoever uses it; better say so now.
  const auto machine_bytes = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * page_bytes;
  if (alias_window.value == 0 && bytes.value > machine_bytes) {
    errno = ENOMEM;
    return no_memory(bytes.value);
  }
  const auto mapped_bytes = round_up(bytes.value, page_bytes);
  void* base = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return no_memory(mapped_bytes);
  mapping.base_ = static_cast<std::byte*>(base);
  mapping.size_ = bytes.value;
  mapping.mapped_bytes_ = mapped_bytes;
  if (alias_window.value != 0 && alias_window < bytes) {
    DIST_TRY(mapping.alias(round_up(alias_window.value, page_bytes)));
  }
  return mapping;
}

Mapping::~Mapping() {
  if (base_ != nullptr) munmap(base_, mapped_bytes_);
}

// Maps the same pages again and again over the range reserved by map().
Status Mapping::alias(std::size_t window_bytes) {
  const int file = memfd_create("libdist-window", MFD_CLOEXEC);
  if (file < 0) return no_memory(window_bytes);
  bool mapped = ftruncate(file, static_cast<off_t>(window_bytes)) == 0;
  for (std::size_t at = 0; mapped && at < mapped_bytes_; at += window_bytes) {
    const auto part_bytes = std::min(window_bytes, mapped_bytes_ - at);
    mapped = mmap(base_ + at, part_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
                  0) != MAP_FAILED;
  }
  const auto outcome = mapped ? Status() : no_memory(mapped_bytes_);
  ::close(file);
  return outcome;
}

}  // namespace dist
