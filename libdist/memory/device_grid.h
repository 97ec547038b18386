// SPDX-License-Identifier: Apache-2.0
// Internal: how the threads of a GPU share the elements of a loop. Plain arithmetic, so that tests
// run it on the host with as many pretended threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace dist::device {

inline constexpr std::uint32_t kThreads = 256;  // of a block
inline constexpr std::size_t kVectorBytes = 16;

/// Elements [0, head) and [tail, elems) one by one, those between as `vectors` groups of equal
/// length that all begin on a boundary of their own size in every span.
struct Split {
  std::uint64_t head = 0;
  std::uint64_t vectors = 0;
  std::uint64_t tail = 0;
  std::uint64_t elems = 0;

  constexpr std::uint64_t singles() const { return head + (elems - tail); }
};

/// Where a span begins, and the bytes of its elements.
struct Placed {
  std::uint64_t address = 0;
  std::uint64_t elem_bytes = 1;
};

/// Cuts loops over spans at these places into vectors of `width` elements; no vectors where no
/// common boundary exists.
constexpr Split split(std::span<const Placed> spans, std::uint64_t elems, std::uint64_t width) {
  for (std::uint64_t head = 0; head < width && head <= elems; ++head) {
    bool fits = true;
    for (const Placed& span : spans) {
      fits = fits && (span.address + head * span.elem_bytes) % (width * span.elem_bytes) == 0;
    }
    if (!fits) continue;
    const std::uint64_t vectors = (elems - head) / width;
    return {head, vectors, head + vectors * width, elems};
  }
  return {elems, 0, elems, elems};
}

/// What one of `threads` threads does of it: body.vector(first) for its vectors, body.single(i) for
/// its single elements. Neighbours in memory are neighbouring threads'.
template <typename Body>
constexpr void share(const Split& split, std::uint64_t width, std::uint64_t thread,
                     std::uint64_t threads, const Body& body) {
  for (std::uint64_t v = thread; v < split.vectors; v += threads) {
    body.vector(split.head + v * width);
  }
  for (std::uint64_t s = thread; s < split.singles(); s += threads) {
    body.single(s < split.head ? s : s - split.head + split.tail);
  }
}

/// Blocks of kThreads for so many pieces of work, one a thread and turn.
constexpr std::uint32_t blocks_for(std::uint64_t pieces, std::uint32_t most_blocks) {
  const std::uint64_t blocks = (pieces + kThreads - 1) / kThreads;
  if (blocks == 0) return 1;
  return blocks < most_blocks ? static_cast<std::uint32_t>(blocks) : most_blocks;
}

inline constexpr std::uint32_t kMostSumBlocks = 1024;

/// Blocks of a sum: by its size alone, so that the order of the additions is too.
constexpr std::uint32_t sum_blocks(std::uint64_t elems) {
  constexpr std::uint64_t kElemsOfBlock = 16384;
  return blocks_for((elems + kElemsOfBlock - 1) / kElemsOfBlock * kThreads, kMostSumBlocks);
}

}  // namespace dist::device
