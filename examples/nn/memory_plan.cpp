// SPDX-License-Identifier: Apache-2.0
// Lifetimes of a train step's tensors, and their offsets in one buffer.
#include "examples/nn/memory_plan.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <numeric>
#include <optional>
#include <string>

#include <fmt/format.h>

namespace nn {
namespace {

bool meet(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

template <typename... Kinds>
bool is_one_of(const Layer& layer) {
  return (std::holds_alternative<Kinds>(layer) || ...);
}

std::optional<std::uint64_t> available_memory_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string key; file >> key;) {
    std::uint64_t kibibytes = 0;
    if (key == "MemAvailable:" && file >> kibibytes) return kibibytes * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

// Grows a buffer so that it lives at `moment` too.
void touch(Lifetime& lifetime, std::int64_t moment) {
  lifetime.first = std::min(lifetime.first, moment);
  lifetime.last = std::max(lifetime.last, moment);
}

class BufferAssigner {
 public:
  BufferAssigner(const Graph& graph, const std::vector<std::uint64_t>& node_bytes)
      : graph_(graph), bytes_(node_bytes), readers_(graph.consumers()) {}

  TrainingBuffers assign() {
    const std::size_t count = graph_.nodes.size();
    buffers_.activation.resize(count, TrainingBuffers::kNone);
    buffers_.gradient.resize(count, TrainingBuffers::kNone);
    for (std::size_t i = 0; i < count; ++i) assign_activation(i);
    for (std::size_t i = count - 1; i-- > 1;) assign_gradient(i);
    return std::move(buffers_);
  }

 private:
  std::int64_t forward_of(std::size_t i) const { return static_cast<std::int64_t>(i); }
  std::int64_t backward_of(std::size_t i) const {
    return static_cast<std::int64_t>(2 * graph_.nodes.size() - 1 - i);
  }
  bool has_one_reader(std::size_t i) const { return readers_[i].size() == 1; }

  std::size_t new_buffer(std::int64_t moment) {
    buffers_.lifetimes.push_back({0, moment, moment});
    return buffers_.lifetimes.size() - 1;
  }
  Lifetime& use(std::size_t buffer, std::size_t node) {
    Lifetime& lifetime = buffers_.lifetimes[buffer];
    lifetime.bytes = std::max(lifetime.bytes, bytes_[node]);
    return lifetime;
  }

  // Overwriting the input is legal when nobody else reads it and its maker's backward does not need
  // it either. Dropout over Relu may: where dropout zeroed the output, it zeroes the gradient too.
  bool runs_in_place(std::size_t i) const {
    const Node& node = graph_.nodes[i];
    if (!is_one_of<Relu, Dropout>(node.layer) || !has_one_reader(node.inputs[0])) return false;
    const Layer& maker = graph_.nodes[node.inputs[0]].layer;
    return !is_one_of<Input, Relu>(maker) ||
           (is_one_of<Dropout>(node.layer) && is_one_of<Relu>(maker));
  }

  void assign_activation(std::size_t i) {
    const Node& node = graph_.nodes[i];
    buffers_.activation[i] =
        runs_in_place(i) ? buffers_.activation[node.inputs[0]] : new_buffer(forward_of(i));
    Lifetime& lifetime = use(buffers_.activation[i], i);
    touch(lifetime, forward_of(i));
    if (is_one_of<Relu, SoftmaxLoss>(node.layer)) touch(lifetime, backward_of(i));
    for (const std::size_t reader : readers_[i]) {
      touch(lifetime, forward_of(reader));
      if (is_one_of<Conv, Dense, BatchNorm, MaxPool>(graph_.nodes[reader].layer)) {
        touch(lifetime, backward_of(reader));
      }
    }
  }

  // Whether the gradient of node i may lie where its only reader's gradient lies.
  bool shares_gradient(std::size_t i) const {
    if (!has_one_reader(i)) return false;
    const Node& reader = graph_.nodes[readers_[i][0]];
    if (is_one_of<Relu, Dropout>(reader.layer)) return true;
    if (!is_one_of<Add>(reader.layer)) return false;
    return i == (has_one_reader(reader.inputs[0]) ? reader.inputs[0] : reader.inputs[1]);
  }

  void assign_gradient(std::size_t i) {
    buffers_.gradient[i] = shares_gradient(i) ? buffers_.gradient[readers_[i][0]]
                                              : new_buffer(backward_of(readers_[i].back()));
    touch(use(buffers_.gradient[i], i), backward_of(i));
  }

  const Graph& graph_;
  const std::vector<std::uint64_t>& bytes_;
  std::vector<std::vector<std::size_t>> readers_;
  TrainingBuffers buffers_;
};

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes, std::uint64_t alignment_bytes) {
  std::vector<std::size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return lifetimes[a].bytes > lifetimes[b].bytes;
  });
  const auto aligned = [&](std::uint64_t bytes) {
    return (bytes + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
  };

  MemoryPlan plan;
  plan.offsets.resize(lifetimes.size());
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t i : order) {
    std::uint64_t offset = 0;
    for (const std::size_t other : placed) {
      if (!meet(lifetimes[i], lifetimes[other])) continue;
      if (offset + lifetimes[i].bytes <= plan.offsets[other]) break;
      offset = std::max(offset, aligned(plan.offsets[other] + lifetimes[other].bytes));
    }
    plan.offsets[i] = offset;
    plan.total_bytes = std::max(plan.total_bytes, aligned(offset + lifetimes[i].bytes));
    const auto place = std::upper_bound(
        placed.begin(), placed.end(), offset,
        [&](std::uint64_t value, std::size_t other) { return value < plan.offsets[other]; });
    placed.insert(place, i);
  }
  return plan;
}

TrainingBuffers plan_buffers(const Graph& graph, const std::vector<std::uint64_t>& node_bytes) {
  return BufferAssigner(graph, node_bytes).assign();
}

dist::Status fits_in_memory(std::uint64_t needed_bytes, std::string_view what) {
  const auto available = available_memory_bytes();
  if (!available || needed_bytes <= *available) return {};
  constexpr double kMebibyte = 1024.0 * 1024.0;
  return dist::Status::resource(
      fmt::format("{} needs {:.0f} MiB, this machine has {:.0f} MiB available; use a smaller "
                  "--batch or --image",
                  what, static_cast<double>(needed_bytes) / kMebibyte,
                  static_cast<double>(*available) / kMebibyte));
}

}  // namespace nn
