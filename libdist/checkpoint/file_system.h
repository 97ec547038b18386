// SPDX-License-Identifier: Apache-2.0
// The few things that checkpoints ask of a file system, as a seam: tests put one behind it that
// crashes, fills up and tears writes at every single operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "libdist/status.h"

namespace dist::checkpoint {

/// An open file; closed when destroyed. One thread at a time.
class File {
 public:
  virtual ~File() = default;

  /// Appends at least one byte of `bytes`, perhaps not all; how many.
  virtual Result<std::size_t> write(std::span<const std::byte> bytes) = 0;

  /// Reads up to `into.size()` bytes that begin at `at`; 0 at the end of the file.
  virtual Result<std::size_t> read(std::uint64_t at, std::span<std::byte> into) = 0;

  virtual Result<std::uint64_t> size() = 0;

  /// Returns when what was written would survive a loss of power.
  virtual Status sync() = 0;
};

/// Thread-safe. Errors (resource) name the operation, the path and the system's reason.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  /// An empty file to write; one that is there already is emptied.
  virtual Result<std::unique_ptr<File>> create(const std::string& path) = 0;
  virtual Result<std::unique_ptr<File>> open(const std::string& path) = 0;
  /// The names in a directory, in no order; none where there is no such directory.
  virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  /// Makes the directory unless it is there.
  virtual Status make_directory(const std::string& path) = 0;
  /// Returns when names made, changed and removed in the directory would survive a loss of power.
  virtual Status sync_directory(const std::string& path) = 0;
  /// Atomic. A directory does not replace one that has something in it.
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual Status remove_file(const std::string& path) = 0;
  /// An empty one.
  virtual Status remove_directory(const std::string& path) = 0;
};

/// The one of this machine.
std::unique_ptr<FileSystem> make_system_files();

/// Writes all of `bytes`, however often that takes.
Status write_all(File& file, std::span<const std::byte> bytes);

/// Reads exactly `into.size()` bytes. Error (protocol) where the file ends before.
Status read_all(File& file, std::uint64_t at, std::span<std::byte> into);

/// Removes a directory and the files in it.
Status remove_tree(FileSystem& files, const std::string& directory);

}  // namespace dist::checkpoint
