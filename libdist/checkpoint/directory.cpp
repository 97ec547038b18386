// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "libdist/checkpoint/shard.h"
#include "libdist/wire/crc32c.h"

namespace dist::checkpoint {
namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kUnfinished = ".step-";
constexpr std::string_view kPart = ".part";  // of a file that is being written
constexpr std::string_view kGivenUp = ".failed";

std::string shard_name(int shard) { return fmt::format("shard-{}", shard); }

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string text_of(Name name) {
  const auto text = fmt::format("{}{:06}", kPrefix, name.step);
  return name.edition == 0 ? text : fmt::format("{}.{}", text, name.edition);
}

std::optional<Name> parse_name(std::string_view text) {
  if (!text.starts_with(kPrefix)) return std::nullopt;
  Name name;
  const char* const end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data() + kPrefix.size(), end, name.step);
  if (error == std::errc() && at != end && *at == '.') {
    const auto edition = std::from_chars(at + 1, end, name.edition);
    at = edition.ptr;
    error = edition.ec;
  }
  // Only what text_of() writes.
  return error == std::errc() && at == end && text_of(name) == text ? std::optional(name)
                                                                    : std::nullopt;
}

std::string Directory::working(std::uint64_t step) const {
  return fmt::format("{}/.step-{:06}-{:016x}", path_, step, job_);
}

Status Directory::prepare() {
  DIST_TRY(files_.make_directory(path_));
  const auto slash = path_.rfind('/');
  DIST_TRY(files_.sync_directory(slash == path_.npos ? "." : path_.substr(0, slash + 1)));
  const auto names = files_.list(path_);
  DIST_TRY(names);
  for (const auto& name : *names) {
    if (name.starts_with(kUnfinished)) DIST_TRY(remove_tree(files_, path_ + "/" + name));
  }
  return files_.sync_directory(path_);
}

Result<std::vector<Name>> Directory::list() const {
  const auto names = files_.list(path_);
  DIST_TRY(names);
  std::vector<Name> found;
  for (const auto& text : *names) {
    if (const auto name = parse_name(text)) found.push_back(*name);
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

// fsync before the rename: a name never shows half a file, not even after a loss of power.
Status Directory::write_shard(const Layout& layout, const Snapshot& snapshot) {
  const auto folder = working(snapshot.step());
  const auto path = folder + "/" + shard_name(snapshot.shard());
  const auto part = path + std::string(kPart);
  DIST_TRY(files_.make_directory(folder));
  {
    auto file = files_.create(part);
    DIST_TRY(file);
    DIST_TRY_BECAUSE(checkpoint::write_shard(**file, layout, snapshot), part);
    DIST_TRY((*file)->sync());
  }
  DIST_TRY(files_.rename(part, path));
  return files_.sync_directory(folder);
}

void Directory::give_up_shard(const Snapshot& snapshot) {
  const auto path = working(snapshot.step()) + "/" + shard_name(snapshot.shard());
  static_cast<void>(files_.remove_file(path + std::string(kPart)));
  static_cast<void>(files_.create(path + std::string(kGivenUp)));
}

Result<bool> Directory::shards_complete(const Contents& contents) const {
  const auto names = files_.list(working(contents.step));
  DIST_TRY(names);
  bool complete = true;
  for (int shard = 0; shard < contents.shards; ++shard) {
    if (contains(*names, shard_name(shard) + std::string(kGivenUp))) {
      return Status::resource(fmt::format("shard {} of {} could not be written; its rank says why",
                                          shard, contents.shards));
    }
    complete = complete && contains(*names, shard_name(shard));
  }
  return complete;
}

Result<Name> Directory::commit(const Layout& layout, const Contents& contents) {
  const auto folder = working(contents.step);
  Manifest manifest{contents.step, layout.dtype, layout.rule, {}, {}, contents.values};
  for (const auto& [name, range] : layout.entries) {
    manifest.parameters.push_back({name, range.elems()});
  }
  for (int shard = 0; shard < contents.shards; ++shard) {
    auto entry = describe_shard(folder, shard_name(shard), contents.step);
    DIST_TRY_BECAUSE(entry, fmt::format("{}/{}", folder, shard_name(shard)));
    manifest.files.push_back(*std::move(entry));
  }
  for (const Attachment& attachment : contents.attachments) {
    auto entry = attach(folder, attachment);
    DIST_TRY(entry);
    manifest.files.push_back(*std::move(entry));
  }
  const auto text = print(manifest);
  DIST_TRY(text);
  DIST_TRY(write_file(folder + "/manifest", std::as_bytes(std::span(text->data(), text->size()))));
  DIST_TRY(files_.sync_directory(folder));
  const auto others = list();
  DIST_TRY(others);
  Name name{contents.step, 0};
  for (const Name& other : *others) {
    if (other.step == name.step) name.edition = std::max(name.edition, other.edition + 1);
  }
  DIST_TRY(files_.rename(folder, path_of(name)));
  DIST_TRY(files_.sync_directory(path_));
  return name;
}

Result<FileEntry> Directory::describe_shard(const std::string& folder, const std::string& name,
                                            std::uint64_t step) const {
  auto file = files_.open(folder + "/" + name);
  DIST_TRY(file);
  const auto bytes = (*file)->size();
  DIST_TRY(bytes);
  const auto trailer = read_trailer(**file, *bytes);
  DIST_TRY(trailer);
  if (trailer->step != step) {
    return Status::protocol(fmt::format("holds step {}, not step {}", trailer->step, step));
  }
  return FileEntry{name, *bytes, trailer->index_crc, true};
}

Result<FileEntry> Directory::attach(const std::string& folder, const Attachment& attachment) {
  DIST_TRY(write_file(folder + "/" + attachment.name, attachment.bytes));
  return FileEntry{attachment.name, attachment.bytes.size(), wire::crc32c(attachment.bytes), false};
}

Status Directory::write_file(const std::string& path, std::span<const std::byte> bytes) {
  auto file = files_.create(path);
  DIST_TRY(file);
  DIST_TRY(write_all(**file, bytes));
  return (*file)->sync();
}

void Directory::discard(std::uint64_t step) {
  static_cast<void>(remove_tree(files_, working(step)));
}

void Directory::discard_before(std::uint64_t step) {
  const auto names = files_.list(path_);
  if (!names.ok()) return;
  const auto suffix = fmt::format("-{:016x}", job_);
  for (const auto& name : *names) {
    if (!name.starts_with(kUnfinished) || !name.ends_with(suffix)) continue;
    const auto unfinished = parse_name(name.substr(1, name.size() - 1 - suffix.size()));
    if (unfinished && unfinished->step < step) discard(unfinished->step);
  }
}

Status Directory::prune(int keep) {
  const auto names = list();
  DIST_TRY(names);
  int steps = 0;
  std::optional<std::uint64_t> step;
  for (const Name& name : *names) {
    const bool superseded = std::exchange(step, name.step) == name.step;
    if (!superseded) ++steps;
    if (superseded || steps > std::max(keep, 1)) DIST_TRY(remove(text_of(name)));
  }
  return {};
}

// Out of sight first: what is half removed must not look like a checkpoint.
Status Directory::remove(const std::string& name) {
  const auto hidden = fmt::format("{}/.{}-removed", path_, name);
  DIST_TRY(files_.rename(path_ + "/" + name, hidden));
  DIST_TRY(files_.sync_directory(path_));
  return remove_tree(files_, hidden);
}

}  // namespace dist::checkpoint
