// SPDX-License-Identifier: Apache-2.0
#include "libdist/compress/codec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "libdist/check.h"

namespace dist {
namespace {

constexpr std::array<std::string_view, 6> kNames = {"none", "f16",   "bf16",
                                                    "int8", "top-k", "one-bit"};

}  // namespace

std::string_view name_of(Compression method) { return kNames[static_cast<std::size_t>(method)]; }

Result<Compression> compression_named(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) {
    return Status::invalid_argument(
        fmt::format("compression '{}' is unknown; valid: {}", name, fmt::join(kNames, ", ")));
  }
  return static_cast<Compression>(found - kNames.begin());
}

std::unique_ptr<Codec> make_codec(Compression method, double top_k) {
  switch (method) {
    case Compression::f16:
    case Compression::bf16:
      return make_half_codec(method);
    case Compression::int8:
      return make_int8_codec();
    case Compression::top_k:
      return make_top_k_codec(top_k);
    case Compression::one_bit:
      return make_one_bit_codec();
    case Compression::none:
      break;
  }
  DIST_ASSERT(false, "without compression there is no codec");
  return nullptr;
}

}  // namespace dist
