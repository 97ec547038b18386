// SPDX-License-Identifier: Apache-2.0
#include "bench/record.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

const char* const kTrain =
    R"({"record":"train","model":"vgg16","strategy":"ring","transport":"shm","backend":"replay",)"
    R"("ranks":2,"batch":32,"image":224,"images_per_second":12.5,"step_ms_median":40,"repeat":1})";

// A file that goes away with the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    std::string name = std::filesystem::temp_directory_path() / "dist-record-XXXXXX";
    close(mkstemp(name.data()));
    path_ = name;
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

TEST_CASE(
    "a train record is taken apart; replay is emulated even where the record does not say so") {
  const auto record = parse_record(nlohmann::json::parse(kTrain));
  REQUIRE_OK(record);
  REQUIRE(record->run == RunSpec{"vgg16", "ring", 2, 1});
  REQUIRE(record->kind == "emulated");
  REQUIRE(record->workers == 2);
  REQUIRE(record->images_per_second == 12.5);
}

TEST_CASE("a record without a needed field names the field") {
  auto line = nlohmann::json::parse(kTrain);
  line.erase("images_per_second");
  const auto record = parse_record(line);
  REQUIRE_FALSE(record.ok());
  REQUIRE(record.status().message().find("images_per_second") != std::string::npos);
}

TEST_CASE("only train records are read, and the last one is the result of a run") {
  const std::string other = std::string(kTrain).replace(1, 16, R"("record":"step")");
  const TemporaryFile file(other + "\n" + kTrain + "\n\n" + other + "\n");
  const auto records = read_records(file.path());
  REQUIRE_OK(records);
  REQUIRE(records->size() == 1);
  const auto last = last_train_record(file.path());
  REQUIRE_OK(last);
  REQUIRE((*last)["model"] == "vgg16");
}

TEST_CASE("broken lines and missing files are errors that say where") {
  const TemporaryFile file(std::string(kTrain) + "\n{half a li\n");
  const auto broken = read_records(file.path());
  REQUIRE_FALSE(broken.ok());
  REQUIRE(broken.status().message().find(file.path() + ":2") != std::string::npos);
  REQUIRE_FALSE(read_records("/nowhere/runs.jsonl").ok());
  REQUIRE_FALSE(append_line("/nowhere/runs.jsonl", {}).ok());
  const TemporaryFile empty("");
  REQUIRE_FALSE(last_train_record(empty.path()).ok());
}
