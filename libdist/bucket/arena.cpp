// SPDX-License-Identifier: Apache-2.0
#include "libdist/bucket/arena.h"

#include <fmt/format.h>

#include <set>

namespace dist {
namespace {

constexpr std::uint64_t kAlignmentBytes = 64;
// Far beyond any memory, and far enough below 2^64 that sums of counts cannot wrap.
constexpr std::uint64_t kMostElems = 1ull << 56;

std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

Result<Arena> Arena::create(std::vector<Parameter> parameters, ArenaOptions options) {
  if (parameters.empty()) return Status::invalid_argument("arena: there are no parameters");
  Arena arena;
  arena.dtype_ = parameters.front().dtype;
  if (!can_train(arena.dtype_)) {
    return Status::invalid_argument(
        fmt::format("arena: parameter '{}' is {}; parameters are f32 or f64",
                    parameters.front().name, name_of(arena.dtype_)));
  }
  const auto alignment_elems = kAlignmentBytes / size_of(arena.dtype_);
  std::set<std::string> names;
  std::uint64_t next = 0;
  for (const Parameter& parameter : parameters) {
    if (parameter.dtype != arena.dtype_) {
      return Status::invalid_argument(fmt::format(
          "arena: parameter '{}' is {}, but '{}' is {}; one arena holds one type", parameter.name,
          name_of(parameter.dtype), parameters.front().name, name_of(arena.dtype_)));
    }
    if (!names.insert(parameter.name).second) {
      return Status::invalid_argument(
          fmt::format("arena: two parameters are called '{}'", parameter.name));
    }
    if (parameter.elements.value > kMostElems - next) {
      return Status::resource(
          fmt::format("arena: with parameter '{}' of {} elements it has more than {}",
                      parameter.name, parameter.elements.value, kMostElems));
    }
    arena.ranges_.push_back({next, next + parameter.elements.value});
    next = round_up(next + parameter.elements.value, alignment_elems);
  }
  arena.elems_ = Elems(next);
  arena.parameters_ = std::move(parameters);

  arena.stream_ = options.stream;
  if (options.device == nullptr) {
    DIST_TRY(arena.map_on_host(options.alias_window));
  } else {
    if (options.alias_window.value != 0) {
      return Status::invalid_argument(
          "arena: an alias window is for host memory, not for a device");
    }
    DIST_TRY(arena.allocate_on(*options.device));
  }
  return arena;
}

Status Arena::map_on_host(Bytes alias_window) {
  const auto arena_bytes = bytes_of(elems_, dtype_);
  alias_window_ = alias_window;
  const auto map = [&] {
    return alias_window.value == 0 ? Mapping::map_shareable(arena_bytes)
                                   : Mapping::map(arena_bytes, alias_window);
  };
  auto parameter_memory = map();
  DIST_TRY_BECAUSE(parameter_memory, "arena");
  auto gradient_memory = map();
  DIST_TRY_BECAUSE(gradient_memory, "arena");
  parameter_memory_ = *std::move(parameter_memory);
  gradient_memory_ = *std::move(gradient_memory);
  parameter_bytes_ = parameter_memory_.bytes();
  gradient_bytes_ = gradient_memory_.bytes();
  return {};
}

Status Arena::allocate_on(Device& device) {
  for (const Parameter& parameter : parameters_) {
    if (!parameter.borrowed()) continue;
    return Status::invalid_argument(
        fmt::format("arena: parameter '{}' lies in memory of the program's own, which an arena on "
                    "a device does not copy",
                    parameter.name));
  }
  const auto arena_bytes = bytes_of(elems_, dtype_).value;
  // CUDA shares the block that an allocation lies in: whole blocks share nothing else.
  constexpr std::uint64_t kBlockBytes = 2u << 20;
  const Bytes blocks((arena_bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes);
  device_ = &device;
  auto parameter_memory = device.allocate(blocks, MemoryKind::device);
  DIST_TRY_BECAUSE(parameter_memory, "arena");
  auto gradient_memory = device.allocate(blocks, MemoryKind::device);
  DIST_TRY_BECAUSE(gradient_memory, "arena");
  device_parameters_ = *std::move(parameter_memory);
  device_gradients_ = *std::move(gradient_memory);
  parameter_bytes_ = device_parameters_.bytes().first(arena_bytes);
  gradient_bytes_ = device_gradients_.bytes().first(arena_bytes);
  return {};
}

std::span<std::byte> Arena::bytes(std::span<std::byte> memory, Range range) const {
  DIST_ASSERT(range.begin <= range.end && range.end <= elems_.value, "range outside the arena");
  return memory.subspan(range.begin * size_of(dtype_), range.elems() * size_of(dtype_));
}

}  // namespace dist
