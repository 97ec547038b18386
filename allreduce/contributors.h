// SPDX-License-Identifier: Apache-2.0
// How many ranks contribute to a step: one word that all ranks sum beside the first bucket, so that
// the mean stays one where some have run out of data.
#pragma once

#include <cstdint>
#include <vector>

#include "allreduce/all_reduce.h"
#include "allreduce/exchange.h"

namespace dist::allreduce {

/// Of one rank; one count at a time. Destroyed half-way it gives the step up.
class Contributors {
 public:
  /// `context` is copied; what it refers to outlives this.
  explicit Contributors(const ExchangeContext& context) : context_(context) {}
  ~Contributors();
  Contributors(const Contributors&) = delete;
  Contributors& operator=(const Contributors&) = delete;

  /// What this rank adds; not to be changed while a count has begun and not ended.
  std::uint64_t& own() { return word_; }

  /// Starts to count over the ranks of `options` (whose data and type do not matter), on a channel
  /// of its own: it does not wait for buckets, nor they for it.
  void count(AllReduceOptions options, std::vector<Ticket> after = {});

  /// Ends the count, if there is one, and notes its outcome in the report.
  Status wait(StepReport* report);

  /// Payload this rank sends for a count; not the step's own.
  Bytes bytes_sent() const { return bytes_sent_; }

 private:
  const ExchangeContext context_;
  std::uint64_t word_ = 1;
  bool counting_ = false;
  Ticket ticket_;
  Bytes bytes_sent_;
};

/// Makes all gradients the neutral element of the sum: x + -0 is x, also where x is -0 itself, so a
/// sum has the bits that it has without this rank.
void contribute_nothing(const Arena& arena);

}  // namespace dist::allreduce
