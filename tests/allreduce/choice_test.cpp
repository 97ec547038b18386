// SPDX-License-Identifier: Apache-2.0
// The table that chooses algorithms: parsed with the line in every error, printed, asked.
#include "allreduce/choice.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::allreduce;

Status failure_of(std::string_view text) { return parse_choice_table(text, "table").status(); }

TEST_CASE("names and algorithms map both ways") {
  for (const char* name : {"ring", "doubling", "halving", "tree", "native"}) {
    REQUIRE(algorithm_of(name).has_value());
    REQUIRE(name_of(*algorithm_of(name)) == name);
    REQUIRE(algorithm_names().find(name) != std::string::npos);
  }
  REQUIRE_FALSE(algorithm_of("gossip").has_value());
  REQUIRE_FALSE(algorithm_of("").has_value());
}

TEST_CASE("a table is read with comments, blank lines and any blanks between the columns") {
  const auto table = parse_choice_table(
      "# transport ranks bytes algorithm\n"
      "\n"
      "* 1 0 ring   # the rest\n"
      "\ttcp  2\t0   doubling\r\n"
      "mpi 4 1048576 native",
      "table");
  REQUIRE_OK(table);
  REQUIRE(*table == ChoiceTable{{"*", 1, 0_B, Algorithm::ring},
                                {"tcp", 2, 0_B, Algorithm::doubling},
                                {"mpi", 4, 1_MiB, Algorithm::native}});
}

TEST_CASE("what is printed is read back the same, the built-in table too") {
  for (const ChoiceTable& table :
       {default_choice_table(), ChoiceTable{{"*", 1, 0_B, Algorithm::tree},
                                            {"mpi", 16, Bytes(1ull << 40), Algorithm::native},
                                            {"shm", 2, 1_B, Algorithm::halving}}}) {
    const auto again = parse_choice_table(print_choice_table(table), "printed");
    REQUIRE_OK(again);
    REQUIRE(*again == table);
  }
}

TEST_CASE("every mistake is told with its line") {
  CHECK(failure_of("* 1 0 ring\ntcp 2 doubling\n").message() ==
        "table:2 -> 3 columns instead of four: transport ranks_at_least bytes_at_least algorithm");
  CHECK(failure_of("* 1 0 ring\n\n# x\nrdma 2 0 ring").message() ==
        "table:4 -> transport 'rdma' is unknown; valid: shm, tcp, mpi, *");
  CHECK(failure_of("* 1 0 ring\ntcp 0 0 ring").message() ==
        "table:2 -> ranks_at_least '0' is not a number of at least 1");
  CHECK(failure_of("* 1 0 ring\ntcp 2 64K ring").message() ==
        "table:2 -> bytes_at_least '64K' is not a number of at least 0");
  CHECK(failure_of("* 1 0 ring\ntcp 2 -1 ring").message() ==
        "table:2 -> bytes_at_least '-1' is not a number of at least 0");
  CHECK(failure_of("* 1 0 ring\ntcp 2 0 gossip").message() ==
        "table:2 -> algorithm 'gossip' is unknown; valid: ring, doubling, halving, tree, native");
  CHECK(failure_of("* 1 0 ring\ntcp 2 0 native").message() ==
        "table:2 -> algorithm native works over transport mpi only, not 'tcp'");
  CHECK(failure_of("tcp 1 0 ring\n").message() ==
        "table:1 -> the first row must fit everything: * 1 0 ALGORITHM");
  CHECK(failure_of("# nothing\n").message() ==
        "table -> holds no row of transport ranks_at_least bytes_at_least algorithm");
  for (const char* text : {"", "* 1 0 ring x", "* 1 0 native", "* 2 0 ring", "* 1 9 ring"}) {
    INFO(text);
    CHECK(failure_of(text).code() == ErrorCode::invalid_argument);
  }
}

TEST_CASE("a file is read, and one that is not there is named") {
  const auto path =
      std::filesystem::temp_directory_path() / ("choice-test-" + std::to_string(getpid()) + ".txt");
  std::ofstream(path) << "* 1 0 tree\n* x 0 ring\n";
  const auto bad = read_choice_table(path.string()).status();
  CHECK(bad.message().starts_with(path.string() + ":2 -> ranks_at_least 'x'"));
  std::ofstream(path) << "* 1 0 tree\n";
  const auto table = read_choice_table(path.string());
  std::filesystem::remove(path);
  REQUIRE_OK(table);
  REQUIRE(*table == ChoiceTable{{"*", 1, 0_B, Algorithm::tree}});
  const auto missing = read_choice_table(path.string()).status();
  CHECK(missing.code() == ErrorCode::invalid_argument);
  CHECK(missing.message().find(path.string()) != std::string::npos);
}

TEST_CASE("the last row that fits wins; native only where it is possible") {
  const ChoiceTable table = {{"*", 1, 0_B, Algorithm::ring},
                             {"tcp", 2, 0_B, Algorithm::doubling},
                             {"tcp", 2, 1000_B, Algorithm::halving},
                             {"tcp", 8, 0_B, Algorithm::tree},
                             {"mpi", 2, 0_B, Algorithm::native}};
  CHECK(choose(table, 2, 0_B, "tcp", false) == Algorithm::doubling);
  CHECK(choose(table, 2, 999_B, "tcp", false) == Algorithm::doubling);
  CHECK(choose(table, 2, 1000_B, "tcp", false) == Algorithm::halving);
  CHECK(choose(table, 7, 5000_B, "tcp", false) == Algorithm::halving);
  CHECK(choose(table, 8, 5000_B, "tcp", false) == Algorithm::tree);
  CHECK(choose(table, 1, 5000_B, "tcp", false) == Algorithm::ring);
  CHECK(choose(table, 8, 5000_B, "shm", false) == Algorithm::ring);
  CHECK(choose(table, 8, 5000_B, "mpi", true) == Algorithm::native);
  CHECK(choose(table, 8, 5000_B, "mpi", false) == Algorithm::ring);
}

}  // namespace
