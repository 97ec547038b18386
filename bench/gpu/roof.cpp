// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/roof.h"

#include <fmt/format.h>

#include <algorithm>

namespace dist::bench::gpu {
namespace {

constexpr double kUpdateBytes = 20;

struct Pass {
  double flop = 0;
  double bytes = 0;
};

double element_bytes(const std::string& precision) {
  return precision == "f16" || precision == "bf16" ? 2 : 4;
}

Pass forward_of(const ModelNode& node, double bytes, double batch) {
  return {batch * node.forward_flop, bytes * (batch * node.forward_elements + node.parameters)};
}

Pass backward_of(const ModelNode& node, double bytes, double batch) {
  return {batch * node.backward_flop,
          bytes * (batch * node.backward_elements + 2 * node.parameters) +
              kUpdateBytes * node.parameters};
}

}  // namespace

Work work_of(const ModelFacts& model, const std::string& precision, int batch, const Peak& peak) {
  const double bytes = element_bytes(precision);
  const double flops = peak.flops(precision);
  const double bytes_per_s = 1e9 * peak.memory_gb_per_s;
  Work work;
  for (const ModelNode& node : model.nodes) {
    for (const Pass& pass : {forward_of(node, bytes, batch), backward_of(node, bytes, batch)}) {
      work.flop += pass.flop;
      work.bytes += pass.bytes;
      work.roof_s += std::max(pass.flop / flops, pass.bytes / bytes_per_s);
    }
  }
  return work;
}

Fraction fraction_of(const Work& work, int batch, double images_per_second,
                     const std::string& precision, const Peak& peak) {
  if (images_per_second <= 0) return {};
  const double step_s = batch / images_per_second;
  return {work.flop / step_s / peak.flops(precision),
          work.bytes / step_s / (1e9 * peak.memory_gb_per_s), work.roof_s / step_s};
}

Result<std::map<std::string, KindTime>> by_kind(const ModelFacts& model,
                                                const nlohmann::json& profile,
                                                const std::string& precision) try {
  const double bytes = element_bytes(precision);
  const auto batch = profile.at("batch").get<double>();
  std::map<std::string, KindTime> kinds;
  for (const auto& time : profile.at("nodes")) {
    const auto name = time.at("name").get<std::string>();
    const auto node = std::ranges::find(model.nodes, name, &ModelNode::name);
    if (node == model.nodes.end()) {
      return Status::protocol(fmt::format("{} has no layer '{}'", model.name, name));
    }
    KindTime& kind = kinds[node->kind];
    ++kind.layers;
    kind.forward_ms += time.at("forward_ms").get<double>();
    kind.backward_ms += time.at("backward_ms").get<double>();
    for (const Pass& pass : {forward_of(*node, bytes, batch), backward_of(*node, bytes, batch)}) {
      kind.flop += pass.flop;
      kind.bytes += pass.bytes;
    }
  }
  return kinds;
} catch (const nlohmann::json::exception& error) {
  return Status::protocol(fmt::format("bad profile: {}", error.what()));
}

Result<ModelFacts> parse_model(const nlohmann::json& record) try {
  ModelFacts model;
  model.name = record.at("model").get<std::string>();
  model.parameters = record.at("parameters").get<double>();
  model.activation_elements = record.at("activation_elements").get<double>();
  model.train_flop = record.at("train_flop").get<double>();
  for (const auto& node : record.at("nodes")) {
    model.nodes.push_back(
        {node.at("name").get<std::string>(), node.at("kind").get<std::string>(),
         node.at("forward_flop").get<double>(), node.at("backward_flop").get<double>(),
         node.at("forward_elements").get<double>(), node.at("backward_elements").get<double>(),
         node.at("parameters").get<double>()});
  }
  return model;
} catch (const nlohmann::json::exception& error) {
  return Status::protocol(fmt::format("bad record of a model: {}", error.what()));
}

}  // namespace dist::bench::gpu
