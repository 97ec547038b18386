// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/operation_table.h"

namespace dist {

// An id is the slot's index below and the slot's generation above: 2^32 uses of one slot are more
// than a job lives.
Operation OperationTable::add() {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const auto index = free_.back();
  free_.pop_back();
  Slot& added = slots_[index];
  ++added.generation;
  added.state = State::in_flight;
  ++in_flight_;
  return {static_cast<std::uint64_t>(added.generation) << 32 | index};
}

void OperationTable::finish(Operation operation, Status outcome) {
  Slot& ended = slot(operation);
  DIST_ASSERT(ended.state == State::in_flight, "an operation ended twice");
  ended.state = State::finished;
  ended.outcome = std::move(outcome);
  --in_flight_;
}

Status OperationTable::take(Operation operation) {
  Slot& taken = slot(operation);
  DIST_ASSERT(taken.state == State::finished, "take() of an operation that has not finished");
  taken.state = State::free;
  free_.push_back(static_cast<std::uint32_t>(operation.id));
  return std::exchange(taken.outcome, Status());
}

const OperationTable::Slot& OperationTable::slot(Operation operation) const {
  const auto index = static_cast<std::uint32_t>(operation.id);
  const auto generation = static_cast<std::uint32_t>(operation.id >> 32);
  DIST_ASSERT(index < slots_.size() && slots_[index].generation == generation &&
                  slots_[index].state != State::free,
              "an operation that this transport does not know, or that was already taken");
  return slots_[index];
}

OperationTable::Slot& OperationTable::slot(Operation operation) {
  return const_cast<Slot&>(static_cast<const OperationTable&>(*this).slot(operation));
}

}  // namespace dist
