// SPDX-License-Identifier: Apache-2.0
// Which operations of a transport are in flight and how the others ended. Slots are reused, ids are
// not.
#pragma once

#include <cstdint>
#include <vector>

#include "libdist/status.h"
#include "libdist/transport/transport.h"

namespace dist {

/// Not thread-safe: belongs to the thread that drives the transport.
class OperationTable {
 public:
  /// A new operation in flight.
  Operation add();

  /// Ends an operation in flight.
  void finish(Operation operation, Status outcome);

  bool finished(Operation operation) const { return slot(operation).state == State::finished; }

  /// The outcome; forgets the operation.
  Status take(Operation operation);

  /// Operations that have not ended.
  std::size_t in_flight() const { return in_flight_; }

 private:
  enum class State : std::uint8_t { free, in_flight, finished };
  struct Slot {
    std::uint32_t generation = 0;
    State state = State::free;
    Status outcome;
  };

  const Slot& slot(Operation operation) const;
  Slot& slot(Operation operation);

  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;  // indices into slots_
  std::size_t in_flight_ = 0;
};

}  // namespace dist
