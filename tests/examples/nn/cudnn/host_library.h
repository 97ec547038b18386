// SPDX-License-Identifier: Apache-2.0
// The Library without a GPU: convolutions and products as plain loops that a FakeDevice's streams
// run, and recordings that call again what was recorded.
#pragma once

#include <memory>

#include "examples/nn/cudnn/library.h"

namespace nn::cudnn::test {

struct HostLibraryOptions {
  Arithmetic arithmetic;
  bool records = true;  ///< false: record() refuses
};

/// Convolutions and products that were made, and work that was recorded and launched.
struct HostLibraryCounts {
  int made = 0;
  int recorded = 0;
  int launched = 0;
};

/// `counts` outlives the library.
std::unique_ptr<Library> make_host_library(const HostLibraryOptions& options,
                                           HostLibraryCounts* counts);

}  // namespace nn::cudnn::test
