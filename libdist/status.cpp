// SPDX-License-Identifier: Apache-2.0
#include "libdist/status.h"

namespace dist {

std::string_view name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::ok:
      return "ok";
    case ErrorCode::invalid_argument:
      return "invalid argument";
    case ErrorCode::unavailable:
      return "unavailable";
    case ErrorCode::timed_out:
      return "timed out";
    case ErrorCode::peer_lost:
      return "peer lost";
    case ErrorCode::protocol:
      return "protocol error";
    case ErrorCode::resource:
      return "resource exhausted";
    case ErrorCode::cancelled:
      return "cancelled";
  }
  return "unknown";
}

Status::Status(ErrorCode code, std::string message) {
  if (code != ErrorCode::ok) {
    state_ = std::make_shared<const State>(State{code, std::move(message)});
  }
}

Status Status::invalid_argument(std::string m) {
  return {ErrorCode::invalid_argument, std::move(m)};
}
Status Status::unavailable(std::string m) { return {ErrorCode::unavailable, std::move(m)}; }
Status Status::timed_out(std::string m) { return {ErrorCode::timed_out, std::move(m)}; }
Status Status::peer_lost(std::string m) { return {ErrorCode::peer_lost, std::move(m)}; }
Status Status::protocol(std::string m) { return {ErrorCode::protocol, std::move(m)}; }
Status Status::resource(std::string m) { return {ErrorCode::resource, std::move(m)}; }
Status Status::cancelled(std::string m) { return {ErrorCode::cancelled, std::move(m)}; }

Status Status::because(std::string_view clause) const {
  if (ok()) return *this;
  return {state_->code, std::string(clause) + " -> " + state_->message};
}

std::string Status::message() const { return ok() ? "ok" : state_->message; }

}  // namespace dist
