// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/plan.h"

#include <algorithm>
#include <numeric>

namespace nn::cudnn {
namespace {

template <typename... Kinds>
bool is_one_of(const Layer& layer) {
  return (std::holds_alternative<Kinds>(layer) || ...);
}

class Fuser {
 public:
  explicit Fuser(const Graph& graph) : graph_(graph), readers_(graph.consumers()) {}

  std::vector<Group> fuse() {
    std::vector<bool> absorbed(graph_.nodes.size(), false);
    std::vector<Group> groups;
    for (std::size_t i = 1; i < graph_.nodes.size(); ++i) {
      if (absorbed[i]) continue;
      groups.push_back(group_of(i, absorbed));
      for (std::size_t n = i; n != groups.back().output;) {
        n = readers_[n][0];
        absorbed[n] = true;
      }
    }
    std::sort(groups.begin(), groups.end(),
              [](const Group& a, const Group& b) { return a.output < b.output; });
    return groups;
  }

 private:
  template <typename Kind>
  std::size_t only_reader(std::size_t i) const {
    if (readers_[i].size() != 1) return kNone;
    const std::size_t reader = readers_[i][0];
    return is_one_of<Kind>(graph_.nodes[reader].layer) ? reader : kNone;
  }

  Group group_of(std::size_t i, const std::vector<bool>& absorbed) const {
    const Node& node = graph_.nodes[i];
    Group group{i, i, false, kNone, node.inputs};
    if (!is_one_of<Conv, Dense, BatchNorm, Add>(node.layer)) return group;
    if (const std::size_t relu = only_reader<Relu>(i); relu != kNone) {
      group.output = relu;
      group.relu = true;
      return group;
    }
    if (!is_one_of<BatchNorm>(node.layer)) return group;
    // Where both sides of the Add are batch norms, the first takes it.
    const std::size_t add = only_reader<Add>(i);
    if (add == kNone || absorbed[add]) return group;
    const std::size_t relu = only_reader<Relu>(add);
    if (relu == kNone) return group;
    const std::vector<std::size_t>& sides = graph_.nodes[add].inputs;
    const std::size_t residual = sides[0] == i ? sides[1] : sides[0];
    if (residual == node.inputs[0]) return group;  // two gradients for one tensor
    group.output = relu;
    group.relu = true;
    group.residual = residual;
    group.inputs.push_back(group.residual);
    return group;
  }

  const Graph& graph_;
  std::vector<std::vector<std::size_t>> readers_;
};

class Planner {
 public:
  Planner(const Graph& graph, std::int64_t batch, std::uint64_t element_bytes)
      : graph_(graph), batch_(batch), element_bytes_(element_bytes) {}

  StepPlan plan() {
    plan_.groups = nn::cudnn::fuse(graph_);
    plan_.activation.resize(graph_.nodes.size());
    plan_.gradient.resize(graph_.nodes.size());
    plan_.readers.resize(graph_.nodes.size());
    maker_.resize(graph_.nodes.size(), kNone);
    for (std::size_t g = 0; g < plan_.groups.size(); ++g) {
      maker_[plan_.groups[g].output] = g;
      for (const std::size_t input : plan_.groups[g].inputs) plan_.readers[input].push_back(g);
    }
    find_parts();
    new_buffer(plan_.activation[0], 0, 0);
    for (const std::size_t reader : plan_.readers[0]) read_activation(0, reader);
    for (std::size_t g = plan_.groups.size(); g-- > 0;) place_whole(g);
    for (std::size_t g = 0; g < plan_.groups.size(); ++g) place_part(g);
    return std::move(plan_);
  }

 private:
  struct Part {
    std::size_t whole = kNone;  // the Concat that this output lies in
    std::int64_t channel = 0;
  };

  void find_parts() {
    parts_.resize(graph_.nodes.size());
    for (const Group& group : plan_.groups) {
      if (!is_one_of<Concat>(graph_.nodes[group.node].layer)) continue;
      std::int64_t channel = 0;
      for (const std::size_t input : group.inputs) {
        const std::int64_t channels = graph_.nodes[input].shape.channels;
        if (can_lie_within(input) && channel % kChannelBlock == 0 &&
            channels % kChannelBlock == 0) {
          parts_[input] = {group.output, channel};
        }
        channel += channels;
      }
    }
  }
  bool can_lie_within(std::size_t node) const {
    if (maker_[node] == kNone || plan_.readers[node].size() != 1) return false;
    return is_one_of<BatchNorm, Relu, Add, Dropout, MaxPool, AvgPool, GlobalAvgPool>(
        graph_.nodes[plan_.groups[maker_[node]].node].layer);
  }

