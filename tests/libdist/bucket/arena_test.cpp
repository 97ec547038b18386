// SPDX-License-Identifier: Apache-2.0
#include "libdist/bucket/arena.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "tests/support/catch.h"

namespace dist {
namespace {

std::vector<Parameter> parameters(std::vector<std::uint64_t> sizes, DType dtype = DType::f32) {
  std::vector<Parameter> made;
  for (const auto size : sizes) {
    made.push_back({fmt::format("p{}", made.size()), Elems(size), dtype});
  }
  return made;
}

}  // namespace

TEST_CASE("parameters lie in order, apart, on 64-byte boundaries, zeroed") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    auto arena = Arena::create(parameters({1, 16, 17, 0, 100003}, dtype));
    REQUIRE_OK(arena);
    REQUIRE(arena->parameter_count() == 5);
    REQUIRE(arena->dtype() == dtype);
    std::uint64_t end = 0;
    for (std::size_t p = 0; p < arena->parameter_count(); ++p) {
      const Range range = arena->range(p);
      REQUIRE(range.begin >= end);
      REQUIRE(range.begin * size_of(dtype) % 64 == 0);
      REQUIRE(range.elems() == arena->parameter(p).elements.value);
      end = range.end;
    }
    REQUIRE(arena->elems().value >= end);
    REQUIRE(arena->elems().value - end < 64);
    const auto whole = Range{0, arena->elems().value};
    for (const auto bytes : {arena->parameters(whole), arena->gradients(whole)}) {
      REQUIRE(reinterpret_cast<std::uintptr_t>(bytes.data()) % 64 == 0);
      REQUIRE(bytes.size() == bytes_of(arena->elems(), dtype).value);
      REQUIRE(
          std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{}; }));
    }
  }
}

TEST_CASE("typed spans are windows on the raw bytes, and survive a move") {
  auto made = Arena::create(parameters({3, 5}));
  REQUIRE_OK(made);
  Arena arena = *std::move(made);
  const auto gradient = arena.gradient_span<float>(1);
  REQUIRE(gradient.size() == 5);
  gradient[4] = 2.5f;
  const Arena moved = std::move(arena);
  Arena again = Arena::create(parameters({1})).value();
  again = Arena(Arena::create(parameters({3, 5})).value());
  REQUIRE(gradient[4] == 2.5f);
  REQUIRE(moved.range(1).elems() == 5);
}

TEST_CASE("parameters and gradients do not overlap") {
  auto arena = Arena::create(parameters({4}));
  REQUIRE_OK(arena);
  arena->parameter_span<float>(0)[0] = 1;
  REQUIRE(arena->gradient_span<float>(0)[0] == 0);
}

TEST_CASE("an alias window shows the same memory again and again") {
  constexpr std::uint64_t kWindowBytes = 8192;
  auto arena = Arena::create(parameters({100000}), {Bytes(kWindowBytes)});
  REQUIRE_OK(arena);
  const auto gradients = arena->gradients({0, 100000});
  gradients[5] = std::byte{42};
  std::size_t seen = 0;
  for (std::size_t at = 5; at < gradients.size(); at += kWindowBytes) {
    REQUIRE(gradients[at] == std::byte{42});
    ++seen;
  }
  REQUIRE(seen == 49);
  REQUIRE(arena->parameters({0, 100000})[5] == std::byte{0});
}

TEST_CASE("an alias window carries an arena far beyond the memory of the machine") {
  auto arena = Arena::create(parameters({1ull << 33}), {1_MiB * 64});
  REQUIRE_OK(arena);
  arena->gradient_span<float>(0).back() = 1;
}

TEST_CASE("what cannot be an arena is an error that says why") {
  const auto expect = [](std::vector<Parameter> list, ErrorCode code, const std::string& word) {
    const auto arena = Arena::create(std::move(list));
    REQUIRE_FALSE(arena.ok());
    INFO(arena.status().message());
    REQUIRE(arena.status().code() == code);
    REQUIRE(arena.status().message().find(word) != std::string::npos);
  };
  expect({}, ErrorCode::invalid_argument, "no parameters");
  expect({{"a", Elems(1), DType::f32}, {"b", Elems(1), DType::f64}}, ErrorCode::invalid_argument,
         "'b' is f64");
  expect({{"a", Elems(1), DType::f16}}, ErrorCode::invalid_argument,
         "'a' is f16; parameters are f32 or f64");
  expect({{"a", Elems(1), DType::i64}}, ErrorCode::invalid_argument, "'a' is i64");
  expect({{"a", Elems(1)}, {"a", Elems(2)}}, ErrorCode::invalid_argument, "called 'a'");
  expect(parameters({1ull << 48}), ErrorCode::resource, "map");
  expect(parameters({1ull << 40}), ErrorCode::resource, "map");
  expect(parameters({1ull << 62}), ErrorCode::resource, "'p0'");
  expect(parameters({~0ull}), ErrorCode::resource, "'p0'");
  expect(parameters({1ull << 55, 1ull << 55, 1ull << 55}), ErrorCode::resource, "'p2'");
}

TEST_CASE("an arena of empty parameters is allowed") {
  auto arena = Arena::create(parameters({0, 0}));
  REQUIRE_OK(arena);
  REQUIRE(arena->elems() == Elems(0));
  REQUIRE(arena->gradients({0, 0}).empty());
}

}  // namespace dist
