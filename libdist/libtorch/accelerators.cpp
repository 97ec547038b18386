// SPDX-License-Identifier: Apache-2.0
#include "libdist/libtorch/accelerators.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <utility>

namespace dist::libtorch {
namespace {

c10::Stream current_stream(torch::Device place) {
  return c10::impl::VirtualGuardImpl(place.type()).getStream(place);
}

// A stream's name says nothing of its handle, but the default one has none.
Result<Accelerator> find_gpu(torch::Device place) {
  if (!place.is_cuda()) {
    return Status::unavailable(
        "this is neither host memory nor a GPU of CUDA; AttachOptions::accelerator can tell what "
        "it is");
  }
  if (current_stream(place).id() != 0) {
    return Status::invalid_argument(
        "LibTorch computes on another stream than CUDA's default one; name it in "
        "AttachOptions::accelerator");
  }
  auto opened = open_device(place.index());
  DIST_TRY(opened);
  return Accelerator{*std::move(opened), {}};
}

}  // namespace

Accelerators::Accelerators(std::function<Result<Accelerator>(torch::Device)> find)
    : find_(find ? std::move(find) : find_gpu) {}

Result<Accelerator> Accelerators::of(torch::Device place) {
  if (place.is_cpu()) return Accelerator{};
  for (const Known& known : known_) {
    if (known.place == place) return known.accelerator;
  }
  auto found = find_(place);
  DIST_TRY(found);
  known_.push_back({place, current_stream(place), *found});
  return found;
}

Status Accelerators::check_streams() const {
  for (const Known& known : known_) {
    if (current_stream(known.place) == known.stream) continue;
    return Status::invalid_argument(fmt::format(
        "libtorch: on {} the current stream is another than at attach(), and the exchange is "
        "ordered with that one; keep it, or name yours in AttachOptions::accelerator and attach() "
        "while it is current",
        known.place.str()));
  }
  return {};
}

}  // namespace dist::libtorch
