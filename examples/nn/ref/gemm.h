// SPDX-License-Identifier: Apache-2.0
// C = A * B for the reference layers. A, B and C are given as functions of rows, so that
// convolutions never unfold their input in memory. Cache-blocked and vectorisable; the order of
// every sum is fixed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

namespace nn::ref {

/// A [m, k] by B [k, n].
///   a_row(i, k0, count, T* out)  writes A[i, k0 .. k0 + count)
///   b_row(l, n0, count, T* out)  writes B[l, n0 .. n0 + count)
///   sink(i, n0, count, const T* values, bool add)  stores C[i, n0 .. n0 + count), adding to what
///   an earlier call of this product stored when `add`.
template <typename T, typename ARow, typename BRow, typename Sink>
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, const ARow& a_row, const BRow& b_row,
          const Sink& sink) {
  constexpr std::int64_t kRows = 4;
  constexpr std::int64_t kColumns = 32 / sizeof(T);
  constexpr std::int64_t kDepth = 256;
  constexpr std::int64_t kWidth = 1024;
  const std::int64_t depth = std::min(k, kDepth);
  const std::int64_t width = std::min((n + kColumns - 1) / kColumns * kColumns, kWidth);
  const auto a_panel = std::make_unique_for_overwrite<T[]>(depth * kRows);
  const auto b_block = std::make_unique_for_overwrite<T[]>(depth * width);
  const auto row = std::make_unique<T[]>(std::max(depth, width));

  for (std::int64_t n0 = 0; n0 < n; n0 += width) {
    const std::int64_t n_count = std::min(width, n - n0);
    const std::int64_t n_panels = (n_count + kColumns - 1) / kColumns;
    for (std::int64_t k0 = 0; k0 < k; k0 += depth) {
      const std::int64_t k_count = std::min(depth, k - k0);
      for (std::int64_t l = 0; l < k_count; ++l) {
        b_row(k0 + l, n0, n_count, row.get());
        std::fill(row.get() + n_count, row.get() + n_panels * kColumns, T(0));
        for (std::int64_t p = 0; p < n_panels; ++p) {
          std::copy_n(row.get() + p * kColumns, kColumns,
                      b_block.get() + (p * k_count + l) * kColumns);
        }
      }
      for (std::int64_t i0 = 0; i0 < m; i0 += kRows) {
        const std::int64_t i_count = std::min(kRows, m - i0);
        for (std::int64_t r = 0; r < kRows; ++r) {
          if (r < i_count) {
            a_row(i0 + r, k0, k_count, row.get());
          } else {
            std::fill_n(row.get(), k_count, T(0));
          }
          for (std::int64_t l = 0; l < k_count; ++l) a_panel[l * kRows + r] = row[l];
        }
        for (std::int64_t p = 0; p < n_panels; ++p) {
          T sums[kRows][kColumns] = {};
          const T* a = a_panel.get();
          const T* b = b_block.get() + p * k_count * kColumns;
          for (std::int64_t l = 0; l < k_count; ++l, a += kRows, b += kColumns) {
            for (std::int64_t r = 0; r < kRows; ++r) {
              for (std::int64_t c = 0; c < kColumns; ++c) sums[r][c] += a[r] * b[c];
            }
          }
          const std::int64_t count = std::min(kColumns, n_count - p * kColumns);
          for (std::int64_t r = 0; r < i_count; ++r) {
            sink(i0 + r, n0 + p * kColumns, count, sums[r], k0 > 0);
          }
        }
      }
    }
  }
}

}  // namespace nn::ref
