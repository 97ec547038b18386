// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/format.h"

#include <fmt/format.h>

#include <charconv>

#include "libdist/check.h"
#include "libdist/wire/crc32c.h"
#include "libdist/wire/little_endian.h"

namespace dist::checkpoint {
namespace {

constexpr std::string_view kHeadline = "libdist checkpoint 1\n";

// Writes or reads integers one after the other.
class Writer {
 public:
  explicit Writer(std::byte* at) : at_(at) {}
  template <typename T>
  Writer& put(T value) {
    wire::store(value, at_);
    at_ += sizeof value;
    return *this;
  }

 private:
  std::byte* at_;
};

class Reader {
 public:
  explicit Reader(const std::byte* at) : at_(at) {}
  template <typename T>
  T get() {
    const T value = wire::load<T>(at_);
    at_ += sizeof value;
    return value;
  }

 private:
  const std::byte* at_;
};

std::uint32_t crc_of(std::string_view text) {
  return wire::crc32c(std::as_bytes(std::span(text.data(), text.size())));
}

bool one_line(std::string_view text) { return text.find_first_of("\r\n") == text.npos; }

// The next word of a line, which is shortened by it.
std::string_view take_word(std::string_view* line) {
  const auto end = std::min(line->find(' '), line->size());
  const auto word = line->substr(0, end);
  line->remove_prefix(std::min(end + 1, line->size()));
  return word;
}

template <typename T>
bool take_number(std::string_view* line, T* out, int base = 10) {
  const auto word = take_word(line);
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), *out, base);
  return error == std::errc() && end == word.data() + word.size();
}

bool find_dtype(std::string_view name, DType* out) {
  for (std::size_t i = 0; i < kDTypes; ++i) {
    if (name_of(static_cast<DType>(i)) != name) continue;
    *out = static_cast<DType>(i);
    return can_train(*out);
  }
  return false;
}

bool take_line(std::string_view line, Manifest* manifest) {
  const auto kind = take_word(&line);
  if (kind == "step") return take_number(&line, &manifest->step);
  if (kind == "dtype") return find_dtype(line, &manifest->dtype);
  if (kind == "rule") {
    manifest->rule = line;
    return true;
  }
  if (kind == "parameter") {
    ParameterEntry entry;
    if (!take_number(&line, &entry.elems)) return false;
    entry.name = line;
    manifest->parameters.push_back(std::move(entry));
    return true;
  }
  if (kind == "shard" || kind == "file") {
    FileEntry entry;
    entry.shard = kind == "shard";
    if (!take_number(&line, &entry.bytes) || !take_number(&line, &entry.crc, 16)) return false;
    entry.name = line;
    manifest->files.push_back(std::move(entry));
    // A name is one in this directory: no file outside is ever opened.
    return !line.empty() && line.find('/') == line.npos;
  }
  if (kind != "value") return false;
  const auto name = std::string(take_word(&line));
  return manifest->values.emplace(name, line).second;
}

}  // namespace

std::vector<std::byte> encode(std::span<const Record> records) {
  std::vector<std::byte> bytes(records.size() * kRecordBytes);
  Writer out(bytes.data());
  for (const Record& record : records) {
    out.put(record.parameter).put(record.array).put(record.first).put(record.elems);
    out.put(record.version).put(record.offset).put(record.crc).put(std::uint32_t{0});
  }
  return bytes;
}

std::vector<Record> decode_records(std::span<const std::byte> bytes) {
  DIST_ASSERT(bytes.size() % kRecordBytes == 0, "not whole records");
  std::vector<Record> records(bytes.size() / kRecordBytes);
  Reader in(bytes.data());
  for (Record& record : records) {
    record.parameter = in.get<std::uint32_t>();
    record.array = in.get<std::uint32_t>();
    record.first = in.get<std::uint64_t>();
    record.elems = in.get<std::uint64_t>();
    record.version = in.get<std::uint64_t>();
    record.offset = in.get<std::uint64_t>();
    record.crc = in.get<std::uint32_t>();
    in.get<std::uint32_t>();  // reserved
  }
  return records;
}

std::vector<std::byte> encode(const Trailer& trailer) {
  std::vector<std::byte> bytes(kTrailerBytes);
  Writer(bytes.data())
      .put(trailer.step)
      .put(trailer.records)
      .put(trailer.index_crc)
      .put(kFormatVersion)
      .put(kShardMagic);
  return bytes;
}

Result<Trailer> decode_trailer(std::span<const std::byte> bytes) {
  DIST_ASSERT(bytes.size() == kTrailerBytes, "a trailer has its size");
  Reader in(bytes.data());
  Trailer trailer;
  trailer.step = in.get<std::uint64_t>();
  trailer.records = in.get<std::uint64_t>();
  trailer.index_crc = in.get<std::uint32_t>();
  const auto version = in.get<std::uint32_t>();
  if (in.get<std::uint64_t>() != kShardMagic) {
    return Status::protocol("not the end of a checkpoint's shard");
  }
  if (version != kFormatVersion) {
    return Status::protocol(
        fmt::format("shard of format {}, this library reads {}", version, kFormatVersion));
  }
  return trailer;
}

Result<std::string> print(const Manifest& manifest) {
  std::string text(kHeadline);
  const auto add = [&](std::string line) {
    const bool fits = one_line(line);
    text += std::move(line) + "\n";
    return fits;
  };
  bool fits = add(fmt::format("step {}", manifest.step)) &&
              add(fmt::format("dtype {}", name_of(manifest.dtype))) &&
              add(fmt::format("rule {}", manifest.rule));
  for (const auto& [name, elems] : manifest.parameters) {
    fits = fits && add(fmt::format("parameter {} {}", elems, name));
  }
  for (const auto& [name, bytes, crc, shard] : manifest.files) {
    fits = fits && add(fmt::format("{} {} {:08x} {}", shard ? "shard" : "file", bytes, crc, name));
  }
  for (const auto& [name, value] : manifest.values) {
    fits = fits && name.find(' ') == name.npos && add(fmt::format("value {} {}", name, value));
  }
  if (!fits) {
    return Status::invalid_argument(
        "checkpoint: a name or a value has a line break, or a value's name a blank");
  }
  return text + fmt::format("end {:08x}\n", crc_of(text));
}

Result<Manifest> parse_manifest(std::string_view text) {
  constexpr std::size_t kEndBytes = 13;  // "end 01234567\n"
  if (!text.starts_with(kHeadline) || text.size() < kHeadline.size() + kEndBytes) {
    return Status::protocol("the manifest is not one of format 1, or cut off");
  }
  const auto body = text.substr(0, text.size() - kEndBytes);
  if (text.substr(body.size()) != fmt::format("end {:08x}\n", crc_of(body))) {
    return Status::protocol("the manifest is damaged: its checksum differs");
  }
  Manifest manifest;
  for (std::size_t at = kHeadline.size(); at < body.size();) {
    const auto end = std::min(body.find('\n', at), body.size());
    const auto line = body.substr(at, end - at);
    if (!take_line(line, &manifest)) {
      return Status::protocol(fmt::format("the manifest has a bad line: '{}'", line));
    }
    at = end + 1;
  }
  return manifest;
}

}  // namespace dist::checkpoint
