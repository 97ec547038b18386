// SPDX-License-Identifier: Apache-2.0
// A sweep as a Markdown table that also reads well on a terminal.
#pragma once

#include <string>
#include <vector>

#include "bench/summary.h"

namespace dist::bench {

/// Rows of cells -> Markdown with padded columns; the first row is the head. Columns from
/// `first_number` on are aligned to the right.
std::string markdown_table(const std::vector<std::vector<std::string>>& rows,
                           std::size_t first_number);

/// "measured on 2 x Xeon ..., 23 GiB", or "emulated: ..." with the accelerator that was assumed.
std::string describe_kind(const Summary& summary);

/// One line about the machine, the kernel and the versions.
std::string describe_machine(const nlohmann::json& provenance);

/// The table alone, for the terminal.
std::string format_rows(const Summary& summary);

/// The whole of table.md: title, table, what the columns mean, provenance, failed runs.
std::string format_table(const Summary& summary, const std::vector<std::string>& failures);

}  // namespace dist::bench
