// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/piece_table.h"

#include <numeric>

#include "tests/support/catch.h"
#include "tests/support/fake_device.h"

using namespace nn::cudnn;

TEST_CASE("long runs are cut, and both sides of a piece stay together") {
  std::vector<float> values(3 * kPieceElements);
  std::vector<std::uint16_t> copy(values.size());
  PieceTable table;
  table.add(values.data(), copy.data(), 2 * kPieceElements + 8, Element::f16);
  table.add(values.data() + 16, nullptr, 8, Element::f16);
  CHECK(table.elements() == std::vector<std::uint32_t>{kPieceElements, kPieceElements, 8, 8});
  CHECK(table.on_host()[1].values == values.data() + kPieceElements);
  CHECK(table.on_host()[1].copy == copy.data() + kPieceElements);
  CHECK(table.on_host()[2].copy == copy.data() + 2 * kPieceElements);
  CHECK(table.on_host()[3].copy == nullptr);
}

TEST_CASE("the device reads what was added") {
  dist::test::FakeDevice device;
  const auto stream = device.make_stream(dist::StreamPriority::normal).value();
  std::vector<float> values(kPieceElements + 8);
  PieceTable table;
  CHECK(table.upload(device, stream).ok());
  CHECK(table.pieces().count == 0);
  table.add(values.data(), nullptr, values.size(), Element::f32);
  REQUIRE(table.upload(device, stream).ok());
  REQUIRE(table.pieces().count == 2);
  CHECK(table.pieces().pieces[1].values == values.data() + kPieceElements);
  CHECK(table.pieces().elements[1] == 8);
}
