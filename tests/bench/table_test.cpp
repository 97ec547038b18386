// SPDX-License-Identifier: Apache-2.0
#include "bench/table.h"

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

Summary small_summary(const char* kind) {
  Record one;
  one.run = {"resnet50", "none", 1, 0};
  one.kind = kind;
  one.backend = "replay";
  one.transport = "shm";
  one.batch = 8;
  one.accelerator = std::string(kind) == "emulated" ? "K80 (assumed)" : "";
  one.images_per_second = 10;
  one.provenance = {{"cpu", "Test processor"}, {"cores", 2}, {"command", "scaling --x"}};
  Record two = one;
  two.run = {"resnet50", "ring", 2, 0};
  two.workers = 2;
  two.images_per_second = 15;
  two.bytes_sent_per_step = 102.2e6;
  return *summarise({one, two});
}

}  // namespace

TEST_CASE("columns are padded by characters and numbers stand right") {
  REQUIRE(markdown_table({{"name", "value"}, {"a", "1 ± 2"}, {"longer", "3"}}, 1) ==
          "| name   | value |\n"
          "|--------|------:|\n"
          "| a      | 1 ± 2 |\n"
          "| longer |     3 |\n");
}

TEST_CASE("a table names strategies for readers and shows speed-up and efficiency") {
  const std::string rows = format_rows(small_summary("measured"));
  REQUIRE(rows.find("| resnet50 | independent |     1 |   1 | 10.0") != std::string::npos);
  REQUIRE(rows.find("| resnet50 | ring        |     2 |   2 | 15.0") != std::string::npos);
  REQUIRE(rows.find("| 1.50 | 0.75 |") != std::string::npos);
  REQUIRE(rows.find("102.2 |\n") != std::string::npos);
  REQUIRE(rows.find("-") != std::string::npos);
}

TEST_CASE("table.md says emulated, by which pace, where, and what failed") {
  const std::string text =
      format_table(small_summary("emulated"), {"vgg16-ring-n2-r0: exit code 3"});
  REQUIRE(text.rfind("# Scaling, emulated\n", 0) == 0);
  REQUIRE(text.find("K80 (assumed)") != std::string::npos);
  REQUIRE(text.find("2 x Test processor") != std::string::npos);
  REQUIRE(text.find("command: scaling --x") != std::string::npos);
  REQUIRE(text.find("vgg16-ring-n2-r0: exit code 3") != std::string::npos);
  REQUIRE(format_table(small_summary("measured"), {}).find("Failed runs") == std::string::npos);
}
