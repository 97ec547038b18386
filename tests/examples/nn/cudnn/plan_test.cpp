// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/plan.h"

#include <algorithm>
#include <numeric>

#include "examples/models/models.h"
#include "tests/support/catch.h"

using namespace nn;
using namespace nn::cudnn;

namespace {

Graph finished(GraphBuilder&& g) { return std::move(g).finish().value(); }

std::size_t node_named(const Graph& graph, std::string_view name) {
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].name == name) return i;
  }
  FAIL("no node " << name);
  return 0;
}

const Group& group_of(const std::vector<Group>& groups, std::size_t node) {
  const auto found = std::find_if(groups.begin(), groups.end(),
                                  [&](const Group& group) { return group.node == node; });
  REQUIRE(found != groups.end());
  return *found;
}

// Two convolutions with batch norms, joined: by an Add with or without a ReLU.
Graph block(bool norm_on_both, bool relu) {
  GraphBuilder g("block", {8, 6, 6});
  const auto x = g.relu("x", g.conv("before", GraphBuilder::input(), {8, square(1), true}));
  const auto a = g.batch_norm("norm a", g.conv("conv a", x, {8, square(1)}));
  const auto b = norm_on_both ? g.batch_norm("norm b", g.conv("conv b", x, {8, square(1)})) : x;
  auto y = g.add("add", a, b);
  if (relu) y = g.relu("relu", y);
  g.softmax_loss("loss", g.dense("classifier", y, {5}));
  return finished(std::move(g));
}

}  // namespace

TEST_CASE("channels are padded to blocks of eight") {
  CHECK(padded(1) == 8);
  CHECK(padded(3) == 8);
  CHECK(padded(8) == 8);
  CHECK(padded(1000) == 1000);
  CHECK(padded(1001) == 1008);
}

TEST_CASE("a batch norm takes in the ReLU, or the Add and the ReLU, that follow it") {
  const Graph graph = block(false, true);
  const auto groups = fuse(graph);
  const Group& norm = group_of(groups, node_named(graph, "norm a"));
  CHECK(norm.relu);
  CHECK(norm.output == node_named(graph, "relu"));
  CHECK(norm.residual == node_named(graph, "x"));
  CHECK(norm.inputs == std::vector<std::size_t>{node_named(graph, "conv a"), norm.residual});
  const Group& before = group_of(groups, node_named(graph, "before"));
  CHECK(before.relu);
  CHECK(before.output == norm.residual);
  CHECK(groups.size() == 5);  // before, conv a, norm a, classifier, loss
}

TEST_CASE("where both sides are batch norms, the first takes the Add and waits for the other") {
  const Graph graph = block(true, true);
  const auto groups = fuse(graph);
  const Group& a = group_of(groups, node_named(graph, "norm a"));
  const Group& b = group_of(groups, node_named(graph, "norm b"));
  CHECK(a.residual == b.node);
  CHECK_FALSE(b.relu);
  CHECK(&a > &b);
}

TEST_CASE("what others read, or what no ReLU follows, is not taken in") {
  const Graph plain = block(false, false);
  CHECK(group_of(fuse(plain), node_named(plain, "norm a")).output == node_named(plain, "norm a"));

  GraphBuilder g("two readers", {8, 6, 6});
  const auto norm = g.batch_norm("norm", GraphBuilder::input());
  g.softmax_loss("loss", g.dense("classifier", g.add("add", norm, g.relu("relu", norm)), {5}));
  const Graph graph = finished(std::move(g));
  const auto groups = fuse(graph);
  CHECK(groups.size() == 5);
  CHECK_FALSE(group_of(groups, node_named(graph, "norm")).relu);

  GraphBuilder own("own input", {8, 6, 6});
  const auto x = own.conv("conv", GraphBuilder::input(), {8, square(1)});
  const auto sum = own.add("add", own.batch_norm("norm", x), x);
  own.softmax_loss("loss", own.dense("classifier", own.relu("relu", sum), {5}));
  const Graph shared = finished(std::move(own));
  CHECK(group_of(fuse(shared), node_named(shared, "norm")).residual == kNone);
}

TEST_CASE("in every model each node runs once, after what it reads") {
  for (const std::string& name : models::model_names()) {
    INFO(name);
    const Graph graph = models::make_model(name).value();
    const auto groups = fuse(graph);
    std::vector<bool> made(graph.nodes.size(), false), seen(graph.nodes.size(), false);
    made[0] = true;
    for (const Group& group : groups) {
      for (const std::size_t input : group.inputs) CHECK(made[input]);
      made[group.output] = true;
      CHECK_FALSE(seen[group.node]);
      seen[group.node] = true;
    }
    CHECK(made.back());
    if (name != "resnet50") continue;
    // No ReLU and no Add is left: 53 convolutions and batch norms, two pools, dense and loss.
    CHECK(groups.size() == 53 + 53 + 2 + 2);
  }
}

