// SPDX-License-Identifier: Apache-2.0
// Some or all ranks of a world, and the collectives among them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <ranges>
#include <span>
#include <string_view>
#include <type_traits>

#include "libdist/plan.h"
#include "libdist/status.h"
#include "libdist/types.h"
#include "libdist/work.h"

namespace dist {

/// What a group can do together.
enum class Collective : std::uint8_t {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  reduce,
  barrier,
};

/// "all-reduce", "barrier", ...
constexpr std::string_view name_of(Collective collective) {
  constexpr std::array<std::string_view, 6> kNames = {"all-reduce", "reduce-scatter", "all-gather",
                                                      "broadcast",  "reduce",         "barrier"};
  return kNames[static_cast<std::size_t>(collective)];
}

/// Something contiguous and writable whose elements have a DType: a span, a vector, an array.
template <typename R>
concept ElementRange = std::ranges::contiguous_range<R> && std::ranges::sized_range<R> &&
    Element<std::remove_reference_t<std::ranges::range_reference_t<R>>>;

/// Made by make_group(). Ranks here are the members' numbers within the group, 0 .. ranks() - 1.
///
/// Rules, as MPI and NCCL have them:
/// - Every member calls the same functions with the same type, number of elements, reduction and
///   root, in the same order. A blocking call is not met by the other form, start_*.
/// - Groups that share two or more members may be used side by side, but those members start their
///   operations on the groups in one order. Such operations run one after the other; operations of
///   groups that share fewer run at the same time.
/// - Calls on one group, or on groups that share members, come from one thread at a time.
/// - Strategies order their own exchanges: nothing of a group of the same world is in flight
/// between
///   the first ready() of a step and the end of its finish_step().
/// - A failure of one operation is a failure of the World: all later ones report it.
///
/// Data is reduced in place, elements lie on a boundary of their type. All members get the same
/// bits, and for one rank count, size and choice of algorithm the same in every run.
class Group {
 public:
  virtual ~Group() = default;

  /// This member's number in the group.
  virtual Rank rank() const = 0;
  /// How many members there are.
  virtual int ranks() const = 0;
  /// The number in the world of a member.
  virtual Rank world_rank(Rank member) const = 0;

  /// How an all-reduce of so many bytes goes here (blocking): "sweep", "ring", "doubling", ...
  virtual std::string_view algorithm(Bytes bytes) const = 0;

  /// The part of `elems` elements that this member has after reduce_scatter() and brings to
  /// all_gather().
  Range own_chunk(std::uint64_t elems) const { return chunk_range({0, elems}, ranks(), rank()); }

  /// Zeroed memory in which collectives are fastest: members on this host reach it where it lies.
  /// Collective, the same size everywhere; lives as long as the group. Every member uses a buffer
  /// at the same place of it, or none does. Error: resource.
  virtual Result<std::span<std::byte>> allocate(Bytes bytes) = 0;

  /// Every member's elements become the reduction of all members'.
  Status all_reduce(std::span<std::byte> data, DType dtype, Reduction reduction = Reduction::sum) {
    return run({Collective::all_reduce, data, dtype, reduction, 0});
  }
  /// Own_chunk() of the data becomes that part of the reduction; the rest is overwritten. Returns
  /// own_chunk().
  Result<Range> reduce_scatter(std::span<std::byte> data, DType dtype,
                               Reduction reduction = Reduction::sum) {
    DIST_TRY(run({Collective::reduce_scatter, data, dtype, reduction, 0}));
    return own_chunk(data.size() / size_of(dtype));
  }
  /// Every member's own_chunk() goes to all.
  Status all_gather(std::span<std::byte> data, DType dtype) {
    return run({Collective::all_gather, data, dtype, Reduction::sum, 0});
  }
  /// Every member's elements become the root's.
  Status broadcast(std::span<std::byte> data, DType dtype, Rank root = 0) {
    return run({Collective::broadcast, data, dtype, Reduction::sum, root});
  }
  /// The root's elements become the reduction of all; those of the others are overwritten.
  Status reduce(std::span<std::byte> data, DType dtype, Rank root = 0,
                Reduction reduction = Reduction::sum) {
    return run({Collective::reduce, data, dtype, reduction, root});
  }
  /// Returns when every member has called it.
  Status barrier() { return run({Collective::barrier, {}, DType::u8, Reduction::sum, 0}); }

