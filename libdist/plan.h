// SPDX-License-Identifier: Apache-2.0
// A collective as data: what one rank sends, receives and does with it, round by round. Plans are
// pure; an executor walks them over a transport, a simulator prices them, tests check them without
// either.
#pragma once

#include <vector>

#include "libdist/types.h"

namespace dist {

/// What happens to received elements.
enum class Action : std::uint8_t {
  reduce,                 ///< combined with those already there: own op received
  reduce_received_first,  ///< the same in the other order: received op own
  copy,                   ///< stored over them
};

/// One hop of one rank: send a range, receive a range. Both may be empty; empty ranges move no
/// message.
struct Round {
  Rank to = 0;                   ///< who receives `send`
  Range send;                    ///< elements of the collective
  Rank from = 0;                 ///< who sends `receive`
  Range receive;                 ///< elements of the collective
  Action action = Action::copy;  ///< on what was received

  /// Member by member.
  bool operator==(const Round&) const = default;
};

/// One rank's part of a collective over `elems` elements. Round k + 1 may send what round k
/// received.
struct Plan {
  std::uint64_t elems = 0;    ///< of the whole
  std::vector<Round> rounds;  ///< in order
  Range result{};  ///< the elements that hold the collective's result on this rank at the end
};

/// Chunk `chunk` of `chunks` nearly equal chunks of a range: the first (elems mod chunks) chunks
/// are one element longer. Any length, also 0 and fewer elements than chunks.
constexpr Range chunk_range(Range whole, int chunks, int chunk) {
  const auto n = static_cast<std::uint64_t>(chunks);
  const auto c = static_cast<std::uint64_t>(chunk);
  const auto base = whole.elems() / n;
  const auto longer = whole.elems() % n;
  const auto begin = whole.begin + c * base + (c < longer ? c : longer);
  return {begin, begin + base + (c < longer ? 1 : 0)};
}

/// The order of the sum, which the ring and the synchronous parameter server share so that both
/// give the same bits: chunk c of a bucket is summed as ((g[c] + g[c+1]) + ...) + g[c-1], rank
/// numbers modulo the number of workers.
constexpr Rank first_summand(int chunk) { return chunk; }

}  // namespace dist
