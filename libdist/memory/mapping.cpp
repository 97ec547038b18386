// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "libdist/check.h"

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

std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

// The system lends more than it has and kills whoever uses it; better say so now.
Status check_machine_has(std::size_t bytes) {
  const auto machine_bytes = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * page_size();
  if (bytes <= machine_bytes) return {};
  errno = ENOMEM;
  return no_memory(bytes);
}

// A wish: fewer pages to fault in and to look up.
void ask_for_huge_pages(void* base, std::size_t bytes) {
  constexpr std::size_t kHugePageBytes = 2 << 20;
  if (bytes >= kHugePageBytes) madvise(base, bytes, MADV_HUGEPAGE);
}

}  // namespace

Result<Mapping> Mapping::map(Bytes bytes, Bytes alias_window) {
  Mapping mapping;
  if (bytes.value == 0) return mapping;
  const auto page_bytes = page_size();
  if (bytes.value > SIZE_MAX - page_bytes) {
    errno = ENOMEM;
    return no_memory(bytes.value);
  }
  if (alias_window.value == 0) DIST_TRY(check_machine_has(bytes.value));
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

Result<Mapping> Mapping::map_shareable(Bytes bytes) {
  DIST_TRY(check_machine_has(bytes.value));
  const int file = memfd_create("libdist-shareable", MFD_CLOEXEC);
  if (file < 0) return no_memory(bytes.value);
  if (ftruncate(file, static_cast<off_t>(round_up(bytes.value, page_size()))) != 0) {
    auto outcome = no_memory(bytes.value);
    ::close(file);
    return outcome;
  }
  return map_file(file, bytes);
}

Result<Mapping> Mapping::attach(const MappingAddress& address) {
  const auto path = fmt::format("/proc/{}/fd/{}", address.process, address.file);
  const auto refused = [&](std::string_view why) {
    return Status::unavailable(fmt::format("cannot map the memory of process {} through {}: {}",
                                           address.process, path, why));
  };
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) return refused(std::strerror(errno));
  struct stat information {};
  if (fstat(file, &information) != 0 || information.st_ino != address.inode ||
      static_cast<std::uint64_t>(information.st_size) < address.bytes) {
    ::close(file);
    return refused("it is something else there (another pid namespace?)");
  }
  return map_file(file, Bytes(address.bytes));
}

// Owns the file from here on.
Result<Mapping> Mapping::map_file(int file, Bytes bytes) {
  Mapping mapping;
  mapping.file_ = file;
  if (bytes.value == 0) return mapping;
  const auto mapped_bytes = round_up(bytes.value, page_size());
  void* base =
      mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  if (base == MAP_FAILED) return no_memory(mapped_bytes);
  mapping.base_ = static_cast<std::byte*>(base);
  mapping.size_ = bytes.value;
  mapping.mapped_bytes_ = mapped_bytes;
  ask_for_huge_pages(base, mapped_bytes);
  return mapping;
}

Mapping::~Mapping() {
  if (base_ != nullptr) munmap(base_, mapped_bytes_);
  if (file_ >= 0) ::close(file_);
}

MappingAddress Mapping::address() const {
  DIST_ASSERT(shareable(), "only a shareable mapping has an address");
  struct stat information {};
  DIST_ASSERT(fstat(file_, &information) == 0, "a mapping lost its file");
  return {static_cast<std::uint64_t>(getpid()), static_cast<std::uint64_t>(file_),
          static_cast<std::uint64_t>(information.st_ino), size_};
}

Status Mapping::show(const Mapping& other) {
  DIST_ASSERT(shareable() && other.shareable() && size_ == other.size_,
              "a mapping shows another shareable one of its own size");
  if (size_ == 0) return {};
  void* base = mmap(base_, mapped_bytes_, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE | MAP_FIXED, other.file_, 0);
  if (base == MAP_FAILED) return no_memory(mapped_bytes_);
  ask_for_huge_pages(base, mapped_bytes_);
  shows_other_ = &other != this;
  // A wish like the one above.
  if (shows_other_) {
    fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
              static_cast<off_t>(mapped_bytes_));
  }
  return {};
}

Status Mapping::show_own() {
  if (!shows_other_) return {};
  // Through a second view: the range itself shows the other's memory until the end.
  auto own = attach(address());
  DIST_TRY(own);
  std::memcpy(own->base_, base_, size_);
  return show(*this);
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
  auto outcome = mapped ? Status() : no_memory(mapped_bytes_);
  ::close(file);
  return outcome;
}

}  // namespace dist
