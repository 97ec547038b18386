// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/rendezvous_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "libdist/transport/file_descriptor.h"
#include "libdist/transport/process_identity.h"
#include "libdist/transport/secret_file.h"

namespace dist {
namespace {

constexpr const char* kSecretName = "secret";
constexpr std::string_view kEntryPrefix = "rank.";
constexpr std::string_view kUnfinishedPrefix = "new.";
constexpr Duration kLockEvery = std::chrono::milliseconds(1);
constexpr Duration kLeaveLimit = std::chrono::seconds(1);
constexpr std::size_t kMostEntryBytes = 256;

std::string entry_name(Rank rank) { return fmt::format("{}{}", kEntryPrefix, rank); }

/// What a rank writes about itself.
struct Entry {
  tcp::Endpoint address;
  ProcessIdentity process;

  std::string text() const {
    return fmt::format("libdist 1 {} {} {} {}\n", tcp::text_of(address), process.pid,
                       process.pid_namespace, process.start_ticks);
  }

  static std::optional<Entry> parse(const std::string& text) {
    std::array<char, 64> address{};
    Entry entry;
    unsigned long long start_ticks = 0;
    if (std::sscanf(text.c_str(), "libdist 1 %63s %d %u %llu", address.data(), &entry.process.pid,
                    &entry.process.pid_namespace, &start_ticks) != 4) {
      return std::nullopt;
    }
    entry.process.start_ticks = start_ticks;
    const auto endpoint = tcp::endpoint_of(address.data());
    if (!endpoint) return std::nullopt;
    entry.address = *endpoint;
    return entry;
  }
};

std::optional<Entry> read_entry(const FileDescriptor& directory, const std::string& name) {
  const FileDescriptor file(
      ::openat(directory.number(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return std::nullopt;
  std::string text(kMostEntryBytes, '\0');
  const auto length = ::read(file.number(), text.data(), text.size());
  if (length <= 0) return std::nullopt;
  text.resize(static_cast<std::size_t>(length));
  return Entry::parse(text);
}

std::vector<std::string> names_in(const FileDescriptor& directory) {
  std::vector<std::string> names;
  FileDescriptor own(::openat(directory.number(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  DIR* stream = own.valid() ? ::fdopendir(own.number()) : nullptr;
  if (stream == nullptr) return names;
  own.release();  // closedir() closes it
  while (const dirent* found = ::readdir(stream)) names.emplace_back(found->d_name);
  ::closedir(stream);
  return names;
}

struct Inhabitants {
  int alive = 0;
  int dead = 0;  // removed
};

// Removes what dead processes left: entries, and files that they had not finished. Under the lock.
Inhabitants sweep(const FileDescriptor& directory) {
  Inhabitants found;
  for (const auto& name : names_in(directory)) {
    const bool is_entry = name.starts_with(kEntryPrefix);
    if (!is_entry && !name.starts_with(kUnfinishedPrefix)) continue;
    const auto entry = read_entry(directory, name);
    if (is_entry && entry && is_alive(entry->process)) {
      ++found.alive;
    } else {
      found.dead += is_entry ? 1 : 0;
      ::unlinkat(directory.number(), name.c_str(), 0);
    }
  }
  return found;
}

Status lock_until(const FileDescriptor& directory, const std::string& path, TimePoint deadline) {
  while (::flock(directory.number(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return Status::resource(fmt::format("cannot lock {}: {}", path, std::strerror(errno)));
    }
    if (Clock::now() >= deadline) {
      return Status::timed_out(fmt::format("{} stays locked by another process", path));
    }
    std::this_thread::sleep_for(kLockEvery);
  }
  return {};
}

bool still_named(const FileDescriptor& directory, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(directory.number(), &opened) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

Result<FileDescriptor> open_private(const std::string& path, TimePoint deadline) {
  FileDescriptor directory;
  // What is there already may be removed by the last rank of an earlier world before it is opened.
  do {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
      return Status::resource(fmt::format("cannot make {}: {}", path, std::strerror(errno)));
    }
    directory =
        FileDescriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  } while (!directory.valid() && errno == ENOENT && Clock::now() < deadline);
  struct stat information {};
  if (!directory.valid() || ::fstat(directory.number(), &information) != 0) {
    return Status::resource(
        fmt::format("cannot open the directory {}: {}", path, std::strerror(errno)));
  }
  if (information.st_uid != ::geteuid() || (information.st_mode & 077) != 0) {
    return Status::invalid_argument(
        fmt::format("{} must be private (owner {}, mode 0700), but its owner is {} and its mode "
                    "{:04o}; choose another directory or run: chmod 700 {}",
                    path, ::geteuid(), information.st_uid, information.st_mode & 07777, path));
  }
  return directory;
}

std::string default_name_prefix() { return fmt::format("libdist-{}-", ::geteuid()); }

// Directories of killed jobs of this user: those with entries of which none is alive.
void remove_dead_neighbours(const std::string& path) {
  std::error_code error;
  const auto place = std::filesystem::path(path).parent_path();
  for (const auto& found : std::filesystem::directory_iterator(place, error)) {
    const auto name = found.path().string();
    if (!found.path().filename().string().starts_with(default_name_prefix()) || name == path) {
      continue;
    }
    const FileDescriptor directory(
        ::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat information {};
    if (!directory.valid() || ::fstat(directory.number(), &information) != 0 ||
        information.st_uid != ::geteuid() || ::flock(directory.number(), LOCK_EX | LOCK_NB) != 0) {
      continue;
    }
    const auto inhabitants = sweep(directory);
    if (inhabitants.alive > 0 || inhabitants.dead == 0) continue;
    ::unlinkat(directory.number(), kSecretName, 0);
    ::rmdir(name.c_str());
  }
}

// Opened, locked, and still the directory of that name.
Result<FileDescriptor> open_locked(const std::string& path, TimePoint deadline) {
  while (Clock::now() < deadline) {
    auto directory = open_private(path, deadline);
    DIST_TRY(directory);
    DIST_TRY(lock_until(*directory, path, deadline));
    if (still_named(*directory, path)) return directory;
  }
  return Status::timed_out(fmt::format("{} is removed again and again", path));
}

Status write_entry(const FileDescriptor& directory, const std::string& name,
                   const std::string& text) {
  const std::string unfinished = std::string(kUnfinishedPrefix) + name;
  const FileDescriptor file(::openat(directory.number(), unfinished.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid() ||
      ::write(file.number(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::renameat(directory.number(), unfinished.c_str(), directory.number(), name.c_str()) != 0) {
    return Status::resource(fmt::format("cannot write {}: {}", name, std::strerror(errno)));
  }
  return {};
}

class DirectoryRendezvous final : public Rendezvous {
 public:
  DirectoryRendezvous(std::string path, bool remove_when_empty, FileDescriptor directory, Rank rank,
                      Entry own, wire::Secret secret)
      : path_(std::move(path)),
        remove_when_empty_(remove_when_empty),
        directory_(std::move(directory)),
        rank_(rank),
        own_(std::move(own)),
        secret_(std::move(secret)) {}

  // A lock that cannot be had in time only costs the removal of secret and directory.
  ~DirectoryRendezvous() override {
    const bool locked = lock_until(directory_, path_, Clock::now() + kLeaveLimit).ok();
    const auto name = entry_name(rank_);
    const auto entry = read_entry(directory_, name);
    if (entry && entry->text() == own_.text()) ::unlinkat(directory_.number(), name.c_str(), 0);
    if (!locked || sweep(directory_).alive > 0) return;
    ::unlinkat(directory_.number(), kSecretName, 0);
    if (remove_when_empty_ && still_named(directory_, path_)) ::rmdir(path_.c_str());
  }

  const wire::Secret& secret() const override { return secret_; }

  std::optional<tcp::Endpoint> find(Rank rank) const override {
    const auto entry = read_entry(directory_, entry_name(rank));
    if (!entry || !is_alive(entry->process)) return std::nullopt;
    return entry->address;
  }

 private:
  std::string path_;
  bool remove_when_empty_;
  FileDescriptor directory_;
  Rank rank_;
  Entry own_;
  wire::Secret secret_;
};

Status check_place_is_free(const FileDescriptor& directory, const std::string& path, Rank rank,
                           const ProcessIdentity& self) {
  const auto held = read_entry(directory, entry_name(rank));
  if (!held || !is_alive(held->process) || held->process == self) return {};
  return Status::invalid_argument(
      fmt::format("rank {} is already taken in {} by process {}; is another job with the same id "
                  "running?",
                  rank, path, held->process.pid));
}

Result<wire::Secret> secret_for(const FileDescriptor& directory, const Options& options) {
  if (!options.secret_file.empty()) return read_secret_file(AT_FDCWD, options.secret_file);
  DIST_TRY(make_secret_file(directory.number(), kSecretName));
  return read_secret_file(directory.number(), kSecretName);
}

Result<std::unique_ptr<Rendezvous>> enter(const Options& options, const std::string& path,
                                          bool remove_when_empty, const tcp::Endpoint& own,
                                          TimePoint deadline) {
  auto directory = open_locked(path, deadline);
  DIST_TRY(directory);
  const Entry entry{own, this_process()};
  DIST_TRY(check_place_is_free(*directory, path, options.rank, entry.process));
  sweep(*directory);
  auto secret = secret_for(*directory, options);
  DIST_TRY(secret);
  DIST_TRY(write_entry(*directory, entry_name(options.rank), entry.text()));
  ::flock(directory->number(), LOCK_UN);
  return std::unique_ptr<Rendezvous>(new DirectoryRendezvous(
      path, remove_when_empty, *std::move(directory), options.rank, entry, *std::move(secret)));
}

}  // namespace

std::string default_directory(std::uint64_t job) {
  std::error_code error;
  auto base = std::filesystem::temp_directory_path(error);
  if (error) base = "/tmp";
  return (base / fmt::format("{}{:016x}", default_name_prefix(), job)).string();
}

Result<std::unique_ptr<Rendezvous>> meet_in_directory(const Options& options,
                                                      const std::string& path,
                                                      bool remove_when_empty,
                                                      const tcp::Endpoint& own,
                                                      TimePoint deadline) {
  if (remove_when_empty) remove_dead_neighbours(path);
  auto entered = enter(options, path, remove_when_empty, own, deadline);
  DIST_TRY_BECAUSE(entered, "rendezvous");
  return entered;
}

}  // namespace dist
