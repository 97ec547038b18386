// SPDX-License-Identifier: Apache-2.0
// The one place that knows backends by name.
#include "examples/nn/backends.h"

#include <fmt/format.h>

namespace nn {

std::string_view backend_names() { return "ref, onednn, cudnn, replay"; }

dist::Result<std::unique_ptr<Network>> make_network(std::string_view backend, const Graph& graph,
                                                    const NetworkOptions& options) {
  constexpr std::int64_t kLargestBatch = std::int64_t{1} << 24;  // keeps byte counts in 64 bits
  if (options.batch < 1 || options.batch > kLargestBatch) {
    return dist::Status::invalid_argument(
        fmt::format("batch is {}; it must be in [1, {}]", options.batch, kLargestBatch));
  }
  if (!dist::can_train(options.dtype)) {
    return dist::Status::invalid_argument(fmt::format(
        "backend {}: parameters are f32 or f64, not {}", backend, dist::name_of(options.dtype)));
  }
  if (backend == "ref") return make_ref_network(graph, options);
  if (backend == "onednn") return make_onednn_network(graph, options);
  if (backend == "cudnn") return make_cudnn_network(graph, options);
  if (backend == "replay") return make_replay_network(graph, options);
  return dist::Status::invalid_argument(
      fmt::format("unknown backend '{}'; valid: {}", backend, backend_names()));
}

}  // namespace nn
