// SPDX-License-Identifier: Apache-2.0
// The file system of this machine behind the seam, and a checkpoint on it.
#include "libdist/checkpoint/file_system.h"

#include <algorithm>
#include <filesystem>

#include "tests/libdist/checkpoint/example.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using namespace dist::checkpoint;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST_CASE("files are written on, read at any place, and listed") {
  const test::ScratchFolder scratch;
  const auto files = make_system_files();
  {
    auto file = files->create(scratch.path("a")).value();
    REQUIRE_OK(write_all(*file, bytes_of("hello ")));
    REQUIRE_OK(write_all(*file, bytes_of("world")));
    REQUIRE_OK(file->sync());
  }
  auto file = files->open(scratch.path("a")).value();
  CHECK(file->size().value() == 11);
  std::string found(5, ' ');
  REQUIRE_OK(read_all(*file, 6, std::as_writable_bytes(std::span(found))));
  CHECK(found == "world");
  CHECK(read_all(*file, 7, std::as_writable_bytes(std::span(found))).message() ==
        "the file ends at byte 11");
  REQUIRE_OK(files->make_directory(scratch.path("d")));
  REQUIRE_OK(files->make_directory(scratch.path("d")));
  REQUIRE_OK(files->rename(scratch.path("a"), scratch.path("d/b")));
  REQUIRE_OK(files->sync_directory(scratch.path("d")));
  CHECK(files->list(scratch.path("d")).value() == std::vector<std::string>{"b"});
  CHECK(files->list(scratch.path("nowhere")).value().empty());
  REQUIRE_OK(remove_tree(*files, scratch.path("d")));
  CHECK(files->list(scratch.path()).value().empty());
}

TEST_CASE("failures name the operation, the path and the reason") {
  const test::ScratchFolder scratch;
  const auto files = make_system_files();
  const auto none = scratch.path("none/x");
  const std::string why = ": No such file or directory";
  CHECK(files->create(none).status().message() == "cannot create " + none + why);
  CHECK(files->open(none).status().message() == "cannot open " + none + why);
  CHECK(files->make_directory(none).message() == "cannot make the directory " + none + why);
  CHECK(files->sync_directory(none).message() == "cannot fsync the directory " + none + why);
  CHECK(files->rename(none, none).message() == "cannot rename " + none + " to " + none + why);
  CHECK(files->remove_file(none).message() == "cannot remove " + none + why);
  CHECK(files->remove_directory(none).message() == "cannot remove the directory " + none + why);
  auto full = files->create("/dev/full").value();
  CHECK(full->write(bytes_of("x")).status().message() ==
        "cannot write to /dev/full: No space left on device");
}

TEST_CASE("a checkpoint on it loads") {
  const test::ScratchFolder scratch;
  const auto files = make_system_files();
  Directory directory(*files, scratch.path("checkpoints"), 1);
  REQUIRE_OK(directory.prepare());
  const auto layout = test::example_layout();
  for (std::uint64_t step = 1; step <= 3; ++step) {
    for (int s = 0; s < 2; ++s) {
      REQUIRE_OK(directory.write_shard(layout, test::example_snapshot(step, s, 2)));
    }
    REQUIRE_OK(directory.commit(layout, {step, 2, {}, {}}));
    REQUIRE_OK(directory.prune(2));
  }
  std::vector<std::string> damaged;
  const auto reader = test::open_newest(*files, directory, &damaged).value();
  REQUIRE_OK(reader->fit(layout));
  REQUIRE_OK(test::check_example(*reader, 3));
  auto names = files->list(directory.path()).value();
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"step-000002", "step-000003"});
}

}  // namespace