  void new_buffer(Place& place, std::size_t node, std::int64_t moment) {
    const Shape& shape = graph_.nodes[node].shape;
    place = {plan_.lifetimes.size(), 0, padded(shape.channels)};
    const std::int64_t elements = batch_ * shape.height * shape.width * place.pitch;
    plan_.lifetimes.push_back(
        {static_cast<std::uint64_t>(elements) * element_bytes_, moment, moment});
  }
  void touch(const Place& place, std::int64_t moment) {
    Lifetime& lifetime = plan_.lifetimes[place.buffer];
    lifetime.first = std::min(lifetime.first, moment);
    lifetime.last = std::max(lifetime.last, moment);
  }

  // The first input of some layers is read again when they run backward.
  void read_activation(std::size_t node, std::size_t reader) {
    const Group& group = plan_.groups[reader];
    touch(plan_.activation[node], plan_.forward_moment(reader));
    if (group.inputs[0] == node &&
        is_one_of<Conv, Dense, BatchNorm>(graph_.nodes[group.node].layer)) {
      touch(plan_.activation[node], plan_.backward_moment(reader));
    }
  }
  void use(std::size_t g) {
    const Group& group = plan_.groups[g];
    const std::size_t node = group.output;
    touch(plan_.activation[node], plan_.forward_moment(g));
    const Layer& layer = graph_.nodes[group.node].layer;
    const bool reads_output =
        is_one_of<Relu>(layer) || (group.relu && !is_one_of<BatchNorm>(layer));
    if (reads_output) touch(plan_.activation[node], plan_.backward_moment(g));
    for (const std::size_t reader : plan_.readers[node]) {
      read_activation(node, reader);
      // The loss writes the gradient of its input when it runs forward.
      const bool loss = is_one_of<SoftmaxLoss>(graph_.nodes[plan_.groups[reader].node].layer);
      touch(plan_.gradient[node],
            loss ? plan_.forward_moment(reader) : plan_.backward_moment(reader));
    }
    if (plan_.gradient[node].buffer != kNone) touch(plan_.gradient[node], plan_.backward_moment(g));
  }

  void place_whole(std::size_t g) {
    const std::size_t node = plan_.groups[g].output;
    if (parts_[node].whole != kNone) return;
    new_buffer(plan_.activation[node], node, plan_.forward_moment(g));
    if (!plan_.readers[node].empty()) {
      new_buffer(plan_.gradient[node], node, plan_.backward_moment(g));
    }
    use(g);
  }
  void place_part(std::size_t g) {
    const std::size_t node = plan_.groups[g].output;
    const auto& [whole, channel] = parts_[node];
    if (whole == kNone) return;
    plan_.activation[node] = plan_.activation[whole];
    plan_.activation[node].channel = channel;
    plan_.gradient[node] = plan_.gradient[whole];
    plan_.gradient[node].channel = channel;
    use(g);
  }

  const Graph& graph_;
  std::int64_t batch_;
  std::uint64_t element_bytes_;
  StepPlan plan_;
  std::vector<std::size_t> maker_;  // by node: the group whose output it is
  std::vector<Part> parts_;
};

}  // namespace

std::vector<Group> fuse(const Graph& graph) { return Fuser(graph).fuse(); }

StepPlan plan_step(const Graph& graph, std::int64_t batch, std::uint64_t element_bytes) {
  return Planner(graph, batch, element_bytes).plan();
}

std::vector<std::pair<std::size_t, std::size_t>> cut_pass(
    const std::vector<std::uint64_t>& parameter_bytes, int pieces) {
  const std::uint64_t total =
      std::accumulate(parameter_bytes.begin(), parameter_bytes.end(), std::uint64_t{0});
  const auto count = static_cast<std::uint64_t>(std::max(pieces, 1));
  std::vector<std::pair<std::size_t, std::size_t>> cuts;
  std::size_t end = parameter_bytes.size();
  std::uint64_t done = 0;
  for (std::size_t g = parameter_bytes.size(); g-- > 0;) {
    done += parameter_bytes[g];
    const bool full = done * count >= total * (cuts.size() + 1) && cuts.size() + 1 < count;
    if (g > 0 && !full) continue;
    cuts.emplace_back(g, end);
    end = g;
  }
  std::reverse(cuts.begin(), cuts.end());
  return cuts;
}

}  // namespace nn::cudnn
