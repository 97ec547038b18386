// SPDX-License-Identifier: Apache-2.0
// The arena: all parameters and all gradients of one replica, each in one allocation with the same
// layout, in backward order. Gradients are born in it; nothing is packed.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "libdist/memory/device.h"
#include "libdist/memory/mapping.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

/// A parameter tensor as the library sees it.
struct Parameter {
  std::string name;          ///< unique in its arena
  Elems elements;            ///< of a tensor of any shape
  DType dtype = DType::f32;  ///< f32 or f64, the same for all of an arena
  bool decays = true;  ///< takes part in weight decay; biases and the gains and offsets of norms
                       ///< usually do not

  /// Memory of the program's own for the values, contiguous, that outlives the strategy; nullptr:
  /// the arena's. The strategy copies what a step changed back to there before await() or
  /// finish_step() return. Memory of the arena is never copied.
  void* own_parameters = nullptr;
  /// The same for the gradient, which is copied from there in ready().
  void* own_gradients = nullptr;

  /// Whether any of its memory is the program's.
  bool borrowed() const { return own_parameters != nullptr || own_gradients != nullptr; }
};

/// A parameter whose values and gradients lie in memory of the program's own, of equal sizes.
template <typename T>
Parameter borrow(const std::string& name, std::span<T> parameters, std::span<T> gradients) {
  DIST_ASSERT(parameters.size() == gradients.size(),
              "borrow(): parameters and gradients differ in size");
  return {.name = name,
          .elements = Elems(parameters.size()),
          .dtype = dtype_of<T>,
          .own_parameters = parameters.data(),
          .own_gradients = gradients.data()};
}

/// How an arena is mapped.
struct ArenaOptions {
  /// 0: ordinary memory. Otherwise all of the arena's bytes are mapped onto one window of this many
  /// bytes (rounded up to pages), so that a replay of 16 large replicas fits in a small machine.
  /// The values are then meaningless; the bytes moved are real.
  Bytes alias_window{};

  /// Where the arena lies; nullptr: in host memory. The device outlives the arena.
  Device* device = nullptr;
  /// On a device: the stream in whose order the program writes gradients and reads parameters.
  Stream stream{};
};

/// Owns the memory; movable, and addresses stay. Not thread-safe, but disjoint parts may be written
/// by several threads.
class Arena {
 public:
  /// Lays out `parameters` in the given order, which should be backward order: the order in which
  /// gradients become ready. All must have the same dtype. Memory is zeroed. Errors: no parameters,
  /// mixed types, duplicate names, not enough memory; on a device also borrowed parameters and an
  /// alias window.
  static Result<Arena> create(std::vector<Parameter> parameters, ArenaOptions options = {});

  /// How many parameters it holds; their numbers are 0 .. parameter_count() - 1.
  std::size_t parameter_count() const { return parameters_.size(); }
  /// As given to create().
  const Parameter& parameter(std::size_t index) const { return parameters_[index]; }
  /// The type of all parameters and gradients.
  DType dtype() const { return dtype_; }

  /// ArenaOptions::alias_window: what mirrors this arena's elements (optimizer state, a server's
  /// copies) maps its memory in the same way.
  Bytes alias_window() const { return alias_window_; }

  /// Elements of the whole arena, alignment gaps included. Gaps are zero and stay zero.
  Elems elems() const { return elems_; }

  /// Where a parameter lies; ranges are ascending, disjoint, and begin on 64-byte boundaries.
  Range range(std::size_t index) const { return ranges_[index]; }

  /// nullptr: the arena lies in host memory.
  Device* device() const { return device_; }
  /// ArenaOptions::stream.
  Stream stream() const { return stream_; }

  /// Raw bytes of a range of elements. Valid as long as the arena lives, also after it was moved.
  /// On a device they are the device's: only its streams may touch them.
  std::span<std::byte> parameters(Range range) const { return bytes(parameter_bytes_, range); }
  /// The same of the gradients.
  std::span<std::byte> gradients(Range range) const { return bytes(gradient_bytes_, range); }

  /// The memory itself, for exchanges that let ranks of one host reach each other's arenas in
  /// place. On a device nothing is mapped, and the second pair is in use.
  Mapping& parameter_memory() { return parameter_memory_; }
  /// The same of the gradients.
  const Mapping& gradient_memory() const { return gradient_memory_; }
  /// Parameters on a device; empty on the host.
  const DeviceMemory& device_parameters() const { return device_parameters_; }
  /// The same of the gradients.
  const DeviceMemory& device_gradients() const { return device_gradients_; }

  /// Typed views of one parameter; T must match dtype().
  template <typename T>
  std::span<T> parameter_span(std::size_t index) const {
    return typed<T>(parameters(range(index)));
  }
  /// The same of its gradient.
  template <typename T>
  std::span<T> gradient_span(std::size_t index) const {
    return typed<T>(gradients(range(index)));
  }

 private:
  Arena() = default;
  Status map_on_host(Bytes alias_window);
  Status allocate_on(Device& device);
  std::span<std::byte> bytes(std::span<std::byte> memory, Range range) const;
  template <typename T>
  std::span<T> typed(std::span<std::byte> raw) const {
    DIST_ASSERT(dtype_of<T> == dtype_, "the arena holds another element type");
    return {reinterpret_cast<T*>(raw.data()), raw.size() / sizeof(T)};
  }

  std::vector<Parameter> parameters_;
  std::vector<Range> ranges_;
  DType dtype_ = DType::f32;
  Elems elems_;
  Bytes alias_window_;
  Device* device_ = nullptr;
  Stream stream_;
  Mapping parameter_memory_;
  Mapping gradient_memory_;
  DeviceMemory device_parameters_;
  DeviceMemory device_gradients_;
  std::span<std::byte> parameter_bytes_;  // of whichever there is
  std::span<std::byte> gradient_bytes_;
};

}  // namespace dist
