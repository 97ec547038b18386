// SPDX-License-Identifier: Apache-2.0
// Profiles: written, read back, made up, refused.
#include "examples/nn/profile.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <limits>

#include "examples/models/models.h"
#include "tests/support/catch.h"

using namespace nn;

namespace {

// A file of this process in the working directory, gone at the end.
struct TemporaryFile {
  TemporaryFile() : path("profile_test_" + std::to_string(::getpid()) + ".json") {}
  ~TemporaryFile() { std::remove(path.c_str()); }
  void write(const std::string& text) const { std::ofstream(path) << text; }

  std::string path;
};

Graph small_cnn() { return models::make_model("small_cnn").value(); }

}  // namespace

TEST_CASE("a profile survives the file") {
  const TemporaryFile file;
  Profile profile = estimate_profile(small_cnn(), 8);
  profile.backend = "onednn";
  profile.machine = "a \"machine\", 2 cores";
  REQUIRE_OK(write_profile(profile, file.path));
  const auto read = read_profile(file.path);
  REQUIRE_OK(read);
  CHECK(read->model == "small_cnn");
  CHECK(read->image == 32);
  CHECK(read->batch == 8);
  CHECK(read->backend == "onednn");
  CHECK(read->machine == profile.machine);
  REQUIRE(read->nodes.size() == profile.nodes.size());
  for (std::size_t i = 0; i < read->nodes.size(); ++i) {
    CHECK(read->nodes[i].name == profile.nodes[i].name);
    CHECK(read->nodes[i].forward_ns == dist::test::Approx(profile.nodes[i].forward_ns));
    CHECK(read->nodes[i].backward_ns == dist::test::Approx(profile.nodes[i].backward_ns));
  }
  REQUIRE_OK(check_profile(*read, small_cnn()));
}

TEST_CASE("the estimate follows its formula") {
  const Graph graph = small_cnn();
  const Profile profile = estimate_profile(graph, 2);
  CHECK(profile.machine == "estimated");
  CHECK(profile.nodes[0].forward_ns == 0);
  // conv1: 16 x 32 x 32 outputs of 27 taps; 3 x 32 x 32 in; 448 parameters.
  const double forward_ns = 2.0 * 16384 * 27 * 2 / 100 + 4.0 * ((16384 + 3072) * 2 + 448) / 10;
  CHECK(profile.nodes[1].forward_ns == dist::test::Approx(forward_ns));
  CHECK(profile.nodes[1].backward_ns == dist::test::Approx(2 * forward_ns));
  // relu1: reads and writes.
  CHECK(profile.nodes[2].forward_ns == dist::test::Approx(4.0 * 2 * 16384 * 2 / 10));
  CHECK(profile.nodes[2].backward_ns == profile.nodes[2].forward_ns);
  CHECK(profile.total_ns() > 3 * forward_ns);
}

TEST_CASE("a profile of another model or with impossible times is refused") {
  const Graph graph = small_cnn();
  const Graph vgg = models::make_model("vgg16", {.image = 32}).value();
  const auto refused = check_profile(estimate_profile(vgg, 1), graph);
  CHECK(refused.code() == dist::ErrorCode::invalid_argument);
  CHECK(refused.message().find("vgg16") != std::string::npos);

  Profile profile = estimate_profile(graph, 1);
  profile.nodes[3].name = "other";
  CHECK(check_profile(profile, graph).message().find("other") != std::string::npos);
  profile = estimate_profile(graph, 1);
  profile.nodes[3].forward_ns = -1;
  CHECK_FALSE(check_profile(profile, graph).ok());
  profile.nodes[3].forward_ns = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(check_profile(profile, graph).ok());
}

TEST_CASE("files that are missing, broken or something else are told by name") {
  const TemporaryFile file;
  const auto message = [&] {
    const auto read = read_profile(file.path);
    REQUIRE_FALSE(read.ok());
    CHECK(read.status().message().find(file.path) != std::string::npos);
    return read.status().message();
  };
  CHECK(message().find("cannot be opened") != std::string::npos);
  file.write("{ not json");
  message();
  file.write(R"({"record": "train"})");
  CHECK(message().find("record") != std::string::npos);
  file.write(R"({"record": "profile", "model": "m", "image": 3})");
  CHECK(message().find("batch") != std::string::npos);
  file.write(R"([1, 2])");
  message();
  CHECK_FALSE(write_profile(estimate_profile(small_cnn(), 1), "/nonexistent/profile.json").ok());
}
