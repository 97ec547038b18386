// SPDX-License-Identifier: Apache-2.0
#include "libdist/compress/compressor.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"

namespace dist {
namespace {

template <typename T>
std::span<const std::byte> bytes_of_values(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

template <typename T>
std::vector<T> there_and_back(Compressor& compressor, const std::vector<T>& values,
                              std::vector<float>* error) {
  std::vector<std::byte> wire(compressor.encoded_bytes(Elems(values.size())).value);
  compressor.encode(bytes_of_values(values), wire, error ? std::span(*error) : std::span<float>());
  std::vector<T> back(values.size(), T(99));
  REQUIRE_OK(compressor.decode(wire, std::as_writable_bytes(std::span(back))));
  return back;
}

TEST_CASE("f32 and f64 elements go the same way") {
  for (const Compression method : {Compression::f16, Compression::int8, Compression::one_bit}) {
    INFO(name_of(method));
    Compressor narrow(method, 1, DType::f32);
    Compressor wide(method, 1, DType::f64);
    const std::vector<float> floats = {1.5f, -3, 0.25f, 100, -7, 0};
    const std::vector<double> doubles(floats.begin(), floats.end());
    const auto from_floats = there_and_back(narrow, floats, nullptr);
    const auto from_doubles = there_and_back(wide, doubles, nullptr);
    CHECK(std::vector<float>(from_doubles.begin(), from_doubles.end()) == from_floats);
  }
}

TEST_CASE("with error feedback everything arrives in the end") {
  for (const Compression method :
       {Compression::bf16, Compression::int8, Compression::top_k, Compression::one_bit}) {
    INFO(name_of(method));
    Compressor compressor(method, 0.25, DType::f32);
    std::vector<float> error(8, 0);
    std::vector<double> given(8, 0);
    std::vector<double> arrived(8, 0);
    for (int step = 0; step < 50; ++step) {
      std::vector<float> values;
      for (std::size_t i = 0; i < 8; ++i) {
        values.push_back(std::sin(static_cast<float>(step) + static_cast<float>(i * i)) * 0.1f +
                         0.5f);
        given[i] += static_cast<double>(values[i]);
      }
      const auto back = there_and_back(compressor, values, &error);
      for (std::size_t i = 0; i < 8; ++i) arrived[i] += static_cast<double>(back[i]);
    }
    for (std::size_t i = 0; i < 8; ++i) {
      CHECK(arrived[i] + static_cast<double>(error[i]) == test::Approx(given[i]).epsilon(1e-5));
      CHECK(std::abs(error[i]) < 8);  // what is held back does not grow
    }
  }
}

TEST_CASE("a compressor keeps the time of both ways") {
  Compressor compressor(Compression::int8, 1, DType::f32);
  CHECK(compressor.time() == Duration(0));
  const std::vector<float> values(100'000, 0.5f);
  std::vector<std::byte> wire(compressor.encoded_bytes(Elems(values.size())).value);
  compressor.encode(bytes_of_values(values), wire, {});
  const Duration encoding = compressor.time();
  CHECK(encoding > Duration(0));
  std::vector<float> back(values.size());
  REQUIRE_OK(compressor.decode(wire, std::as_writable_bytes(std::span(back))));
  CHECK(compressor.time() > encoding);
}

TEST_CASE("without it small values never arrive by top-k") {
  Compressor compressor(Compression::top_k, 0.5, DType::f32);
  std::vector<float> error(2, 0);
  float with = 0;
  float without = 0;
  for (int step = 0; step < 10; ++step) {
    with += there_and_back(compressor, std::vector<float>{1, 0.5f}, &error)[1];
    without += there_and_back(compressor, std::vector<float>{1, 0.5f}, nullptr)[1];
  }
  CHECK(without == 0);
  CHECK(with >= 3);
}

}  // namespace
}  // namespace dist
