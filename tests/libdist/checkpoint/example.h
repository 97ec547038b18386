// SPDX-License-Identifier: Apache-2.0
// A small model whose values say which step they belong to.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "libdist/checkpoint/directory.h"
#include "libdist/checkpoint/layout.h"
#include "libdist/checkpoint/reader.h"
#include "libdist/plan.h"

namespace dist::test {

inline Arena example_arena() {
  return Arena::create({{"conv/weights", Elems(5)}, {"conv/bias", Elems(1)}, {"fc", Elems(40)}})
      .value();
}

inline checkpoint::Layout example_layout() {
  return checkpoint::Layout::of(example_arena(), "momentum");
}

/// What array `array` holds at an element of the arena after `step` steps.
inline float example_value(std::uint64_t step, std::size_t array, std::uint64_t element) {
  return static_cast<float>(step * 10000 + array * 1000 + element);
}

inline std::vector<float> example_values(std::uint64_t step, std::size_t array, Range range) {
  std::vector<float> values;
  for (auto i = range.begin; i < range.end; ++i) values.push_back(example_value(step, array, i));
  return values;
}

/// Shard `shard` of `shards`, with one array of state.
inline checkpoint::Snapshot example_snapshot(std::uint64_t step, int shard, int shards) {
  checkpoint::Snapshot snapshot(step, shard, shards);
  const Range part = chunk_range({0, example_arena().elems().value}, shards, shard);
  const auto values = example_values(step, 0, part);
  const auto state = example_values(step, 1, part);
  const std::vector<std::span<const std::byte>> arrays = {std::as_bytes(std::span(values)),
                                                          std::as_bytes(std::span(state))};
  snapshot.add(part, step, arrays);
  return snapshot;
}

/// Whether a source holds exactly what `step` left, gaps aside.
inline Status check_example(const checkpoint::Source& source, std::uint64_t step) {
  const auto arena = example_arena();
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    const Range range = arena.range(p);
    if (source.version(range) != step) return Status::protocol("the version is another step's");
    for (std::size_t array = 0; array < 2; ++array) {
      std::vector<float> found(range.elems());
      DIST_TRY(source.read(range, array, std::as_writable_bytes(std::span(found))));
      if (found != example_values(step, array, range)) {
        return Status::protocol("parameter " + arena.parameter(p).name + " is another step's");
      }
    }
  }
  return {};
}

/// The newest whole checkpoint, or null.
inline Result<std::unique_ptr<checkpoint::Reader>> open_newest(
    checkpoint::FileSystem& files, const checkpoint::Directory& directory,
    std::vector<std::string>* damaged, std::optional<std::uint64_t> newest_step = {}) {
  const auto name = checkpoint::find_newest(files, directory, newest_step, damaged);
  DIST_TRY(name);
  if (!name->has_value()) return std::unique_ptr<checkpoint::Reader>();
  return checkpoint::Reader::open(files, directory.path_of(**name));
}

}  // namespace dist::test
