// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/wire.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

bool exists(const std::string& name) {
  return std::filesystem::exists("/run/netns/" + name) ||
         std::filesystem::exists("/var/run/netns/" + name);
}

}  // namespace

TEST_CASE("the script makes a hub, and a limited port a rank") {
  const std::string script = wire_script("10gbit", 3, "x");
  REQUIRE(contains(script, "ip netns add x-hub"));
  for (const char* line : {"ip netns add x-0", "ip netns add x-2", "10.213.0.3/24",
                           "tc -n x-1 qdisc add dev eth0 root tbf rate 10gbit"}) {
    INFO(line);
    REQUIRE(contains(script, line));
  }
  REQUIRE_FALSE(contains(script, "x-3"));
}

TEST_CASE("namespaces come and go with the wire; a bad rate leaves nothing behind") {
  const std::string prefix = "arbtest" + std::to_string(getpid());
  const std::string log = (std::filesystem::temp_directory_path() / (prefix + ".log")).string();
  {
    auto wire = Wire::make("1gbit", 2, prefix, log);
    if (!wire.ok()) {
      REQUIRE(wire.status().code() == dist::ErrorCode::unavailable);
      REQUIRE_FALSE(exists(prefix + "-0"));
      std::filesystem::remove(log);
      dist::test::skip(wire.status().message());
    }
    REQUIRE(exists(prefix + "-0"));
    const Network network = (*wire)->network();
    REQUIRE(network.contest == "1gbit");
    REQUIRE(network.addresses == std::vector<std::string>{"10.213.0.1", "10.213.0.2"});
    REQUIRE(network.enter[1] == std::vector<std::string>{"ip", "netns", "exec", prefix + "-1"});
  }
  REQUIRE_FALSE(exists(prefix + "-0"));
  REQUIRE_FALSE(exists(prefix + "-hub"));
  REQUIRE_FALSE(Wire::make("no-rate", 2, prefix, log).ok());
  REQUIRE_FALSE(exists(prefix + "-0"));
  std::filesystem::remove(log);
}
