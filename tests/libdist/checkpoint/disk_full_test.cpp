// SPDX-License-Identifier: Apache-2.0
// A disk that is really full: a tmpfs in a mount namespace of this process, filled up to any size
// that lets a checkpoint begin.
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>

#include "libdist/checkpoint/directory.h"
#include "tests/libdist/checkpoint/example.h"
#include "tests/support/catch.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using namespace dist::checkpoint;

constexpr std::uint64_t kElems = 40000;  // 313 KiB with its state
constexpr std::size_t kDiskBytes = 1 << 20;

void mount_small_disk(const std::string& path) {
  const auto options = "size=" + std::to_string(kDiskBytes);
  const bool mounted = ::unshare(CLONE_NEWNS) == 0 &&
                       ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) == 0;
  if (!mounted) test::skip(std::string("cannot mount a tmpfs: ") + std::strerror(errno));
}

const Layout kLayout{DType::f32, "momentum", {{"all", {0, kElems}}}};

Status save(Directory& directory, std::uint64_t step) {
  const auto values = test::example_values(step, 0, {0, kElems});
  const auto state = test::example_values(step, 1, {0, kElems});
  const std::vector<std::span<const std::byte>> arrays = {std::as_bytes(std::span(values)),
                                                          std::as_bytes(std::span(state))};
  Snapshot snapshot(step, 0, 1);
  snapshot.add({0, kElems}, step, arrays);
  const Contents contents{step, 1, {}, {}};
  Status outcome = directory.write_shard(kLayout, snapshot);
  if (outcome.ok()) outcome = directory.commit(kLayout, contents).status();
  if (!outcome.ok()) directory.discard(step);
  return outcome;
}

std::uint64_t load(FileSystem& files, const Directory& directory) {
  std::vector<std::string> damaged;
  const auto reader = test::open_newest(files, directory, &damaged).value();
  REQUIRE(damaged.empty());
  REQUIRE(reader != nullptr);
  REQUIRE_OK(reader->fit(kLayout));
  std::vector<float> found(kElems);
  for (std::size_t array = 0; array < 2; ++array) {
    REQUIRE_OK(reader->read({0, kElems}, array, std::as_writable_bytes(std::span(found))));
    CHECK(found == test::example_values(reader->step(), array, {0, kElems}));
  }
  return reader->step();
}

TEST_CASE("a full disk leaves the older checkpoint, says so, and harms nobody once there is room") {
  const test::ScratchFolder scratch;
  mount_small_disk(scratch.path());
  const auto files = make_system_files();
  Directory directory(*files, scratch.path("checkpoints"), 1);
  REQUIRE_OK(directory.prepare());
  REQUIRE_OK(save(directory, 1));
  int refused = 0;
  std::uint64_t newest = 1;
  for (std::size_t filled = 0; filled < kDiskBytes; filled += 64 << 10) {
    {
      auto ballast = files->create(scratch.path("ballast")).value();
      const std::vector<std::byte> bytes(filled);
      static_cast<void>(write_all(*ballast, bytes));
    }
    const Status saved = save(directory, newest + 1);
    if (saved.ok()) {
      ++newest;
    } else {
      ++refused;
      CHECK(saved.message().find("No space left on device") != std::string::npos);
      CHECK(saved.message().find(scratch.path()) != std::string::npos);
    }
    CHECK(load(*files, directory) == newest);
    REQUIRE_OK(directory.prune(1));
    REQUIRE_OK(files->remove_file(scratch.path("ballast")));
  }
  CHECK(newest > 1);
  CHECK(refused > 0);
  REQUIRE_OK(save(directory, newest + 1));
  CHECK(load(*files, directory) == newest + 1);
  ::umount2(scratch.path().c_str(), MNT_DETACH);
}

}  // namespace
