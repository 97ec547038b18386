// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/shard.h"

#include <fmt/format.h>

#include <algorithm>

#include "libdist/wire/crc32c.h"

namespace dist::checkpoint {
namespace {

// Appends sections and keeps their records.
class ShardWriter {
 public:
  ShardWriter(File& file, const Layout& layout) : file_(file), layout_(layout) {}

  Status add(const Part& part) {
    Status outcome;
    layout_.for_each(part.range, [&](std::size_t parameter, Range range) {
      for (auto begin = range.begin; begin < range.end; begin += kSectionElems) {
        const Range section{begin, std::min(begin + kSectionElems, range.end)};
        for (std::size_t a = 0; a < part.arrays.size() && outcome.ok(); ++a) {
          outcome = add(part, parameter, section, a);
        }
      }
    });
    return outcome;
  }

  Status finish(std::uint64_t step) {
    const auto index = encode(records_);
    DIST_TRY(write_all(file_, index));
    return write_all(file_, encode(Trailer{step, records_.size(), wire::crc32c(index)}));
  }

 private:
  Status add(const Part& part, std::size_t parameter, Range section, std::size_t array) {
    const auto number = part.first_array + static_cast<std::uint32_t>(array);
    const auto size = size_of(type_of(number, layout_.dtype));
    const auto bytes = part.arrays[array].subspan((section.begin - part.range.begin) * size,
                                                  section.elems() * size);
    records_.push_back({static_cast<std::uint32_t>(parameter), number,
                        section.begin - layout_.entries[parameter].range.begin, section.elems(),
                        part.version, offset_, wire::crc32c(bytes)});
    offset_ += bytes.size();
    return write_all(file_, bytes);
  }

  File& file_;
  const Layout& layout_;
  std::uint64_t offset_ = 0;
  std::vector<Record> records_;
};

}  // namespace

Status write_shard(File& file, const Layout& layout, const Snapshot& snapshot) {
  ShardWriter writer(file, layout);
  for (const Part& part : snapshot.parts()) DIST_TRY(writer.add(part));
  return writer.finish(snapshot.step());
}

Result<Trailer> read_trailer(File& file, std::uint64_t bytes) {
  if (bytes < kTrailerBytes) return Status::protocol("the file is too short for a shard");
  std::vector<std::byte> raw(kTrailerBytes);
  DIST_TRY(read_all(file, bytes - kTrailerBytes, raw));
  const auto trailer = decode_trailer(raw);
  DIST_TRY(trailer);
  if (trailer->records > (bytes - kTrailerBytes) / kRecordBytes) {
    return Status::protocol(
        fmt::format("the file is too short for its {} records", trailer->records));
  }
  return *trailer;
}

Result<std::vector<Record>> read_records(File& file, std::uint64_t bytes, DType dtype) {
  const auto trailer = read_trailer(file, bytes);
  DIST_TRY(trailer);
  std::vector<std::byte> raw(trailer->records * kRecordBytes);
  const auto end = bytes - kTrailerBytes - raw.size();
  DIST_TRY(read_all(file, end, raw));
  if (wire::crc32c(raw) != trailer->index_crc) {
    return Status::protocol("the index is damaged: its checksum differs");
  }
  auto records = decode_records(raw);
  for (const Record& record : records) {
    if (record.elems > kSectionElems || record.offset > end ||
        record.elems * size_of(type_of(record.array, dtype)) > end - record.offset) {
      return Status::protocol("the index names bytes that the file does not have");
    }
  }
  return records;
}

Result<std::vector<std::byte>> read_section(File& file, const Record& record, DType dtype) {
  std::vector<std::byte> bytes(record.elems * size_of(type_of(record.array, dtype)));
  DIST_TRY(read_all(file, record.offset, bytes));
  if (wire::crc32c(bytes) != record.crc) {
    return Status::protocol(
        fmt::format("elements {} to {} of parameter {} are damaged: their checksum differs",
                    record.first, record.first + record.elems, record.parameter));
  }
  return bytes;
}

}  // namespace dist::checkpoint
