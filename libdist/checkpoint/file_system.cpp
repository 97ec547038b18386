// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "libdist/transport/file_descriptor.h"

namespace dist::checkpoint {
namespace {

Status failure(std::string_view what, const std::string& path) {
  const int reason = errno;
  return Status::resource(fmt::format("cannot {} {}: {}", what, path, std::strerror(reason)));
}

class SystemFile final : public File {
 public:
  SystemFile(FileDescriptor file, std::string path)
      : file_(std::move(file)), path_(std::move(path)) {}

  Result<std::size_t> write(std::span<const std::byte> bytes) override {
    for (;;) {
      const auto written = ::write(file_.number(), bytes.data(), bytes.size());
      if (written > 0) return static_cast<std::size_t>(written);
      if (written == 0) errno = ENOSPC;
      if (errno != EINTR) return failure("write to", path_);
    }
  }

  Result<std::size_t> read(std::uint64_t at, std::span<std::byte> into) override {
    for (;;) {
      const auto got = ::pread(file_.number(), into.data(), into.size(), static_cast<::off_t>(at));
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) return failure("read", path_);
    }
  }

  Result<std::uint64_t> size() override {
    struct stat information {};
    if (::fstat(file_.number(), &information) != 0) return failure("look at", path_);
    return static_cast<std::uint64_t>(information.st_size);
  }

  Status sync() override {
    return ::fsync(file_.number()) == 0 ? Status() : failure("fsync", path_);
  }

 private:
  const FileDescriptor file_;
  const std::string path_;
};

class SystemFiles final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> create(const std::string& path) override {
    return open(path, O_WRONLY | O_CREAT | O_TRUNC, "create");
  }
  Result<std::unique_ptr<File>> open(const std::string& path) override {
    return open(path, O_RDONLY, "open");
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    std::vector<std::string> names;
    DIR* const stream = ::opendir(directory.c_str());
    if (stream == nullptr) {
      if (errno == ENOENT) return names;
      return failure("list", directory);
    }
    errno = 0;
    while (const dirent* const entry = ::readdir(stream)) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    const int reason = errno;
    ::closedir(stream);
    errno = reason;
    if (reason != 0) return failure("list", directory);
    return names;
  }

  Status make_directory(const std::string& path) override {
    const bool made = ::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST;
    return made ? Status() : failure("make the directory", path);
  }

  Status sync_directory(const std::string& path) override {
    const FileDescriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool synced = directory.valid() && ::fsync(directory.number()) == 0;
    return synced ? Status() : failure("fsync the directory", path);
  }

  Status rename(const std::string& from, const std::string& to) override {
    return std::rename(from.c_str(), to.c_str()) == 0
               ? Status()
               : failure(fmt::format("rename {} to", from), to);
  }
  Status remove_file(const std::string& path) override {
    return ::unlink(path.c_str()) == 0 ? Status() : failure("remove", path);
  }
  Status remove_directory(const std::string& path) override {
    return ::rmdir(path.c_str()) == 0 ? Status() : failure("remove the directory", path);
  }

 private:
  static Result<std::unique_ptr<File>> open(const std::string& path, int flags,
                                            std::string_view what) {
    FileDescriptor file(::open(path.c_str(), flags | O_CLOEXEC, 0666));
    if (!file.valid()) return failure(what, path);
    return std::unique_ptr<File>(std::make_unique<SystemFile>(std::move(file), path));
  }
};

}  // namespace

std::unique_ptr<FileSystem> make_system_files() { return std::make_unique<SystemFiles>(); }

Status write_all(File& file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto written = file.write(bytes);
    DIST_TRY(written);
    bytes = bytes.subspan(*written);
  }
  return {};
}

Status read_all(File& file, std::uint64_t at, std::span<std::byte> into) {
  while (!into.empty()) {
    const auto got = file.read(at, into);
    DIST_TRY(got);
    if (*got == 0) return Status::protocol(fmt::format("the file ends at byte {}", at));
    at += *got;
    into = into.subspan(*got);
  }
  return {};
}

Status remove_tree(FileSystem& files, const std::string& directory) {
  const auto names = files.list(directory);
  DIST_TRY(names);
  for (const auto& name : *names) {
    DIST_TRY(files.remove_file(fmt::format("{}/{}", directory, name)));
  }
  return files.remove_directory(directory);
}

}  // namespace dist::checkpoint
