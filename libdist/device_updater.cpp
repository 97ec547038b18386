// SPDX-License-Identifier: Apache-2.0
#include "libdist/device_updater.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "libdist/check.h"
#include "libdist/memory/device_wait.h"

namespace dist {
namespace {

// With weight decay, and without.
constexpr std::size_t kBases = 2;
constexpr std::uint64_t kAlignment = 256;

constexpr std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Where the numbers of an updater lie in one allocation: offsets in bytes.
struct Numbers {
  std::uint64_t scaled, gate, squares, parts, end;

  Numbers(std::uint64_t part_count, std::uint64_t square_count)
      : scaled(aligned(kBases * sizeof(UpdateScalars))),
        gate(scaled + aligned(part_count * sizeof(UpdateScalars))),
        squares(gate + aligned(sizeof(double))),
        parts(squares + aligned(square_count * sizeof(double))),
        end(parts + aligned(part_count * sizeof(NormPart))) {}
};

}  // namespace

DeviceUpdater::DeviceUpdater(Device& device, Update update, const UpdateLayout& layout, DType dtype,
                             Duration timeout)
    : device_(&device),
      update_(update),
      timeout_(timeout),
      elems_(layout.elems),
      // To see whether all is finite, squares need no order: parts may join.
      course_(update_, layout, update_.clip_norm > 0 || norm_scaling(update_).by_parameter),
      dtype_(dtype) {}

DeviceUpdater& DeviceUpdater::operator=(DeviceUpdater&& other) noexcept {
  DeviceUpdater moved(std::move(other));
  std::swap(device_, moved.device_);
  std::swap(update_, moved.update_);
  std::swap(timeout_, moved.timeout_);
  std::swap(contributors_, moved.contributors_);
  std::swap(elems_, moved.elems_);
  std::swap(course_, moved.course_);
  std::swap(dtype_, moved.dtype_);
  std::swap(states_, moved.states_);
  std::swap(numbers_, moved.numbers_);
  std::swap(pinned_, moved.pinned_);
  std::swap(slots_, moved.slots_);
  std::swap(next_slot_, moved.next_slot_);
  return *this;
}

DeviceUpdater::~DeviceUpdater() {
  for (Slot& slot : slots_) {
    if (slot.read && !pinned_.bytes().empty()) device_->release_event(*slot.read);
  }
}

Result<DeviceUpdater> DeviceUpdater::create(Device& device, Update update,
                                            const UpdateLayout& layout, DType dtype,
                                            Duration timeout) {
  if (!can_train(dtype)) {
    return Status::invalid_argument(
        fmt::format("update: parameters are f32 or f64, not {}", name_of(dtype)));
  }
  DIST_TRY(validate(update));
  DeviceUpdater updater(device, update, layout, dtype, timeout);
  DIST_TRY_BECAUSE(updater.allocate(), "optimizer state");
  return updater;
}

Status DeviceUpdater::allocate() {
  for (std::size_t k = 0; k < state_arrays(); ++k) {
    auto state = device_->allocate(bytes_of(elems_, dtype_), MemoryKind::device);
    DIST_TRY(state);
    states_[k] = *std::move(state);
  }
  const auto& parts = course_.parts();
  const Numbers numbers(parts.size(), 2 * course_.parameters());
  auto memory = device_->allocate(Bytes(numbers.end), MemoryKind::device);
  DIST_TRY(memory);
  const auto slot_bytes = aligned(kBases * sizeof(UpdateScalars));
  const auto part_bytes = parts.size() * sizeof(NormPart);
  auto pinned =
      device_->allocate(Bytes(slots_.size() * slot_bytes + part_bytes), MemoryKind::pinned);
  DIST_TRY(pinned);
  numbers_ = *std::move(memory);
  pinned_ = *std::move(pinned);
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    slots_[s].bytes = pinned_.bytes().subspan(s * slot_bytes, kBases * sizeof(UpdateScalars));
  }
  // The parts never change: they travel once.
  const auto from = pinned_.bytes().subspan(slots_.size() * slot_bytes, part_bytes);
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const NormPart part{static_cast<std::uint32_t>(parts[p].parameter), parts[p].decays ? 1u : 0u};
    std::memcpy(from.data() + p * sizeof(part), &part, sizeof(part));
  }
  auto stream = device_->make_stream(StreamPriority::normal);
  DIST_TRY(stream);
  DIST_TRY(device_->copy(*stream, numbers_.bytes().subspan(numbers.parts, part_bytes), from));
  return device_->synchronize(*stream);
}

template <typename T>
T* DeviceUpdater::at(std::uint64_t offset) const {
  return reinterpret_cast<T*>(numbers_.bytes().data() + offset);
}

bool DeviceUpdater::settles() const { return needs_norms() || contributors_ != nullptr; }

std::span<double> DeviceUpdater::squares() const {
  if (!needs_norms()) return {};
  const Numbers numbers(course_.parts().size(), 2 * course_.parameters());
  return {at<double>(numbers.squares), 2 * course_.parameters()};
}

const double* DeviceUpdater::gate() const {
  if (!settles()) return nullptr;
  const Numbers numbers(course_.parts().size(), 2 * course_.parameters());
  return at<double>(numbers.gate);
}

NormInputs DeviceUpdater::inputs() const {
  const Numbers numbers(course_.parts().size(), 2 * course_.parameters());
  return {.bases = at<UpdateScalars>(0),
          .parts = at<NormPart>(numbers.parts),
          .part_count = course_.parts().size(),
          .squares = needs_norms() ? squares().data() : nullptr,
          .parameters = course_.parameters(),
          .contributors = contributors_};
}

