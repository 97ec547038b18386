// SPDX-License-Identifier: Apache-2.0
// No two buffers alive at once overlap; in place only where it is legal; the totals stay small.
#include "examples/nn/memory_plan.h"

#include <algorithm>

#include "examples/models/models.h"
#include "examples/nn/random.h"
#include "tests/support/catch.h"

using namespace nn;

namespace {

bool alive_together(const Lifetime& a, const Lifetime& b) {
  return a.first <= b.last && b.first <= a.last;
}

void check_plan(const std::vector<Lifetime>& lifetimes, const MemoryPlan& plan,
                std::uint64_t alignment) {
  REQUIRE(plan.offsets.size() == lifetimes.size());
  for (std::size_t i = 0; i < lifetimes.size(); ++i) {
    REQUIRE(plan.offsets[i] % alignment == 0);
    REQUIRE(plan.offsets[i] + lifetimes[i].bytes <= plan.total_bytes);
    for (std::size_t k = 0; k < i; ++k) {
      const bool apart = plan.offsets[i] + lifetimes[i].bytes <= plan.offsets[k] ||
                         plan.offsets[k] + lifetimes[k].bytes <= plan.offsets[i];
      REQUIRE((apart || !alive_together(lifetimes[i], lifetimes[k])));
    }
  }
}

std::uint64_t peak_bytes(const std::vector<Lifetime>& lifetimes) {
  std::uint64_t peak = 0;
  for (const Lifetime& at : lifetimes) {
    std::uint64_t sum = 0;
    for (const Lifetime& l : lifetimes) {
      if (l.first <= at.first && at.first <= l.last) sum += l.bytes;
    }
    peak = std::max(peak, sum);
  }
  return peak;
}

std::vector<std::uint64_t> float_bytes(const Graph& graph, std::int64_t batch) {
  std::vector<std::uint64_t> bytes;
  for (const Node& node : graph.nodes) {
    bytes.push_back(static_cast<std::uint64_t>(4 * batch * node.shape.elements()));
  }
  return bytes;
}

// The buffers of "input -> conv -> relu -> ..." by node name.
struct Named {
  explicit Named(const Graph& g) : graph(g), buffers(plan_buffers(g, float_bytes(g, 1))) {}

  std::size_t index(const std::string& name) const {
    const auto node = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                   [&](const Node& n) { return n.name == name; });
    REQUIRE(node != graph.nodes.end());
    return static_cast<std::size_t>(node - graph.nodes.begin());
  }
  std::size_t activation(const std::string& name) const { return buffers.activation[index(name)]; }
  std::size_t gradient(const std::string& name) const { return buffers.gradient[index(name)]; }

  Graph graph;
  TrainingBuffers buffers;
};

}  // namespace

TEST_CASE("random lifetimes never overlap, at any alignment") {
  for (std::uint64_t round = 0; round < 200; ++round) {
    std::vector<Lifetime> lifetimes;
    const std::uint64_t count = random_bits(1, round, 0) % 40;
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto first = static_cast<std::int64_t>(random_bits(2, round, i) % 30);
      const auto length = static_cast<std::int64_t>(random_bits(3, round, i) % 10);
      lifetimes.push_back({random_bits(4, round, i) % 1000, first, first + length});
    }
    for (const std::uint64_t alignment : {1, 64}) {
      const MemoryPlan plan = plan_memory(lifetimes, alignment);
      check_plan(lifetimes, plan, alignment);
      CHECK(plan.total_bytes >= peak_bytes(lifetimes));
    }
  }
}

TEST_CASE("disjoint lifetimes share, meeting ones stack") {
  CHECK(plan_memory({}).total_bytes == 0);
  CHECK(plan_memory({{100, 0, 1}, {100, 2, 3}, {60, 4, 9}}).total_bytes == 128);
  CHECK(plan_memory({{100, 0, 2}, {100, 2, 3}}).total_bytes == 256);
  const MemoryPlan hole = plan_memory({{256, 0, 9}, {192, 0, 4}, {64, 0, 9}, {128, 5, 9}});
  CHECK(hole.total_bytes == 512);  // the last fits where the second was
}

