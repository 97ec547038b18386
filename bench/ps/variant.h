// SPDX-License-Identifier: Apache-2.0
// A way of exchanging gradients by its name on the command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "libdist/options.h"
#include "libdist/status.h"

namespace dist::bench {

/// POLICY[+EXTRA...]; see variant_grammar().
struct Variant {
  std::string name;      ///< as it was given
  std::string strategy;  ///< for make_strategy()
  int backup_workers = 0;
  std::uint64_t staleness = kUnlimitedStaleness;  ///< of async-ps
  bool staleness_rate = false;
  double delay_compensation = 0;
  std::string compress = "none";
  std::string compress_pull = "none";
  std::optional<double> momentum;  ///< of the optimizer; none: not said
  double rate_factor = 0;          ///< what the learning rate is multiplied by; 0: not said

  /// Whether each gradient is an update of its own, rather than a part of the workers' mean.
  bool on_arrival() const { return strategy == "async-ps" && staleness != 0; }

  /// What the learning rate is multiplied by, so that a sample moves the parameters as far as in a
  /// mean over `workers`: 1 / workers for updates on arrival. 1 with the staleness rate, which
  /// divides by itself.
  double rate_for(int workers) const;

  /// Sets the options that make the difference.
  Status apply(Options* options) const;
};

/// Error (invalid_argument): the name is none; it says which are.
Result<Variant> variant_named(std::string_view name);

/// For --help texts.
std::string_view variant_grammar();

}  // namespace dist::bench
