// SPDX-License-Identifier: Apache-2.0
// Plots of a sweep by gnuplot: one page a strategy (images/s bars beside speed-up lines, as in
// Figures 9-14 of document 002) and one overview page with all strategies.
#pragma once

#include <string>
#include <vector>

#include "bench/summary.h"
#include "libdist/status.h"

namespace dist::bench {

/// One file of a plot directory.
struct PlotFile {
  std::string name;
  std::string text;
};

/// Pure: the gnuplot data of one strategy. A line a worker count; missing cells are "NaN".
PlotFile plot_data(const Summary& summary, const std::string& strategy);

/// Pure: the gnuplot script of one strategy's page, or of the overview. The terminal and the output
/// are set by the caller.
PlotFile strategy_page(const Summary& summary, const std::string& strategy);
PlotFile overview_page(const Summary& summary);

/// Writes one file of a plot directory.
Status write_plot_file(const std::string& directory, const PlotFile& file);

/// Lets gnuplot draw a script of `directory` as PNG and SVG, sizes in pixels. `unavailable` when
/// there is no gnuplot.
Status draw_page(const std::string& directory, const PlotFile& page, int width, int height);

/// Writes data, scripts, PNG and SVG below `directory`. `unavailable` when there is no gnuplot
/// (data and scripts are written all the same).
Status write_plots(const Summary& summary, const std::string& directory);

}  // namespace dist::bench
