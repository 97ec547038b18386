// SPDX-License-Identifier: Apache-2.0
// A directory of checkpoints: how one is written so that it is there whole or not at all, which is
// the newest, which go.
//
// While it grows a checkpoint is a hidden directory. Every rank puts its shard into it under its
// final name when the shard is safe; rank 0 waits for all of them, adds the manifest, and gives the
// directory its name: step-000123. Readers look at such names alone.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "libdist/checkpoint/file_system.h"
#include "libdist/checkpoint/format.h"
#include "libdist/checkpoint/layout.h"
#include "libdist/checkpoint/snapshot.h"

namespace dist::checkpoint {

/// A complete checkpoint's place in its directory. A job that comes to the same step twice gives
/// the second one a higher edition: nothing complete is ever written over.
struct Name {
  std::uint64_t step = 0;
  std::uint64_t edition = 0;

  auto operator<=>(const Name&) const = default;
};
std::string text_of(Name name);  ///< "step-000123", "step-000123.1"
std::optional<Name> parse_name(std::string_view text);

/// A file that the program adds, e.g. its weights in another format.
struct Attachment {
  std::string name;
  std::vector<std::byte> bytes;
};

/// What rank 0 says of a checkpoint beside its shards.
struct Contents {
  std::uint64_t step = 0;
  int shards = 0;
  std::map<std::string, std::string> values;
  std::vector<Attachment> attachments;
};

/// All functions may be called by several ranks at once where they say so, for one job at a time.
class Directory {
 public:
  /// `job` tells the unfinished checkpoints of this job from those of others: the same on all its
  /// ranks. `files` must outlive the directory.
  Directory(FileSystem& files, std::string path, std::uint64_t job)
      : files_(files), path_(std::move(path)), job_(job) {}

  FileSystem& files() const { return files_; }
  const std::string& path() const { return path_; }
  std::string path_of(Name name) const { return path_ + "/" + text_of(name); }

  /// Rank 0, before others use it: makes the directory, removes what unfinished jobs left behind.
  Status prepare();

  /// Complete checkpoints by their names, newest first.
  Result<std::vector<Name>> list() const;

  /// Any rank: writes its shard; when this returns ok it is safe.
  Status write_shard(const Layout& layout, const Snapshot& snapshot);

  /// Any rank: tells rank 0 not to wait for a shard. Best effort.
  void give_up_shard(const Snapshot& snapshot);

  /// Rank 0: whether all shards are safe. Error: one was given up.
  Result<bool> shards_complete(const Contents& contents) const;

  /// Rank 0, when they are: completes the checkpoint.
  Result<Name> commit(const Layout& layout, const Contents& contents);

  /// Rank 0: removes an unfinished checkpoint, best effort.
  void discard(std::uint64_t step);

  /// Rank 0: removes those of this job of which earlier steps never became whole, best effort.
  void discard_before(std::uint64_t step);

  /// Rank 0: removes complete ones but the newest edition of each of the newest `keep` steps.
  Status prune(int keep);

 private:
  std::string working(std::uint64_t step) const;
  Result<FileEntry> describe_shard(const std::string& folder, const std::string& name,
                                   std::uint64_t step) const;
  Result<FileEntry> attach(const std::string& folder, const Attachment& attachment);
  Status write_file(const std::string& path, std::span<const std::byte> bytes);
  Status remove(const std::string& name);

  FileSystem& files_;
  const std::string path_;
  const std::uint64_t job_;
};

}  // namespace dist::checkpoint
