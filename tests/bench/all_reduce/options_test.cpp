// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/options.h"

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

// Parses words after the program's name; requires that it goes on.
AllReduceBenchOptions parsed(std::vector<const char*> words) {
  words.insert(words.begin(), "all_reduce_bench");
  AllReduceBenchOptions options;
  const auto code = parse_all_reduce_options(static_cast<int>(words.size()), words.data(), options);
  REQUIRE_FALSE(code.has_value());
  return options;
}

std::string complaint_of(std::vector<const char*> words) {
  auto options = parsed(std::move(words));
  const auto status = validate(options);
  REQUIRE_FALSE(status.ok());
  return status.message();
}

}  // namespace

TEST_CASE("sizes are bytes or binary units") {
  REQUIRE(*parse_size("4096") == 4096);
  REQUIRE(*parse_size("64K") == 65536);
  REQUIRE(*parse_size("528M") == 553648128);
  REQUIRE(*parse_size("2G") == std::uint64_t{2} << 30);
  for (const char* bad : {"", "K", "4KB", "-4", "0", "6", "1.5M", "99999999999999999999"}) {
    INFO(bad);
    REQUIRE_FALSE(parse_size(bad).ok());
  }
}

TEST_CASE("sizes are told in the largest unit that divides them") {
  REQUIRE(size_text(4096) == "4 KiB");
  REQUIRE(size_text(553648128) == "528 MiB");
  REQUIRE(size_text(std::uint64_t{2} << 30) == "2 GiB");
  REQUIRE(size_text(1000) == "1000 B");
}

TEST_CASE("lists are comma-separated") {
  auto options = parsed({"--ranks", "2,4,8", "--bytes", "4K,1M", "--peers", "mpich,gloo",
                         "--touched", "yes", "--tuned"});
  REQUIRE_OK(validate(options));
  REQUIRE(options.ranks == std::vector<int>{2, 4, 8});
  REQUIRE(options.bytes == std::vector<std::uint64_t>{4096, 1 << 20});
  REQUIRE(options.peers == std::vector<std::string>{"mpich", "gloo"});
  REQUIRE(options.tuned);
  REQUIRE(touched_modes(options) == std::vector<bool>{true});
}

TEST_CASE("by default both modes are measured, untouched first") {
  REQUIRE(touched_modes(AllReduceBenchOptions{}) == std::vector<bool>{false, true});
}

TEST_CASE("bad values are named") {
  REQUIRE(complaint_of({"--ranks", "1"}).find("--ranks") != std::string::npos);
  REQUIRE(complaint_of({"--ranks", "65"}).find("2 to 64") != std::string::npos);
  REQUIRE(complaint_of({"--bytes", "4K,7"}).find("'7'") != std::string::npos);
  REQUIRE(complaint_of({"--rounds", "0"}).find("--rounds") != std::string::npos);
  REQUIRE(complaint_of({"--timeout", "0"}).find("--timeout") != std::string::npos);
}

TEST_CASE("unknown libraries, peers and options end the program") {
  const std::vector<std::pair<const char*, const char*>> bad = {
      {"--peers", "nccl"}, {"--libraries", "horovod"}, {"--transports", "rdma"}, {"--no", "such"}};
  for (const auto& [name, value] : bad) {
    const char* words[] = {"all_reduce_bench", name, value};
    AllReduceBenchOptions options;
    REQUIRE(parse_all_reduce_options(3, words, options) == 1);
  }
}