  /// The same, returning at once: the data belongs to the operation until the Work has ended.
  Work start_all_reduce(std::span<std::byte> data, DType dtype,
                        Reduction reduction = Reduction::sum) {
    return start({Collective::all_reduce, data, dtype, reduction, 0});
  }
  /// As reduce_scatter().
  Work start_reduce_scatter(std::span<std::byte> data, DType dtype,
                            Reduction reduction = Reduction::sum) {
    return start({Collective::reduce_scatter, data, dtype, reduction, 0});
  }
  /// As all_gather().
  Work start_all_gather(std::span<std::byte> data, DType dtype) {
    return start({Collective::all_gather, data, dtype, Reduction::sum, 0});
  }
  /// As broadcast().
  Work start_broadcast(std::span<std::byte> data, DType dtype, Rank root = 0) {
    return start({Collective::broadcast, data, dtype, Reduction::sum, root});
  }
  /// As reduce().
  Work start_reduce(std::span<std::byte> data, DType dtype, Rank root = 0,
                    Reduction reduction = Reduction::sum) {
    return start({Collective::reduce, data, dtype, reduction, root});
  }
  /// As barrier().
  Work start_barrier() { return start({Collective::barrier, {}, DType::u8, Reduction::sum, 0}); }

  /// All of them for ranges of a type that has a DType.
  template <ElementRange R>
  Status all_reduce(R&& data, Reduction reduction = Reduction::sum) {
    return all_reduce(bytes(data), dtype<R>(), reduction);
  }
  /// As reduce_scatter() of bytes and a type.
  template <ElementRange R>
  Result<Range> reduce_scatter(R&& data, Reduction reduction = Reduction::sum) {
    return reduce_scatter(bytes(data), dtype<R>(), reduction);
  }
  /// As all_gather() of bytes and a type.
  template <ElementRange R>
  Status all_gather(R&& data) {
    return all_gather(bytes(data), dtype<R>());
  }
  /// As broadcast() of bytes and a type.
  template <ElementRange R>
  Status broadcast(R&& data, Rank root = 0) {
    return broadcast(bytes(data), dtype<R>(), root);
  }
  /// As reduce() of bytes and a type.
  template <ElementRange R>
  Status reduce(R&& data, Rank root = 0, Reduction reduction = Reduction::sum) {
    return reduce(bytes(data), dtype<R>(), root, reduction);
  }
  /// As start_all_reduce() of bytes and a type.
  template <ElementRange R>
  Work start_all_reduce(R&& data, Reduction reduction = Reduction::sum) {
    return start_all_reduce(bytes(data), dtype<R>(), reduction);
  }
  /// As start_reduce_scatter() of bytes and a type.
  template <ElementRange R>
  Work start_reduce_scatter(R&& data, Reduction reduction = Reduction::sum) {
    return start_reduce_scatter(bytes(data), dtype<R>(), reduction);
  }
  /// As start_all_gather() of bytes and a type.
  template <ElementRange R>
  Work start_all_gather(R&& data) {
    return start_all_gather(bytes(data), dtype<R>());
  }
  /// As start_broadcast() of bytes and a type.
  template <ElementRange R>
  Work start_broadcast(R&& data, Rank root = 0) {
    return start_broadcast(bytes(data), dtype<R>(), root);
  }
  /// As start_reduce() of bytes and a type.
  template <ElementRange R>
  Work start_reduce(R&& data, Rank root = 0, Reduction reduction = Reduction::sum) {
    return start_reduce(bytes(data), dtype<R>(), root, reduction);
  }

 protected:
  /// One collective, as a member calls it.
  struct Call {
    Collective collective;      ///< which
    std::span<std::byte> data;  ///< whole elements; in flight it belongs to the operation
    DType dtype;                ///< of the data
    Reduction reduction;        ///< where elements are reduced
    Rank root;                  ///< of broadcast and reduce
  };
  /// Blocks until it has ended.
  virtual Status run(const Call& call) = 0;
  /// Returns at once.
  virtual Work start(const Call& call) = 0;

 private:
  template <typename R>
  static std::span<std::byte> bytes(R& data) {
    return std::as_writable_bytes(std::span(std::ranges::data(data), std::ranges::size(data)));
  }
  template <typename R>
  static constexpr DType dtype() {
    return dtype_of<std::remove_reference_t<std::ranges::range_reference_t<R>>>;
  }
};

}  // namespace dist
