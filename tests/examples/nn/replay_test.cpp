// SPDX-License-Identifier: Apache-2.0
// Replay: the real parameter list and order, the profile's times, no arithmetic.
#include <unistd.h>

#include <cstdio>
#include <thread>

#include "examples/models/models.h"
#include "examples/nn/profile.h"
#include "tests/examples/replica.h"
#include "tests/support/catch.h"

using namespace nn;

namespace {

Graph small_cnn() { return models::make_model("small_cnn").value(); }

dist::Duration time_of(const std::function<void()>& act) {
  const auto start = dist::Clock::now();
  act();
  return dist::Clock::now() - start;
}

}  // namespace

TEST_CASE("replay has the graph's parameters in backward order and calls ready in that order") {
  const Graph graph = models::make_model("resnet50").value();
  const test::Replica replica = test::make_replica("replay", graph, {.batch = 1, .step_ms = 1});
  const std::vector<std::size_t> order = graph.backward_order();
  REQUIRE(replica->parameters().size() == order.size());
  std::uint64_t elements = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    CHECK(replica->parameters()[i].name == graph.parameters[order[i]].name);
    elements += replica->parameters()[i].elements.value;
  }
  CHECK(elements == 25'557'032);

  CHECK(replica->forward({}, Mode::train) == 0);
  std::size_t next = 0;
  replica->backward([&](std::size_t i) { CHECK(i == next++); });
  CHECK(next == order.size());
}

TEST_CASE("a step lasts at least what was asked, and forward and backward their parts") {
  const Graph graph = small_cnn();
  const test::Replica replica =
      test::make_replica("replay", graph, {.batch = 1, .timing = true, .step_ms = 30});
  double forward_ns = 0;
  double backward_ns = 0;
  for (const LayerTime& time : replica->layer_times()) {
    forward_ns += time.forward_ns;
    backward_ns += time.backward_ns;
  }
  CHECK(forward_ns + backward_ns == dist::test::Approx(30e6));
  CHECK(static_cast<double>(time_of([&] { replica->forward({}, Mode::train); }).count()) >=
        forward_ns - 1);
  CHECK(static_cast<double>(time_of([&] { replica->backward([](std::size_t) {}); }).count()) >=
        backward_ns - 1);
}

TEST_CASE("no gradient is ready before its layer's time") {
  const Graph graph = small_cnn();
  Profile profile = estimate_profile(graph, 1);
  for (LayerTime& time : profile.nodes) {
    time.forward_ns = 0;
    time.backward_ns = time.name == "fc5" ? 5e6 : time.name == "conv2" ? 20e6 : 0;
  }
  const std::string path = "replay_test_" + std::to_string(::getpid()) + ".json";
  REQUIRE_OK(write_profile(profile, path));
  const test::Replica replica = test::make_replica("replay", graph, {.batch = 1, .profile = path});
  std::remove(path.c_str());
  const auto start = dist::Clock::now();
  replica->backward([&](std::size_t i) {
    const std::string& name = replica->parameters()[i].name;
    const auto elapsed = dist::Clock::now() - start;
    INFO(name);
    CHECK(elapsed >= std::chrono::milliseconds(5));
    if (name.starts_with("conv2") || name.starts_with("conv1")) {
      CHECK(elapsed >= std::chrono::milliseconds(25));
    }
  });
}

TEST_CASE("a layer that waits for its parameters delays the rest of the forward pass") {
  const test::Replica replica =
      test::make_replica("replay", small_cnn(), {.batch = 1, .timing = true, .step_ms = 10});
  double forward_ns = 0;
  for (const LayerTime& time : replica->layer_times()) forward_ns += time.forward_ns;
  std::vector<int> calls(replica->parameters().size(), 0);
  const auto spent = time_of([&] {
    replica->forward({}, Mode::train, [&](std::size_t i) {
      ++calls.at(i);
      std::this_thread::sleep_for(std::chrono::milliseconds(i + 1 == calls.size() ? 5 : 0));
    });
  });
  CHECK(calls == std::vector<int>(calls.size(), 1));
  CHECK(static_cast<double>(spent.count()) >= forward_ns + 5e6 - 1);
}

TEST_CASE("replay leaves parameters and gradients alone") {
  const test::Replica replica =
      test::make_replica("replay", small_cnn(), {.batch = 1, .step_ms = 0.1});
  replica->initialize(1);
  for (const double value : replica->plain_parameter(0)) REQUIRE(value == 0);
  std::vector<double> values(replica->parameters()[0].elements.value, 0.5);
  replica->set_plain_parameter(0, values);
  replica->forward({}, Mode::train);
  replica->backward([](std::size_t) {});
  CHECK(replica->plain_parameter(0) == values);
  for (const double value : replica->plain_gradient(0)) REQUIRE(value == 0);
}

TEST_CASE("what cannot be replayed is told") {
  const Graph graph = small_cnn();
  const auto missing = make_network("replay", graph, {.batch = 1, .profile = "/no/such/file"});
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.status().message().find("/no/such/file") != std::string::npos);
  CHECK_FALSE(make_network("replay", graph, {.batch = 1, .step_ms = -1}).ok());
  auto network = make_network("replay", graph, {.batch = 1}).value();
  CHECK_FALSE(network->bind({}, {}).ok());
}
