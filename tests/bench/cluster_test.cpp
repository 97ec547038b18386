// SPDX-License-Identifier: Apache-2.0
#include "bench/cluster.h"

#include "tests/support/catch.h"

using dist::bench::read_cluster;
using dist::test::Approx;

namespace {

std::string path_of(const char* name) { return std::string(DIST_CLUSTERS) + "/" + name; }

}  // namespace

TEST_CASE("the shipped clusters know the models of document 002 and admit that they are assumed") {
  for (const char* name : {"k80.json", "p100.json"}) {
    const auto cluster = read_cluster(path_of(name));
    REQUIRE_OK(cluster);
    REQUIRE(cluster->name.find("(assumed)") != std::string::npos);
    for (const char* model : {"vgg16", "vgg19", "resnet50", "resnet152", "inception_v4"}) {
      REQUIRE_OK(cluster->step_ms_at(model, 32));
    }
  }
}

TEST_CASE("step times follow from the images/s that the file cites") {
  const auto cluster = read_cluster(path_of("k80.json"));
  REQUIRE(*cluster->step_ms_at("resnet50", 32) == Approx(32 / 49.0 * 1000).epsilon(1e-3));
  REQUIRE(*cluster->step_ms_at("vgg16", 32) == Approx(32 / 36.3 * 1000).epsilon(1e-3));
}

TEST_CASE("another batch takes time in proportion") {
  const auto cluster = read_cluster(path_of("p100.json"));
  REQUIRE(*cluster->step_ms_at("vgg16", 8) == Approx(*cluster->step_ms_at("vgg16", 32) / 4));
}

TEST_CASE("an unknown model lists the known ones; a missing or foreign file is an error") {
  const auto cluster = read_cluster(path_of("k80.json"));
  const auto unknown = cluster->step_ms_at("lenet", 32);
  REQUIRE_FALSE(unknown.ok());
  REQUIRE(unknown.status().message().find("resnet50") != std::string::npos);
  REQUIRE_FALSE(read_cluster(path_of("none.json")).ok());
  REQUIRE_FALSE(read_cluster(__FILE__).ok());
}
