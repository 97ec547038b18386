// SPDX-License-Identifier: Apache-2.0
// A complete checkpoint, read by a job that may have other ranks, servers and alignment than the
// one that wrote it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libdist/checkpoint/directory.h"
#include "libdist/checkpoint/file_system.h"
#include "libdist/checkpoint/format.h"
#include "libdist/checkpoint/layout.h"
#include "libdist/checkpoint/snapshot.h"

namespace dist::checkpoint {

class Reader final : public Source {
 public:
  /// Reads manifest and indexes and checks that they hold every element once. `files` must outlive
  /// the reader. Errors name the file.
  static Result<std::unique_ptr<Reader>> open(FileSystem& files, const std::string& folder);

  const std::string& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }

  /// Reads everything and compares all checksums.
  Status verify() const;

  /// From now on ranges are those of `layout`. Error (invalid_argument): what differs in names,
  /// sizes, element type, update rule. The order of the parameters may be another.
  Status fit(const Layout& layout);

  // Source; after fit().
  std::uint64_t step() const override { return manifest_.step; }
  bool has(std::size_t array) const override;
  Status read(Range range, std::size_t array, std::span<std::byte> into) const override;
  std::uint64_t version(Range range) const override;

 private:
  struct Section {
    std::size_t file;
    Record record;
    Range range() const { return {record.first, record.first + record.elems}; }
  };

  Reader(FileSystem& files, std::string folder) : files_(files), folder_(std::move(folder)) {}
  Status load();
  Status load_shard(std::size_t file);
  Status check_coverage();
  Status read_part(std::size_t entry, Range part, std::size_t array,
                   std::span<std::byte> into) const;
  Status check_attachment(const FileEntry& entry) const;
  std::string path_of(std::size_t file) const;

  FileSystem& files_;
  const std::string folder_;
  Manifest manifest_;
  std::vector<std::unique_ptr<File>> shards_;   // by file of the manifest; null: not a shard
  std::vector<std::vector<Section>> sections_;  // by parameter of the manifest, ascending
  Layout layout_;
  std::vector<std::size_t> parameter_of_;  // entry of the layout -> parameter of the manifest
};

/// The newest checkpoint of a directory, not beyond `newest_step`, of which every byte is as it was
/// written, or nothing. What is newer and damaged is passed over, and told in `damaged`, one line
/// each.
Result<std::optional<Name>> find_newest(FileSystem& files, const Directory& directory,
                                        std::optional<std::uint64_t> newest_step,
                                        std::vector<std::string>* damaged);

}  // namespace dist::checkpoint
