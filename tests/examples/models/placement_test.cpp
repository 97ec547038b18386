// SPDX-License-Identifier: Apache-2.0
// How evenly the parameters of the five models lie on parameter servers.
#include "examples/models/models.h"
#include "libdist/bucket/arena.h"
#include "ps/shard.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;

Arena arena_of(const nn::Graph& graph) {
  std::vector<Parameter> list;
  for (const auto index : graph.backward_order()) {
    const auto& info = graph.parameters[index];
    list.push_back({info.name, Elems(info.elements())});
  }
  return Arena::create(std::move(list)).value();
}

TEST_CASE("the five models lie on 1 to 8 servers with an imbalance of at most 1.05") {
  const Options defaults;
  for (const auto* name : {"vgg16", "vgg19", "resnet50", "resnet152", "inception_v4"}) {
    const auto graph = nn::models::make_model(name).value();
    const auto arena = arena_of(graph);
    const auto buckets = make_buckets(arena, {defaults.bucket_bytes, defaults.first_bucket_bytes});
    for (int servers = 1; servers <= 8; ++servers) {
      INFO(name << " on " << servers << " servers");
      const double found = ps::imbalance(ps::make_shard_map(buckets, {.servers = servers}));
      CAPTURE(found);
      REQUIRE(found >= 1);
      REQUIRE(found <= 1.05);
    }
  }
}

}  // namespace
