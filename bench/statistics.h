// SPDX-License-Identifier: Apache-2.0
// The few statistics the tables use.
#pragma once

#include <span>
#include <vector>

namespace dist::bench {

/// Arithmetic mean; 0 for no values.
double mean(std::span<const double> values);

/// The middle value, or the mean of the middle two; values must not be empty.
double median(std::vector<double> values);

/// Standard error of the mean: sample standard deviation (n - 1) over sqrt(n). 0 below two values.
double standard_error(std::span<const double> values);

/// Standard error of a / b when both carry one and are independent (first order).
double ratio_error(double a, double a_error, double b, double b_error);

}  // namespace dist::bench