Status DeviceUpdater::wait_for(Slot& slot) {
  if (!slot.read) return {};
  DIST_TRY_BECAUSE(wait_for_mark(*device_, *slot.read, timeout_), "the step before last");
  device_->release_event(*std::exchange(slot.read, std::nullopt));
  return {};
}

Status DeviceUpdater::begin_step(Stream stream, const UpdateStep& step,
                                 const double* contributors) {
  contributors_ = contributors;
  Slot& slot = slots_[next_slot_];
  DIST_TRY_BECAUSE(wait_for(slot), "update");
  next_slot_ = (next_slot_ + 1) % slots_.size();
  std::array<UpdateScalars, kBases> bases;
  bases.fill(course_.scalars(update_, step.step, step.gradient_scale));
  bases[1].decay = 0;
  std::memcpy(slot.bytes.data(), bases.data(), sizeof(bases));
  DIST_TRY_BECAUSE(device_->copy(stream, numbers_.bytes().first(sizeof(bases)), slot.bytes),
                   "update");
  auto read = device_->record(stream);
  DIST_TRY_BECAUSE(read, "update");
  slot.read = *read;
  if (!needs_norms()) return {};
  return device_->fill(stream, DType::f64, std::as_writable_bytes(squares()), 0).because("update");
}

std::span<const std::byte> DeviceUpdater::cut(std::span<const std::byte> bytes, std::uint64_t first,
                                              Range range) const {
  const auto size = size_of(dtype_);
  return bytes.subspan((range.begin - first) * size, range.elems() * size);
}

Status DeviceUpdater::add_squares(Stream stream, std::span<const std::byte> parameters,
                                  std::span<const std::byte> gradients, std::uint64_t first) {
  DIST_ASSERT(parameters.size() == gradients.size(), "update: the spans differ in size");
  if (!needs_norms()) return {};
  const bool by_parameter = norm_scaling(update_).by_parameter;
  double* const sums = squares().data();
  Status status;
  const auto add = [&](std::span<const std::byte> values, Range range, double* sum) {
    if (status.ok()) status = device_->add_squares(stream, dtype_, cut(values, first, range), sum);
  };
  course_.for_each_part(first, gradients.size() / size_of(dtype_),
                        [&](std::size_t index, Range range) {
                          const auto parameter = course_.parts()[index].parameter;
                          add(gradients, range, sums + parameter);
                          if (by_parameter)
                            add(parameters, range, sums + course_.parameters() + parameter);
                        });
  return status.because("update");
}

Status DeviceUpdater::settle(Stream stream) {
  if (!settles()) return {};
  const Numbers numbers(course_.parts().size(), 2 * course_.parameters());
  return device_
      ->scale_by_norms(stream, norm_scaling(update_), inputs(), at<UpdateScalars>(numbers.scaled),
                       at<double>(numbers.gate))
      .because("update");
}

Status DeviceUpdater::apply(Stream stream, std::span<std::byte> parameters,
                            std::span<const std::byte> gradients, std::uint64_t first) {
  const std::array<std::span<const std::byte>, 1> one = {gradients};
  return apply_sum(stream, parameters, one, first);
}

Status DeviceUpdater::apply_sum(Stream stream, std::span<std::byte> parameters,
                                std::span<const std::span<const std::byte>> gradients,
                                std::uint64_t first) {
  const auto size = size_of(dtype_);
  const auto elems = parameters.size() / size;
  DIST_ASSERT(updates_parameters(), "update: the rule mean-gradient has none");
  DIST_ASSERT(!gradients.empty() && gradients.size() <= kMostDeviceSources,
              "update: no gradient, or too many");
  DIST_ASSERT(parameters.size() % size == 0, "update: not whole elements");
  DIST_ASSERT(first <= elems_.value && elems <= elems_.value - first,
              "update: the range lies outside the updater's elements");
  for (const auto& gradient : gradients) {
    DIST_ASSERT(parameters.size() == gradient.size(), "update: the spans differ in size");
  }
  const Numbers numbers(course_.parts().size(), 2 * course_.parameters());
  const UpdateScalars* const bases = at<UpdateScalars>(0);
  const UpdateScalars* const scaled = settles() ? at<UpdateScalars>(numbers.scaled) : nullptr;
  std::vector<std::span<const std::byte>> sources(gradients.size());
  Status status;
  course_.for_each_part(first, elems, [&](std::size_t index, Range range) {
    if (!status.ok()) return;
    for (std::size_t k = 0; k < gradients.size(); ++k) sources[k] = cut(gradients[k], first, range);
    std::array<std::byte*, kMostStates> states{};
    for (std::size_t k = 0; k < state_arrays(); ++k) {
      states[k] = states_[k].bytes().data() + range.begin * size;
    }
    const UpdateScalars* const scalars =
        scaled != nullptr ? scaled + index : bases + (course_.parts()[index].decays ? 0 : 1);
    status = device_->update(stream, update_.rule, dtype_,
                             parameters.subspan((range.begin - first) * size, range.elems() * size),
                             sources, states, scalars, gate());
  });
  return status.because("update");
}

std::span<std::byte> DeviceUpdater::state(std::size_t array, Range range) const {
  DIST_ASSERT(array < state_arrays() && range.begin <= range.end && range.end <= elems_.value,
              "update: no such state");
  const auto size = size_of(dtype_);
  return states_[array].bytes().subspan(range.begin * size, range.elems() * size);
}

Bytes DeviceUpdater::state_bytes() const {
  return Bytes(states_[0].bytes().size() + states_[1].bytes().size());
}

}  // namespace dist
