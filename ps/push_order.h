// SPDX-License-Identifier: Apache-2.0
// In which order a worker's pieces go to a server. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>

namespace dist::ps {

/// The pieces of a step that wait for their turn on one way. The highest one goes first: it holds
/// the parameters that the next forward pass needs first. But a piece is overtaken by at most
/// `may_overtake` others.
///
/// That bound is what keeps synchronous workers from waiting in a circle. A server holds a worker's
/// gradients of the pieces that others have not pushed yet, within a quota; let q be the number of
/// pieces that fit. Of all pieces that somebody has still to push, the lowest, m, finds room: who
/// has not pushed m has pushed at most `may_overtake` pieces above m, and all below m are applied.
/// So with may_overtake < q every piece is pushed by everybody in the end.
class PushOrder {
 public:
  explicit PushOrder(std::size_t may_overtake) : may_overtake_(may_overtake) {}

  /// Pieces come in ascending order.
  void add(std::uint32_t piece);

  bool empty() const { return waiting_.empty(); }

  /// The one whose turn it is. Only where not empty().
  std::uint32_t take();

 private:
  const std::size_t may_overtake_;
  std::deque<std::uint32_t> waiting_;  // ascending
  std::set<std::uint32_t> ahead_;      // gone, although a lower one waits
};

}  // namespace dist::ps
