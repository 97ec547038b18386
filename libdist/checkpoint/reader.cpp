// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

#include "libdist/check.h"
#include "libdist/checkpoint/shard.h"
#include "libdist/wire/crc32c.h"

namespace dist::checkpoint {
namespace {

constexpr std::uint64_t kMostManifestBytes = 64 << 20;
constexpr std::size_t kMostNames = 5;  // in a message

Result<std::vector<std::byte>> read_file(FileSystem& files, const std::string& path,
                                         std::uint64_t most_bytes) {
  auto file = files.open(path);
  DIST_TRY(file);
  const auto size = (*file)->size();
  DIST_TRY(size);
  if (*size > most_bytes) {
    return Status::protocol(
        fmt::format("{}: has {} bytes, at most {} are right", path, *size, most_bytes));
  }
  std::vector<std::byte> bytes(*size);
  DIST_TRY_BECAUSE(read_all(**file, 0, bytes), path);
  return bytes;
}

}  // namespace

Result<std::unique_ptr<Reader>> Reader::open(FileSystem& files, const std::string& folder) {
  std::unique_ptr<Reader> reader(new Reader(files, folder));
  DIST_TRY(reader->load());
  return reader;
}

std::string Reader::path_of(std::size_t file) const {
  return folder_ + "/" + manifest_.files[file].name;
}

Status Reader::load() {
  const auto path = folder_ + "/manifest";
  const auto bytes = read_file(files_, path, kMostManifestBytes);
  DIST_TRY(bytes);
  auto manifest = parse_manifest({reinterpret_cast<const char*>(bytes->data()), bytes->size()});
  DIST_TRY_BECAUSE(manifest, path);
  manifest_ = *std::move(manifest);
  sections_.resize(manifest_.parameters.size());
  shards_.resize(manifest_.files.size());
  for (std::size_t f = 0; f < manifest_.files.size(); ++f) {
    if (manifest_.files[f].shard) DIST_TRY_BECAUSE(load_shard(f), path_of(f));
  }
  return check_coverage();
}

Status Reader::load_shard(std::size_t file) {
  const FileEntry& entry = manifest_.files[file];
  auto opened = files_.open(path_of(file));
  DIST_TRY(opened);
  const auto bytes = (*opened)->size();
  DIST_TRY(bytes);
  if (*bytes != entry.bytes) {
    return Status::protocol(fmt::format("has {} bytes, the manifest says {}", *bytes, entry.bytes));
  }
  const auto trailer = read_trailer(**opened, *bytes);
  DIST_TRY(trailer);
  if (trailer->index_crc != entry.crc || trailer->step != manifest_.step) {
    return Status::protocol("is another file than the manifest says");
  }
  const auto records = read_records(**opened, *bytes, manifest_.dtype);
  DIST_TRY(records);
  for (const Record& record : *records) {
    if (record.parameter >= sections_.size()) {
      return Status::protocol(
          fmt::format("names parameter {}, there are {}", record.parameter, sections_.size()));
    }
    sections_[record.parameter].push_back({file, record});
  }
  shards_[file] = *std::move(opened);
  return {};
}

// Every array of a parameter is there whole and once.
Status Reader::check_coverage() {
  for (std::size_t p = 0; p < sections_.size(); ++p) {
    auto& sections = sections_[p];
    std::sort(sections.begin(), sections.end(), [](const Section& a, const Section& b) {
      return std::tie(a.record.array, a.record.first) < std::tie(b.record.array, b.record.first);
    });
    const auto elems = manifest_.parameters[p].elems;
    std::uint64_t next = elems;  // where the next section of the array begins
    std::uint32_t arrays = 0;    // of parameter and state: none is left out
    std::uint32_t current = 0;
    bool whole = true;
    for (const Section& section : sections) {
      const auto array = section.record.array;
      if (next == elems) {
        const bool held_back = array >= kHeldBack;
        whole = whole && (held_back ? array != current : array == arrays);
        arrays += held_back ? 0 : 1;
        current = array;
        next = 0;
      }
      whole = whole && array == current && section.record.first == next &&
              section.record.elems > 0 && section.record.elems <= elems - next;
      next = whole ? next + section.record.elems : elems;
    }
    if (!whole || next != elems || (arrays == 0 && elems != 0)) {
      return Status::protocol(fmt::format("{}: parameter '{}' is not there whole and once", folder_,
                                          manifest_.parameters[p].name));
    }
  }
  return {};
}

Status Reader::verify() const {
  for (const auto& sections : sections_) {
    for (const Section& section : sections) {
      DIST_TRY_BECAUSE(read_section(*shards_[section.file], section.record, manifest_.dtype),
                       path_of(section.file));
    }
  }
  for (const FileEntry& entry : manifest_.files) {
    if (!entry.shard) DIST_TRY(check_attachment(entry));
  }
  return {};
}

Status Reader::check_attachment(const FileEntry& entry) const {
  const auto path = folder_ + "/" + entry.name;
  const auto bytes = read_file(files_, path, entry.bytes);
  DIST_TRY(bytes);
  if (bytes->size() == entry.bytes && wire::crc32c(*bytes) == entry.crc) return {};
  return Status::protocol(fmt::format("{}: damaged: its size or checksum differs", path));
}

Status Reader::fit(const Layout& layout) {
  std::vector<std::string> differences;
  if (layout.dtype != manifest_.dtype) {
    differences.push_back(fmt::format("elements are {} there and {} here", name_of(manifest_.dtype),
                                      name_of(layout.dtype)));
  }
  if (layout.rule != manifest_.rule) {
    differences.push_back(
        fmt::format("the update rule is {} there and {} here", manifest_.rule, layout.rule));
  }
  parameter_of_.clear();
  const auto& theirs = manifest_.parameters;
  std::map<std::string_view, std::size_t> known;
  for (std::size_t p = 0; p < theirs.size(); ++p) known.emplace(theirs[p].name, p);
  for (const auto& [name, range] : layout.entries) {
    const auto found = known.find(name);
    if (found == known.end()) {
      differences.push_back(fmt::format("parameter '{}' is not there", name));
      continue;
    }
    parameter_of_.push_back(found->second);
    if (theirs[found->second].elems != range.elems()) {
      differences.push_back(fmt::format("parameter '{}' has {} elements there and {} here", name,
                                        theirs[found->second].elems, range.elems()));
    }
    known.erase(found);
  }
  for (const auto& [name, p] : known) {
    differences.push_back(fmt::format("parameter '{}' is only there", name));
  }
  layout_ = layout;
  if (differences.empty()) return {};
  const auto more = differences.size() > kMostNames ? differences.size() - kMostNames : 0;
  std::string text;
  for (std::size_t i = 0; i + more < differences.size(); ++i) {
    text += (i == 0 ? "" : "; ") + differences[i];
  }
  if (more > 0) text += fmt::format("; and {} more", more);
  return Status::invalid_argument(fmt::format("{} does not fit this job: {}", folder_, text));
}

bool Reader::has(std::size_t array) const {
  return std::any_of(sections_.begin(), sections_.end(), [&](const auto& sections) {
    return std::any_of(sections.begin(), sections.end(),
                       [&](const Section& section) { return section.record.array == array; });
  });
}

Status Reader::read(Range range, std::size_t array, std::span<std::byte> into) const {
  DIST_ASSERT(parameter_of_.size() == layout_.entries.size(), "read() comes after fit()");
  const auto size = size_of(type_of(static_cast<std::uint32_t>(array), layout_.dtype));
  DIST_ASSERT(into.size() == range.elems() * size, "the memory has the range's size");
  std::memset(into.data(), 0, into.size());
  Status outcome;
  layout_.for_each(range, [&](std::size_t entry, Range part) {
    if (!outcome.ok()) return;
    outcome = read_part(entry, part, array,
                        into.subspan((part.begin - range.begin) * size, part.elems() * size));
  });
  return outcome;
}

Status Reader::read_part(std::size_t entry, Range part, std::size_t array,
                         std::span<std::byte> into) const {
  const auto size = size_of(type_of(static_cast<std::uint32_t>(array), layout_.dtype));
  const auto begin = layout_.entries[entry].range.begin;
  const Range wanted{part.begin - begin, part.end - begin};
  std::uint64_t copied = 0;
  for (const Section& section : sections_[parameter_of_[entry]]) {
    const Range common = intersect(section.range(), wanted);
    if (section.record.array != array || common.empty()) continue;
    const auto bytes = read_section(*shards_[section.file], section.record, layout_.dtype);
    DIST_TRY_BECAUSE(bytes, path_of(section.file));
    std::memcpy(into.data() + (common.begin - wanted.begin) * size,
                bytes->data() + (common.begin - section.record.first) * size,
                common.elems() * size);
    copied += common.elems();
  }
  if (copied == wanted.elems()) return {};
  return Status::protocol(fmt::format("{}: state {} of parameter '{}' is not in the checkpoint",
                                      folder_, array, layout_.entries[entry].name));
}

std::uint64_t Reader::version(Range range) const {
  std::uint64_t smallest = std::numeric_limits<std::uint64_t>::max();
  layout_.for_each(range, [&](std::size_t entry, Range part) {
    const auto begin = layout_.entries[entry].range.begin;
    for (const Section& section : sections_[parameter_of_[entry]]) {
      const Range wanted{part.begin - begin, part.end - begin};
      if (section.record.array >= kHeldBack || intersect(section.range(), wanted).empty()) continue;
      smallest = std::min(smallest, section.record.version);
    }
  });
  return smallest == std::numeric_limits<std::uint64_t>::max() ? step() : smallest;
}

Result<std::optional<Name>> find_newest(FileSystem& files, const Directory& directory,
                                        std::optional<std::uint64_t> newest_step,
                                        std::vector<std::string>* damaged) {
  const auto names = directory.list();
  DIST_TRY(names);
  for (const Name& name : *names) {
    if (newest_step && name.step > *newest_step) continue;
    const auto reader = Reader::open(files, directory.path_of(name));
    const Status whole = reader.ok() ? (*reader)->verify() : reader.status();
    if (whole.ok()) return std::optional(name);
    damaged->push_back(whole.message());
  }
  return std::optional<Name>();
}

}  // namespace dist::checkpoint
