// SPDX-License-Identifier: Apache-2.0
// Ranks of one host meet in a private directory: one file a rank, and the secret. Every change
// happens under the directory's lock; a rank enters and reads the secret in one such moment, and
// the last rank to leave removes the secret, so all ranks present always hold the same one.
#pragma once

#include <memory>
#include <string>

#include "libdist/transport/rendezvous.h"

namespace dist {

/// The directory that an empty Options::rendezvous means.
std::string default_directory(std::uint64_t job);

/// Enters options.rank. `remove_when_empty`: `path` is a default directory; the last rank to leave
/// also removes it, and those of killed jobs of this user are removed on the way.
Result<std::unique_ptr<Rendezvous>> meet_in_directory(const Options& options,
                                                      const std::string& path,
                                                      bool remove_when_empty,
                                                      const tcp::Endpoint& own, TimePoint deadline);

}  // namespace dist
