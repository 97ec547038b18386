// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/secret_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "libdist/transport/file_descriptor.h"

namespace dist {
namespace {

constexpr std::size_t kMostSecretBytes = 4096;
constexpr std::size_t kMadeSecretBytes = 32;
constexpr mode_t kGroupAndOthers = 077;

Status check_private(const FileDescriptor& file, const std::string& path) {
  struct stat information {};
  if (::fstat(file.number(), &information) != 0) {
    return Status::resource(fmt::format("secret file {}: {}", path, std::strerror(errno)));
  }
  if (!S_ISREG(information.st_mode)) {
    return Status::invalid_argument(fmt::format("secret file {}: not a regular file", path));
  }
  if (information.st_uid != ::geteuid() && information.st_uid != 0) {
    return Status::invalid_argument(fmt::format(
        "secret file {}: belongs to user {}, not to this one", path, information.st_uid));
  }
  if ((information.st_mode & kGroupAndOthers) != 0) {
    return Status::invalid_argument(
        fmt::format("secret file {}: its mode {:04o} lets others read or change it; run: chmod 600 "
                    "{}",
                    path, information.st_mode & 07777, path));
  }
  return {};
}

Status fill_random(std::span<std::byte> bytes) {
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) !=
      1) {
    return Status::resource("OpenSSL's random generator failed");
  }
  return {};
}

Status write_all(const FileDescriptor& file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto written = ::write(file.number(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Status::resource(std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<wire::Secret> read_secret_file(int directory, const std::string& path) {
  const FileDescriptor file(::openat(directory, path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    return Status::invalid_argument(
        fmt::format("secret file {}: cannot be opened: {}", path, std::strerror(errno)));
  }
  DIST_TRY(check_private(file, path));
  std::vector<std::byte> bytes(kMostSecretBytes + 1);
  std::size_t length = 0;
  while (length < bytes.size()) {
    const auto got = ::read(file.number(), bytes.data() + length, bytes.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return Status::resource(fmt::format("secret file {}: {}", path, std::strerror(errno)));
    }
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  if (length < wire::kLeastSecretBytes || length > kMostSecretBytes) {
    OPENSSL_cleanse(bytes.data(), bytes.size());
    return Status::invalid_argument(fmt::format(
        "secret file {}: holds {} bytes, a secret has {} to {}; make one by: head -c 32 "
        "/dev/urandom > {}",
        path, length > kMostSecretBytes ? "too many" : std::to_string(length),
        wire::kLeastSecretBytes, kMostSecretBytes, path));
  }
  bytes.resize(length);
  return wire::Secret(std::move(bytes));
}

// First under another name: a crash leaves no half secret behind.
Status make_secret_file(int directory, const std::string& name) {
  const std::string unfinished = "new." + name;
  ::unlinkat(directory, unfinished.c_str(), 0);
  const FileDescriptor file(
      ::openat(directory, unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return Status::resource(fmt::format("cannot make {}: {}", name, std::strerror(errno)));
  }
  std::array<std::byte, kMadeSecretBytes> bytes{};
  auto made = fill_random(bytes);
  if (made.ok()) made = write_all(file, bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  if (made.ok() && ::linkat(directory, unfinished.c_str(), directory, name.c_str(), 0) != 0 &&
      errno != EEXIST) {
    made = Status::resource(std::strerror(errno));
  }
  ::unlinkat(directory, unfinished.c_str(), 0);
  return made.because(fmt::format("cannot make {}", name));
}

Result<wire::Nonce> random_nonce() {
  wire::Nonce nonce{};
  DIST_TRY(fill_random(nonce));
  return nonce;
}

}  // namespace dist
