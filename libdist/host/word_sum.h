// SPDX-License-Identifier: Apache-2.0
// A few words of every rank, summed: what ranks need to know of each other before anything else.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "libdist/progress.h"

namespace dist {

/// A collective task of all ranks of the transport, over the channel `control`: every rank sends
/// its words to every other one. `words` (the same number on every rank) hold the sums when it has
/// ended; integers, so that the order does not matter. `what` tells it in errors.
std::unique_ptr<Task> make_word_sum(std::span<std::uint64_t> words, std::string what);

}  // namespace dist
