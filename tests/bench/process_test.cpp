// SPDX-License-Identifier: Apache-2.0
#include "bench/process.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

constexpr std::chrono::seconds kLong{60};

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "dist-process-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  std::string file(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

ProcessResult shell(const std::string& script, const std::string& log,
                    std::chrono::seconds timeout = kLong) {
  return run_process({"sh", "-c", script}, log, timeout, nullptr);
}

}  // namespace

TEST_CASE("the exit code is the child's, and both its outputs are in the log") {
  const TemporaryDirectory directory;
  const auto result = shell("echo out; echo error >&2; exit 7", directory.file("log"));
  REQUIRE(result.exit_code == 7);
  REQUIRE_FALSE(result.timed_out);
  REQUIRE(tail_of(directory.file("log"), 5, "> ") == "> out\n> error\n");
  REQUIRE(tail_of(directory.file("log"), 1, "") == "error\n");
}

TEST_CASE("a child that died by a signal counts 128 more; one that cannot start is 127") {
  const TemporaryDirectory directory;
  REQUIRE(shell("kill -9 $$", directory.file("log")).exit_code == 128 + SIGKILL);
  REQUIRE(run_process({"/nowhere/program"}, directory.file("log"), kLong, nullptr).exit_code ==
          127);
  REQUIRE(tail_of(directory.file("log"), 1, "").find("/nowhere/program") != std::string::npos);
}

TEST_CASE("a child that takes too long is ended with all that it started") {
  const TemporaryDirectory directory;
  // The background process would write the file if it were still alive after its sleep.
  const auto result = shell("(sleep 3; touch " + directory.file("late") + ") & sleep 600",
                            directory.file("log"), std::chrono::seconds(1));
  REQUIRE(result.timed_out);
  REQUIRE(result.exit_code == 128 + SIGTERM);
  sleep(3);
  REQUIRE_FALSE(std::filesystem::exists(directory.file("late")));
}

TEST_CASE("a signal to this process ends the child and is reported, not obeyed") {
  const TemporaryDirectory directory;
  const auto result = shell("kill -INT $PPID; sleep 600", directory.file("log"));
  REQUIRE(result.interrupted_by == SIGINT);
  REQUIRE(result.exit_code != 0);
}
