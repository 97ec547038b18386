// SPDX-License-Identifier: Apache-2.0
// One rank's file of a checkpoint: sections of elements, then the records that name them, then a
// trailer.
#pragma once

#include <cstdint>
#include <vector>

#include "libdist/checkpoint/file_system.h"
#include "libdist/checkpoint/format.h"
#include "libdist/checkpoint/layout.h"
#include "libdist/checkpoint/snapshot.h"

namespace dist::checkpoint {

/// A section holds at most this many elements: what a reader must read to check a few of them.
inline constexpr std::uint64_t kSectionElems = 1 << 20;

/// Writes a whole shard into an empty file.
Status write_shard(File& file, const Layout& layout, const Snapshot& snapshot);

/// Of a file of so many bytes. Errors: too short for what it says; not a shard.
Result<Trailer> read_trailer(File& file, std::uint64_t bytes);

/// The records of a shard, checked against the trailer and the file's size. Nothing is allocated
/// that the file is too small for.
Result<std::vector<Record>> read_records(File& file, std::uint64_t bytes, DType dtype);

/// Reads a section and checks it.
Result<std::vector<std::byte>> read_section(File& file, const Record& record, DType dtype);

}  // namespace dist::checkpoint
