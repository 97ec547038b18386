// SPDX-License-Identifier: Apache-2.0
#include "bench/provenance.h"

#include <regex>

#include "libdist/dist.h"
#include "tests/support/catch.h"

TEST_CASE("a record says on which machine, by which program and when it was made") {
  const auto record = dist::bench::provenance("scaling --out x");
  REQUIRE(record["command"] == "scaling --out x");
  REQUIRE(record["library_version"] == std::string(dist::version()));
  REQUIRE(record["cores"].get<int>() == dist::bench::usable_cores());
  REQUIRE(record["cores"].get<int>() >= 1);
  REQUIRE(record["memory_gib"].get<double>() > 0);
  for (const char* key : {"machine", "cpu", "os", "kernel", "compiler"}) {
    INFO(key);
    REQUIRE_FALSE(record[key].get<std::string>().empty());
  }
  REQUIRE(std::regex_match(record["date"].get<std::string>(),
                           std::regex(R"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)")));
  REQUIRE((record["git_commit"].is_null() || record["git_commit"].is_string()));
}
