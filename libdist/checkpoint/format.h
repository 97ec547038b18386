// SPDX-License-Identifier: Apache-2.0
// The bytes of a checkpoint: FORMAT.md in words, this in code. Pure: no files.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::checkpoint {

inline constexpr std::uint64_t kShardMagic = 0x4452414853544344;  // the bytes "DCTSHARD"
inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kRecordBytes = 48;
inline constexpr std::size_t kTrailerBytes = 32;

/// Arrays from this one on hold what compression holds back: floats, whatever the elements are.
inline constexpr std::uint32_t kHeldBack = 1 << 16;
constexpr DType type_of(std::uint32_t array, DType elements) {
  return array < kHeldBack ? elements : DType::f32;
}

/// Some elements of one array of one parameter, as they lie in a shard's file.
struct Record {
  std::uint32_t parameter = 0;  ///< number in the manifest
  std::uint32_t array = 0;      ///< 0 the parameter itself, 1 and on the update's state, then
                                ///< kHeldBack and on
  std::uint64_t first = 0;      ///< element of the parameter
  std::uint64_t elems = 0;
  std::uint64_t version = 0;  ///< updates applied
  std::uint64_t offset = 0;   ///< in the file
  std::uint32_t crc = 0;      ///< CRC32C of the bytes

  bool operator==(const Record&) const = default;
};

/// The end of a shard's file: it says where the records are.
struct Trailer {
  std::uint64_t step = 0;
  std::uint64_t records = 0;
  std::uint32_t index_crc = 0;  ///< of all records' bytes

  bool operator==(const Trailer&) const = default;
};

std::vector<std::byte> encode(std::span<const Record> records);
std::vector<Record> decode_records(std::span<const std::byte> bytes);

std::vector<std::byte> encode(const Trailer& trailer);
/// Of the last bytes of a file. Errors (protocol): not a shard, another version.
Result<Trailer> decode_trailer(std::span<const std::byte> bytes);

/// A file of the checkpoint.
struct FileEntry {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint32_t crc = 0;  ///< of the whole file; of a shard: its index_crc
  bool shard = false;

  bool operator==(const FileEntry&) const = default;
};

struct ParameterEntry {
  std::string name;
  std::uint64_t elems = 0;

  bool operator==(const ParameterEntry&) const = default;
};

/// What a checkpoint is: written last, so where it stands, all stands.
struct Manifest {
  std::uint64_t step = 0;
  DType dtype = DType::f32;
  std::string rule;
  std::vector<ParameterEntry> parameters;
  std::vector<FileEntry> files;
  std::map<std::string, std::string> values;  ///< the program's own

  bool operator==(const Manifest&) const = default;
};

/// As text. Error (invalid_argument): a name or value with a line break, a value's name with a
/// blank.
Result<std::string> print(const Manifest& manifest);
/// Error (protocol): damaged, or of another version; with the line.
Result<Manifest> parse_manifest(std::string_view text);

}  // namespace dist::checkpoint
