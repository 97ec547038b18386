// SPDX-License-Identifier: Apache-2.0
// Bus bandwidth over size as plots: one page a contest, rank count and mode.
#pragma once

#include <string>
#include <vector>

#include "bench/all_reduce/contest.h"
#include "bench/plot.h"

namespace dist::bench {

/// Pure: data ("NAME.dat") and script ("NAME.gp") of each page, in pairs. Terminal and output are
/// set by the caller.
std::vector<PlotFile> bandwidth_pages(const std::vector<Measurement>& measurements);

/// Writes and draws them below `directory`. `unavailable` when there is no gnuplot (data and
/// scripts are written all the same).
Status write_bandwidth_plots(const std::vector<Measurement>& measurements,
                             const std::string& directory);

}  // namespace dist::bench
