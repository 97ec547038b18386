// SPDX-License-Identifier: Apache-2.0
#include "libdist/status.h"

#include <set>
#include <string>

#include "tests/support/catch.h"

namespace dist {
namespace {

Status inner(bool fail) { return fail ? Status::timed_out("after 30 s") : Status(); }

Status outer(bool fail) {
  DIST_TRY_BECAUSE(inner(fail), "receive from rank 2");
  return Status::protocol("went on");
}

Result<int> number(bool fail) {
  DIST_TRY(inner(fail));
  return 7;
}

Status uses_result(bool fail) {
  auto result = number(fail);
  DIST_TRY_BECAUSE(result, "number");
  return {};
}

}  // namespace

TEST_CASE("success is ok, tells nothing and stays success") {
  const Status status;
  REQUIRE(status.ok());
  REQUIRE(status.code() == ErrorCode::ok);
  REQUIRE(status.message() == "ok");
  REQUIRE(status.because("ring").ok());
  REQUIRE(Status(ErrorCode::ok, "text").ok());
  REQUIRE_NOTHROW(status.value());
}

TEST_CASE("a failure carries its chain, outermost first") {
  const auto status = Status::peer_lost("rank 2 is gone").because("round 3").because("ring");
  REQUIRE_FALSE(status.ok());
  REQUIRE(status.code() == ErrorCode::peer_lost);
  REQUIRE(status.message() == "ring -> round 3 -> rank 2 is gone");
  REQUIRE_THROWS_WITH(status.value(), "ring -> round 3 -> rank 2 is gone");
}

TEST_CASE("each kind of failure has its code, and each code its name") {
  const Status all[] = {Status::invalid_argument("x"), Status::unavailable("x"),
                        Status::timed_out("x"),        Status::peer_lost("x"),
                        Status::protocol("x"),         Status::resource("x"),
                        Status::cancelled("x")};
  std::set<std::string_view> names{name_of(ErrorCode::ok)};
  for (const Status& status : all) {
    REQUIRE_FALSE(status.ok());
    names.insert(name_of(status.code()));
  }
  REQUIRE(names.size() == 8);
  REQUIRE(names.count("unknown") == 0);
}

TEST_CASE("the TRY macros return failures of statuses and results") {
  REQUIRE(outer(true).message() == "receive from rank 2 -> after 30 s");
  REQUIRE(outer(false).message() == "went on");
  REQUIRE(uses_result(true).message() == "number -> after 30 s");
  REQUIRE(uses_result(true).code() == ErrorCode::timed_out);
  REQUIRE(uses_result(false).ok());
}

TEST_CASE("a result holds a value or the reason why not") {
  auto good = number(false);
  REQUIRE(good.ok());
  REQUIRE(*good == 7);
  REQUIRE(good.value() == 7);
  const auto bad = number(true);
  REQUIRE_FALSE(bad.ok());
  REQUIRE(bad.status().code() == ErrorCode::timed_out);
  REQUIRE_THROWS_WITH(number(true).value(), "after 30 s");

  Result<std::unique_ptr<int>> moved = std::make_unique<int>(3);
  const auto taken = *std::move(moved);
  REQUIRE(*taken == 3);
}

}  // namespace dist
