// SPDX-License-Identifier: Apache-2.0
#include "libdist/work.h"

#include <fmt/format.h>

namespace dist {

Work& Work::operator=(Work&& other) noexcept {
  if (this == &other) return *this;
  settle();
  take(std::move(other));
  return *this;
}

void Work::take(Work&& other) noexcept {
  ticket_.swap(other.ticket_);
  what_ = std::move(other.what_);
  status_ = std::move(other.status_);
  other.status_ = {};
}

void Work::settle() {
  if (!ticket_) return;
  status_ = ticket_->wait();
  ticket_.reset();
}

bool Work::test() {
  if (ticket_ && ticket_->finished()) settle();
  return !ticket_;
}

Status Work::wait() {
  settle();
  return status_;
}

Status Work::wait_until(TimePoint deadline) {
  if (ticket_ && !ticket_->wait_until(deadline)) {
    return Status::timed_out(
        fmt::format("{}: has not ended by the deadline of the wait, and goes on", what_));
  }
  return wait();
}

Status Work::status() {
  test();
  return status_;
}

}  // namespace dist
