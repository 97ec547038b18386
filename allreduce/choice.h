// SPDX-License-Identifier: Apache-2.0
// Which algorithm carries an all-reduce: a table by transport, rank count and size, built in from
// measurements or read from a file that `tune` has written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist::allreduce {

enum class Algorithm : std::uint8_t {
  ring,      ///< reduce-scatter and all-gather round a ring; the order of libdist/plan.h
  doubling,  ///< recursive doubling: fewest rounds
  halving,   ///< recursive halving and doubling
  tree,      ///< binomial reduction, then binomial broadcast
  native,    ///< MPI_Iallreduce
};

std::string_view name_of(Algorithm algorithm);
std::optional<Algorithm> algorithm_of(std::string_view name);
/// "ring, doubling, ..." for messages.
std::string algorithm_names();

/// One line of the table: holds where transport, ranks and bytes are at least these.
struct ChoiceRow {
  std::string transport = "*";  ///< shm, tcp, mpi, or * for any
  int ranks_at_least = 1;
  Bytes bytes_at_least;
  Algorithm algorithm = Algorithm::ring;

  bool operator==(const ChoiceRow&) const = default;
};

/// The last row that fits wins.
using ChoiceTable = std::vector<ChoiceRow>;

/// Measured by `tune` on 2 cores; bench/README.md says how.
ChoiceTable default_choice_table();

/// Lines of `transport ranks_at_least bytes_at_least algorithm`, separated by blanks; # begins a
/// comment. Errors (invalid_argument) begin with `name` and the number of the line. The first row
/// must fit everything ("* 1 0 ..."), so that there is always a choice, and must not be native.
Result<ChoiceTable> parse_choice_table(std::string_view text, std::string_view name);

/// The same from a file. Error invalid_argument where it cannot be read.
Result<ChoiceTable> read_choice_table(const std::string& path);

/// The text that parse_choice_table() reads.
std::string print_choice_table(const ChoiceTable& table);

/// The algorithm for one all-reduce; all ranks of a group choose alike. Rows for `native` are
/// passed over unless native_possible.
Algorithm choose(const ChoiceTable& table, int ranks, Bytes bytes, std::string_view transport,
                 bool native_possible);

}  // namespace dist::allreduce
