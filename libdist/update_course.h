// SPDX-License-Identifier: Apache-2.0
// What an update does in which step and to which of its elements, before any arithmetic on them:
// shared by Updater and DeviceUpdater.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "libdist/types.h"
#include "libdist/update_norms.h"
#include "libdist/update_scalars.h"

namespace dist {

struct Update;

/// Which parameters an updater's elements belong to.
struct UpdateLayout {
  /// Elements of one parameter.
  struct Part {
    std::uint64_t begin = 0;    ///< the first of its elements; it ends where the next one begins
    std::size_t parameter = 0;  ///< in the arena
    bool decays = true;         ///< Parameter::decays
  };

  Elems elems;                 ///< of all parts
  std::vector<Part> parts{};   ///< ascending from element 0; none: one parameter
  std::size_t parameters = 1;  ///< in the arena
};

/// What is to be done to which elements in which step; immutable.
class UpdateCourse {
 public:
  /// Neighbours that are updated alike become one part, unless squares are taken `by_parameter`.
  UpdateCourse(const Update& update, const UpdateLayout& layout, bool by_parameter);

  /// Ascending, the first from element 0.
  const std::vector<UpdateLayout::Part>& parts() const { return parts_; }
  /// UpdateLayout::parameters.
  std::size_t parameters() const { return parameters_; }

  /// Calls body(index of the part, Range) for what each part has of [first, first + elems).
  template <typename Body>
  void for_each_part(std::uint64_t first, std::uint64_t elems, const Body& body) const;

  /// The scalars of the elements of a part with weight decay, of the step that `step` others came
  /// before, as they are without norms.
  UpdateScalars scalars(const Update& update, std::uint64_t step, double gradient_scale) const;

 private:
  std::vector<UpdateLayout::Part> parts_;
  std::size_t parameters_;
  std::vector<double> momentum_products_;  // Nadam's U(0), U(1), ..., until they make no difference
};

/// The norms that an update asks for.
NormScaling norm_scaling(const Update& update);

template <typename Body>
void UpdateCourse::for_each_part(std::uint64_t first, std::uint64_t elems, const Body& body) const {
  const auto end = first + elems;
  auto part = std::upper_bound(parts_.begin(), parts_.end(), first,
                               [](auto at, const auto& other) { return at < other.begin; });
  for (--part; first < end; ++part) {
    const auto next = part + 1;
    const auto until = next == parts_.end() ? end : std::min(end, next->begin);
    body(static_cast<std::size_t>(part - parts_.begin()), Range{first, until});
    first = until;
  }
}

}  // namespace dist