TEST_CASE("ReLU, dropout and Add work in place where nobody else looks") {
  GraphBuilder g("places", {2, 6, 6});
  const std::size_t a = g.conv("a", GraphBuilder::input(), {.out_channels = 2});
  const std::size_t relu_a = g.relu("relu_a", a);
  const std::size_t b = g.conv("b", relu_a, {.out_channels = 2});
  const std::size_t sum = g.add("sum", b, relu_a);
  const std::size_t relu_sum = g.relu("relu_sum", sum);
  const std::size_t c = g.relu("c", relu_sum);
  const std::size_t fc = g.dense("fc", c, {.out = 4});
  const std::size_t drop = g.dropout("drop", g.relu("relu_fc", fc), 0.5);
  g.softmax_loss("loss", drop);
  const Named at(std::move(g).finish().value());

  CHECK(at.activation("relu_a") == at.activation("a"));
  CHECK(at.activation("relu_sum") == at.activation("sum"));
  CHECK(at.activation("c") != at.activation("relu_sum"));  // both ReLUs need their output
  CHECK(at.activation("relu_fc") == at.activation("fc"));
  CHECK(at.activation("drop") == at.activation("relu_fc"));
  CHECK(at.activation("a") != at.activation("input"));

  CHECK(at.gradient("a") == at.gradient("relu_a"));
  CHECK(at.gradient("b") == at.gradient("sum"));       // its only reader is the Add
  CHECK(at.gradient("relu_a") != at.gradient("sum"));  // two readers: summed apart
  CHECK(at.gradient("input") == TrainingBuffers::kNone);
  CHECK(at.gradient("loss") == TrainingBuffers::kNone);
}

TEST_CASE("what backward reads is kept until then") {
  GraphBuilder g("kept", {2, 6, 6});
  std::size_t x = g.conv("conv", GraphBuilder::input(), {.out_channels = 2});
  x = g.batch_norm("norm", x);
  x = g.relu("relu", x);
  x = g.avg_pool("pool", x, square(2, 2));
  x = g.dense("fc", x, {.out = 3});
  g.softmax_loss("loss", x);
  const Named at(std::move(g).finish().value());
  const auto last = [&](const char* name) {
    return at.buffers.lifetimes[at.activation(name)].last;
  };
  // Seven nodes: node i goes backward at moment 13 - i.
  CHECK(last("input") == 13 - 1);  // the convolution's input
  CHECK(last("conv") == 13 - 2);   // batch norm's input
  CHECK(last("relu") == 13 - 3);   // its own output; average pooling wants nothing
  CHECK(last("pool") == 13 - 5);   // the dense layer's input
  CHECK(last("fc") == 6);          // the loss keeps the probabilities instead
  CHECK(last("loss") == 13 - 6);
}

TEST_CASE("every model's train step is planned without overlap, well below the plain sum") {
  for (const std::string& name : models::model_names()) {
    const Graph graph = models::make_model(name).value();
    const auto bytes = float_bytes(graph, 1);
    const TrainingBuffers buffers = plan_buffers(graph, bytes);
    const MemoryPlan plan = plan_memory(buffers.lifetimes);
    check_plan(buffers.lifetimes, plan, 64);
    const std::uint64_t peak = peak_bytes(buffers.lifetimes);
    INFO(name << ": planned " << plan.total_bytes << ", peak " << peak);
    CHECK(plan.total_bytes >= peak);
    CHECK(plan.total_bytes <= peak + peak / 10);
    CHECK(plan.total_bytes < 4 * graph.activation_elements() * 3 / 2);
  }
}

TEST_CASE("vgg16 at 224 and batch 32 leaves room for two ranks in 24 GiB") {
  const Graph graph = models::make_model("vgg16").value();
  const std::uint64_t activations =
      plan_memory(plan_buffers(graph, float_bytes(graph, 32)).lifetimes).total_bytes;
  const std::uint64_t parameters =
      3 * 4 * graph.parameter_elements();  // values, gradients, momentum
  CHECK(2 * (activations + parameters) < std::uint64_t{12} << 30);
}

TEST_CASE("too large is told with both numbers and a way out") {
  REQUIRE_OK(fits_in_memory(0, "nothing"));
  const dist::Status status = fits_in_memory(std::uint64_t{1} << 60, "the moon");
  REQUIRE_FALSE(status.ok());
  CHECK(status.code() == dist::ErrorCode::resource);
  CHECK(status.message().find("the moon needs 1099511627776 MiB") != std::string::npos);
  CHECK(status.message().find("smaller --batch or --image") != std::string::npos);
}
