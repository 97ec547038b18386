// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/variant.h"

#include "tests/support/catch.h"

using namespace dist::bench;

namespace {

Variant named(const char* name) { return variant_named(name).value(); }

}  // namespace

TEST_CASE("policies by name") {
  CHECK(named("sync").strategy == "sync-ps");
  CHECK(named("ring").strategy == "ring");
  CHECK(named("backup").backup_workers == 1);
  CHECK(named("backup:2").backup_workers == 2);
  CHECK(named("async").staleness == dist::kUnlimitedStaleness);
  CHECK(named("bounded:4").strategy == "async-ps");
  CHECK(named("bounded:4").staleness == 4);
  CHECK(named("bounded:4").name == "bounded:4");
}

TEST_CASE("extras by name") {
  const auto variant = named("bounded:16+rate+dc:0.5+push:top-k+pull:bf16+lr:0.25");
  CHECK(variant.staleness == 16);
  CHECK(variant.staleness_rate);
  CHECK(variant.delay_compensation == 0.5);
  CHECK(variant.compress == "top-k");
  CHECK(variant.compress_pull == "bf16");
  CHECK(variant.rate_factor == 0.25);
  dist::Options options;
  REQUIRE_OK(variant.apply(&options));
  CHECK(options.staleness == 16);
  CHECK(options.staleness_rate);
  CHECK(options.delay_compensation == 0.5);
  CHECK(options.compress == "top-k");
  CHECK(options.compress_pull == "bf16");
}

TEST_CASE("a learning rate for updates on arrival is that of the mean over the workers") {
  CHECK(named("sync").rate_for(4) == 1);
  CHECK(named("ring").rate_for(4) == 1);
  CHECK(named("backup").rate_for(4) == 1);
  CHECK(named("bounded:0").rate_for(4) == 1);  // sync
  CHECK(named("bounded:1").rate_for(4) == 0.25);
  CHECK(named("async").rate_for(8) == 0.125);
  CHECK(named("async+rate").rate_for(4) == 1);
  CHECK(named("async+lr:0.5").rate_for(4) == 0.5);
}

TEST_CASE("what is no name is refused, with the names there are") {
  for (const char* name :
       {"", "nonsense", "sync:1", "bounded", "bounded:", "bounded:x", "bounded:-1", "async:2",
        "backup:0", "async+", "async+rate:1", "async+dc", "async+dc:0", "async+push", "async+lr:x",
        "sync+push:gzip", "+rate", "async++rate"}) {
    INFO(name);
    const auto variant = variant_named(name);
    REQUIRE_FALSE(variant.ok());
    CHECK(variant.status().message().find("bounded:S") != std::string::npos);
  }
}
