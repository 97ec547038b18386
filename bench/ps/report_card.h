// SPDX-License-Identifier: Apache-2.0
// Trainings side by side: what each variant needed to learn as much as the first one. Pure, but
// for write_pages().
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/plot.h"
#include "bench/ps/curve.h"
#include "bench/ps/schooling.h"

namespace dist::bench {

/// What a variant needed to reach a loss: see samples_to_reach(). Nothing where it did not.
struct Mark {
  double loss = 0;
  std::optional<double> samples, seconds;              ///< of the mean curve
  std::optional<double> samples_ratio, seconds_ratio;  ///< to those of the reference
  double samples_ratio_error = 0;  ///< standard error over the seeds that both have reached
};

/// A variant with one seed.
struct Term {
  std::string variant;
  std::uint64_t seed = 0;
  Schooling schooling;
  Curve curve;
};

/// A variant over all its seeds.
struct Grade {
  std::string variant;
  Curve curve;                      ///< mean over the seeds
  Schooling mean;                   ///< of the numbers; no lessons
  double loss = 0, loss_error = 0;  ///< of the last window; standard error over the seeds
  double accuracy = 0;
  double seconds = 0;
  double bytes = 1;         ///< sent, of the reference's
  std::vector<Mark> marks;  ///< as they were given
};

/// In the order in which variants first appear; the first is the reference. Every curve has a
/// point; `losses` are the marks.
std::vector<Grade> grade(const std::vector<Term>& terms, const std::vector<double>& losses);

/// Markdown.
std::string format_grades(const std::vector<Grade>& grades);

/// record="ps_convergence" (a term) and record="ps_convergence_grade"; curves have at most
/// `points`.
nlohmann::json record_of(const Term& term, std::size_t points);
nlohmann::json record_of(const Grade& grade);

/// Data and script of a page with four panels: loss and accuracy by samples and by time; `time`
/// says what the time is. Terminal and output are set by the caller.
std::vector<PlotFile> learning_page(const std::string& name, const std::string& title,
                                    const std::string& time, const std::vector<Grade>& grades);

/// Writes and draws it. `unavailable` when there is no gnuplot (data and script are written).
Status write_page(const std::string& directory, const std::vector<PlotFile>& page);

}  // namespace dist::bench
