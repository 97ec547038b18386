// SPDX-License-Identifier: Apache-2.0
// How a broken world is reported: a value that carries its chain of causes, outermost first, e.g.
//   ring: bucket 7 -> round 3 -> receive from rank 2 -> tcp 127.0.0.1:5001 -> timed out after 30 s
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "libdist/check.h"

namespace dist {

/// What kind of failure it is.
enum class ErrorCode {
  ok = 0,
  invalid_argument,  ///< The caller's input is wrong; the message lists what is valid.
  unavailable,       ///< A part is not in this build or not on this machine.
  timed_out,         ///< A deadline passed; the message names who waited for whom.
  peer_lost,         ///< Another rank is gone.
  protocol,          ///< A peer sent what it must not send.
  resource,          ///< Memory, disk, descriptors, ports.
  cancelled,         ///< Another failure of this rank ended the operation.
};

/// "ok", "invalid argument", "timed out", ...
std::string_view name_of(ErrorCode code);

/// Success, or an error with its story. Cheap when ok (one null pointer). Copyable,
/// thread-compatible.
class [[nodiscard]] Status {
 public:
  /// Success.
  Status() = default;
  /// A failure and its story; success with ErrorCode::ok.
  Status(ErrorCode code, std::string message);

  /// A failure with ErrorCode::invalid_argument.
  static Status invalid_argument(std::string message);
  /// A failure with ErrorCode::unavailable.
  static Status unavailable(std::string message);
  /// A failure with ErrorCode::timed_out.
  static Status timed_out(std::string message);
  /// A failure with ErrorCode::peer_lost.
  static Status peer_lost(std::string message);
  /// A failure with ErrorCode::protocol.
  static Status protocol(std::string message);
  /// A failure with ErrorCode::resource.
  static Status resource(std::string message);
  /// A failure with ErrorCode::cancelled.
  static Status cancelled(std::string message);

  /// Whether it is success.
  bool ok() const { return state_ == nullptr; }
  /// ErrorCode::ok for success.
  ErrorCode code() const { return state_ ? state_->code : ErrorCode::ok; }

  /// This failure told one storey higher: "clause -> message". Success stays success.
  Status because(std::string_view clause) const;

  /// The whole chain on one line; "ok" for success.
  std::string message() const;

  /// For programs that like exceptions: throws std::runtime_error(message()) unless ok.
  void value() const {
    if (!ok()) throw std::runtime_error(message());
  }

 private:
  struct State {
    ErrorCode code;
    std::string message;
  };
  std::shared_ptr<const State> state_;
};

/// A T, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  /// Success.
  Result(T value) : value_(std::move(value)) {}  // NOLINT: implicit by design
  /// A failure; asserts that it is one.
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit by design
    DIST_ASSERT(!status_.ok(), "a Result without a value needs a failure");
  }

  /// Whether there is a value.
  bool ok() const { return value_.has_value(); }
  /// Why there is none; ok where there is.
  const Status& status() const { return status_; }

  /// The value; asserts that there is one, as all of these.
  T& operator*() & { return get(); }
  /// The value.
  const T& operator*() const& { return const_cast<Result*>(this)->get(); }
  /// The value, moved out.
  T&& operator*() && { return std::move(get()); }
  /// Into the value.
  T* operator->() { return &get(); }
  /// Into the value.
  const T* operator->() const { return &const_cast<Result*>(this)->get(); }

  /// For programs that like exceptions: the value, or throws std::runtime_error.
  T&& value() && {
    status_.value();
    return std::move(get());
  }
  /// The same where it stays.
  T& value() & {
    status_.value();
    return get();
  }

 private:
  T& get() {
    DIST_ASSERT(value_.has_value(), "the value of a failed Result was taken");
    return *value_;
  }

  std::optional<T> value_;
  Status status_;
};

namespace detail {
inline const Status& as_status(const Status& s) { return s; }
template <typename T>
const Status& as_status(const Result<T>& r) {
  return r.status();
}
}  // namespace detail

}  // namespace dist

/// Returns the failure of `expression` (a Status or a Result) from the enclosing function.
#define DIST_TRY(expression)                              \
  do {                                                    \
    if (auto&& dist_try = (expression); !dist_try.ok()) { \
      return ::dist::detail::as_status(dist_try);         \
    }                                                     \
  } while (false)

/// Same, with one clause of story added.
#define DIST_TRY_BECAUSE(expression, clause)                      \
  do {                                                            \
    if (auto&& dist_try = (expression); !dist_try.ok()) {         \
      return ::dist::detail::as_status(dist_try).because(clause); \
    }                                                             \
  } while (false)
