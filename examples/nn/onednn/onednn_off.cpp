// SPDX-License-Identifier: Apache-2.0
// Linked in place of the oneDNN backend where oneDNN was not found.
#include "examples/nn/backends.h"

namespace nn {

dist::Result<std::unique_ptr<Network>> make_onednn_network(const Graph&, const NetworkOptions&) {
  return dist::Status::unavailable(
      "backend onednn is not in this build; install libdnnl-dev, configure again, or use --backend "
      "ref or replay");
}

}  // namespace nn
