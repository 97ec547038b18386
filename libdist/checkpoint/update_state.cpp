// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/update_state.h"

#include <vector>

namespace dist::checkpoint {

void add_range(Snapshot* snapshot, Range range, std::uint64_t version,
               std::span<const std::byte> parameters, const Updater& updater, std::uint64_t first) {
  std::vector<std::span<const std::byte>> arrays = {parameters};
  for (std::size_t a = 0; a < updater.state_arrays(); ++a) {
    arrays.push_back(updater.state(a, {first, first + range.elems()}));
  }
  snapshot->add(range, version, arrays);
}

Status load_state(const Source& source, Range range, Updater* updater, std::uint64_t first) {
  for (std::size_t a = 0; a < updater->state_arrays(); ++a) {
    const auto state = updater->state(a, {first, first + range.elems()});
    DIST_TRY_BECAUSE(source.read(range, a + 1, state), "resume");
  }
  return {};
}

}  // namespace dist::checkpoint