TEST_CASE("what is alive at the same moment has a place of its own") {
  for (const std::string& name : models::model_names()) {
    INFO(name);
    const Graph graph = models::make_model(name).value();
    const StepPlan plan = plan_step(graph, 2, 2);
    const std::size_t count = plan.groups.size();
    for (std::size_t g = 0; g < count; ++g) {
      const Group& group = plan.groups[g];
      const auto alive = [&](const Place& place, std::int64_t moment) {
        REQUIRE(place.buffer != kNone);
        const Lifetime& lifetime = plan.lifetimes[place.buffer];
        return lifetime.first <= moment && moment <= lifetime.last;
      };
      const auto forward = plan.forward_moment(g);
      const auto backward = plan.backward_moment(g);
      CHECK(alive(plan.activation[group.output], forward));
      for (const std::size_t input : group.inputs) {
        CHECK(alive(plan.activation[input], forward));
        if (input == 0) {
          CHECK(plan.gradient[input].buffer == kNone);
          continue;
        }
        CHECK(alive(plan.gradient[input], backward));
        CHECK(plan.gradient[input].buffer != plan.activation[group.output].buffer);
      }
      const Layer& layer = graph.nodes[group.node].layer;
      if (std::holds_alternative<Conv>(layer) || std::holds_alternative<BatchNorm>(layer)) {
        CHECK(alive(plan.activation[group.inputs[0]], backward));
      }
      if (g + 1 < count) CHECK(alive(plan.gradient[group.output], backward));
    }
    const auto loss_input = plan.groups.back().inputs[0];
    CHECK(plan.lifetimes[plan.gradient[loss_input].buffer].first == plan.forward_moment(count - 1));
  }
}

TEST_CASE("branches with their own kernels lie within what joins them") {
  const Graph graph = models::make_model("inception_v4").value();
  const StepPlan plan = plan_step(graph, 2, 2);
  const std::size_t join = node_named(graph, "a1.join");
  std::int64_t channel = 0;
  for (const std::size_t input : graph.nodes[join].inputs) {
    CHECK(plan.activation[input].buffer == plan.activation[join].buffer);
    CHECK(plan.gradient[input].buffer == plan.gradient[join].buffer);
    CHECK(plan.activation[input].channel == channel);
    CHECK(plan.activation[input].pitch == 384);
    channel += graph.nodes[input].shape.channels;
  }
  // The joined tensor lives from its first branch on.
  const Lifetime& lifetime = plan.lifetimes[plan.activation[join].buffer];
  const auto first =
      std::min_element(plan.groups.begin(), plan.groups.end(), [&](const Group& a, const Group& b) {
        return (plan.activation[a.output].buffer == plan.activation[join].buffer) >
               (plan.activation[b.output].buffer == plan.activation[join].buffer);
      });
  CHECK(lifetime.first == first - plan.groups.begin());
}

TEST_CASE("a pass is cut into pieces of about equal parameters") {
  using Cuts = std::vector<std::pair<std::size_t, std::size_t>>;
  CHECK(cut_pass({5, 0, 5, 0, 5, 5}, 1) == Cuts{{0, 6}});
  CHECK(cut_pass({5, 0, 5, 0, 5, 5}, 2) == Cuts{{0, 4}, {4, 6}});
  CHECK(cut_pass({5, 0, 5, 0, 5, 5}, 4) == Cuts{{0, 2}, {2, 4}, {4, 5}, {5, 6}});
  CHECK(cut_pass({1, 1, 100}, 3) == Cuts{{0, 1}, {1, 2}, {2, 3}});
  CHECK(cut_pass({1, 1}, 9).size() <= 9);
  CHECK(cut_pass({0, 0, 0}, 1) == Cuts{{0, 3}});
  for (int pieces = 1; pieces < 12; ++pieces) {
    const std::vector<std::uint64_t> bytes{7, 0, 3, 9, 0, 0, 20, 1};
    std::size_t next = 0;
    for (const auto& [begin, end] : cut_pass(bytes, pieces)) {
      CHECK(begin == next);
      CHECK(begin < end);
      next = end;
    }
    CHECK(next == bytes.size());
  }
}
