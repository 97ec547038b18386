// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/reader.h"

#include <fmt/format.h>

#include <numeric>

#include "libdist/checkpoint/held_back.h"
#include "libdist/checkpoint/shard.h"
#include "tests/libdist/checkpoint/example.h"
#include "tests/libdist/checkpoint/fault_files.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::checkpoint;
using test::FaultFiles;

void save(FaultFiles& files, const Layout& layout, const std::vector<Snapshot>& shards) {
  Directory directory(files, "c", 1);
  REQUIRE_OK(directory.prepare());
  for (const Snapshot& shard : shards) REQUIRE_OK(directory.write_shard(layout, shard));
  const auto count = static_cast<int>(shards.size());
  REQUIRE_OK(directory.commit(layout, {shards.front().step(), count, {}, {}}));
}

std::vector<Snapshot> example_shards(int shards) {
  std::vector<Snapshot> all;
  for (int s = 0; s < shards; ++s) all.push_back(test::example_snapshot(3, s, shards));
  return all;
}

std::vector<Snapshot> alone(Snapshot snapshot) {
  std::vector<Snapshot> shards;
  shards.push_back(std::move(snapshot));
  return shards;
}

std::string hex_of(FaultFiles& files, const std::string& path) {
  const auto file = files.open(path).value();
  std::vector<std::byte> bytes(file->size().value());
  REQUIRE(file->read(0, bytes).value() == bytes.size());
  std::string text;
  for (const auto byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

std::unique_ptr<Reader> open(FaultFiles& files) {
  return Reader::open(files, "c/step-000003").value();
}

TEST_CASE("any number of writers, any range for the reader") {
  const auto layout = test::example_layout();
  for (const int shards : {1, 2, 3, 7}) {
    FaultFiles files;
    save(files, layout, example_shards(shards));
    const auto reader = open(files);
    REQUIRE_OK(reader->fit(layout));
    REQUIRE_OK(test::check_example(*reader, 3));
    const Range fc = layout.entries[2].range;
    for (auto begin = fc.begin; begin < fc.end; ++begin) {
      const Range part{begin, std::min(begin + 7, fc.end)};
      std::vector<float> found(part.elems());
      REQUIRE_OK(reader->read(part, 1, std::as_writable_bytes(std::span(found))));
      CHECK(found == test::example_values(3, 1, part));
    }
  }
}

TEST_CASE("what compression holds back is floats, whatever the elements are") {
  const auto arena = Arena::create({{"a", Elems(2), DType::f64}}).value();
  const auto layout = Layout::of(arena, "sgd");
  const std::vector<double> values = {1, 2};
  const std::vector<float> held_back = {3, 4};
  Snapshot snapshot(3, 0, 1);
  const std::vector<std::span<const std::byte>> parameters = {std::as_bytes(std::span(values))};
  const std::vector<std::span<const std::byte>> floats = {std::as_bytes(std::span(held_back))};
  snapshot.add({0, 2}, 9, parameters);
  snapshot.add({0, 2}, 3, floats, held_back_by(1));
  FaultFiles files;
  save(files, layout, alone(std::move(snapshot)));
  const auto reader = open(files);
  REQUIRE_OK(reader->fit(layout));
  CHECK(reader->has(0));
  CHECK(reader->has(held_back_by(1)));
  CHECK_FALSE(reader->has(held_back_by(0)));
  std::vector<float> found(2);
  REQUIRE_OK(reader->read({0, 2}, held_back_by(1), std::as_writable_bytes(std::span(found))));
  CHECK(found == held_back);
  CHECK(reader->version({0, 2}) == 9);
  REQUIRE_OK(reader->verify());
  // Sections, records, trailer as in FORMAT.md.
  CHECK(hex_of(files, "c/step-000003/shard-0") ==
        "000000000000f03f0000000000000040"
        "0000404000008040"
        "0000000000000000000000000000000002000000000000000900000000000000"
        "0000000000000000d9dd26370000000000000000020001000000000000000000"
        "0200000000000000030000000000000010000000000000008a64c50f00000000"
        "0300000000000000020000000000000054855521010000004443545348415244");
}

TEST_CASE("an array that is held back and not there whole and once is refused") {
  const auto layout = test::example_layout();
  const Range whole{0, test::example_arena().elems().value};
  const auto outcome = [&](const std::vector<Range>& ranges) {
    auto shards = example_shards(2);
    const std::vector<float> zeros(whole.elems(), 0);
    for (const Range range : ranges) {
      const std::vector<std::span<const std::byte>> part = {
          std::as_bytes(std::span(zeros).first(range.elems()))};
      shards[1].add(range, 3, part, kHeldBack);
    }
    FaultFiles files;
    save(files, layout, shards);
    return Reader::open(files, "c/step-000003").status();
  };
  CHECK(outcome({whole}).ok());
  CHECK(outcome({{0, 20}, {20, whole.end}}).ok());
  for (const auto& ranges : std::vector<std::vector<Range>>{
           {whole, whole}, {{0, 2}}, {{0, 40}}, {{0, 40}, {41, whole.end}}}) {
    CHECK(outcome(ranges).message().find("is not there whole and once") != std::string::npos);
  }
}

TEST_CASE("parameters in another order and alignment are found by their names") {
  FaultFiles files;
  save(files, test::example_layout(), example_shards(2));
  const auto reader = open(files);
  Layout other{DType::f32,
               "momentum",
               {{"fc", {0, 40}}, {"conv/bias", {48, 49}}, {"conv/weights", {100, 105}}}};
  REQUIRE_OK(reader->fit(other));
  std::vector<float> found(105, -1);
  REQUIRE_OK(reader->read({0, 105}, 0, std::as_writable_bytes(std::span(found))));
  CHECK(found[0] == test::example_value(3, 0, test::example_layout().entries[2].range.begin));
  CHECK(found[48] == test::example_value(3, 0, test::example_layout().entries[1].range.begin));
  CHECK(found[104] == test::example_value(3, 0, 4));
  CHECK(found[99] == 0);  // a gap
}

TEST_CASE("what does not fit is said") {
  FaultFiles files;
  save(files, test::example_layout(), example_shards(1));
  const auto reader = open(files);
  const Layout other{
      DType::f64, "sgd", {{"conv/weights", {0, 6}}, {"new", {6, 7}}, {"fc", {8, 48}}}};
  CHECK(reader->fit(other).message() ==
        "c/step-000003 does not fit this job: elements are f32 there and f64 here; the update rule "
        "is momentum there and sgd here; parameter 'conv/weights' has 5 elements there and 6 here; "
        "parameter 'new' is not there; parameter 'conv/bias' is only there");
}

TEST_CASE("the version of a range is the smallest in it") {
  const auto layout = test::example_layout();
  std::vector<float> zeros(layout.entries.back().range.end);
  const auto bytes = std::as_bytes(std::span(zeros));
  Snapshot snapshot(3, 0, 1);
  const auto add = [&](Range range, std::uint64_t version) {
    const auto part = bytes.first(range.elems() * sizeof(float));
    snapshot.add(range, version, std::span(&part, 1));
  };
  const Range fc = layout.entries[2].range;
  add({0, fc.begin + 10}, 8);
  add({fc.begin + 10, fc.end}, 5);
  FaultFiles files;
  save(files, layout, alone(std::move(snapshot)));
  const auto reader = open(files);
  REQUIRE_OK(reader->fit(layout));
  CHECK(reader->version({0, 5}) == 8);
  CHECK(reader->version({fc.begin, fc.begin + 10}) == 8);
  CHECK(reader->version({fc.begin + 9, fc.begin + 11}) == 5);
  std::vector<float> state(5);
  CHECK(reader->read({0, 5}, 1, std::as_writable_bytes(std::span(state))).message() ==
        "c/step-000003: state 1 of parameter 'conv/weights' is not in the checkpoint");
}

TEST_CASE("shards that leave a hole, or hold something twice, are refused") {
  const auto layout = test::example_layout();
  for (const std::vector<std::pair<int, int>>& parts :
       {std::vector<std::pair<int, int>>{{0, 3}, {2, 3}}, {{0, 2}, {0, 1}}, {{1, 2}}}) {
    FaultFiles files;
    std::vector<Snapshot> shards;
    for (const auto& [shard, of] : parts) {
      const auto whole = test::example_snapshot(3, shard, of);
      Snapshot renumbered(3, static_cast<int>(shards.size()), static_cast<int>(parts.size()));
      for (const Part& part : whole.parts()) renumbered.add(part.range, part.version, part.arrays);
      shards.push_back(std::move(renumbered));
    }
    save(files, layout, shards);
    const auto opened = Reader::open(files, "c/step-000003");
    CHECK(opened.status().message().find("is not there whole and once") != std::string::npos);
  }
}

TEST_CASE("a tensor larger than a section comes back") {
  const auto elems = 2 * kSectionElems + 3;
  const Layout layout{DType::f32, "sgd", {{"big", {0, elems}}}};
  std::vector<float> values(elems);
  std::iota(values.begin(), values.end(), 0.0f);
  Snapshot snapshot(3, 0, 1);
  const auto bytes = std::as_bytes(std::span(values));
  snapshot.add({0, elems}, 3, std::span(&bytes, 1));
  FaultFiles files;
  save(files, layout, alone(std::move(snapshot)));
  const auto reader = open(files);
  REQUIRE_OK(reader->fit(layout));
  std::vector<float> found(elems);
  REQUIRE_OK(reader->read({0, elems}, 0, std::as_writable_bytes(std::span(found))));
  CHECK(found == values);
}

}  // namespace
