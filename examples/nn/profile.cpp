// SPDX-License-Identifier: Apache-2.0
// Profiles as JSON, and a made-up one.
#include "examples/nn/profile.h"

#include <cmath>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace nn {
namespace {

using nlohmann::json;

dist::Status bad(const std::string& path, std::string_view what) {
  return dist::Status::invalid_argument(fmt::format("profile {}: {}", path, what));
}

}  // namespace

double Profile::total_ns() const {
  double sum = 0;
  for (const LayerTime& node : nodes) sum += node.forward_ns + node.backward_ns;
  return sum;
}

dist::Result<Profile> read_profile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return bad(path, "cannot be opened");
  try {
    const json record = json::parse(file);
    if (record.value("record", "") != "profile") return bad(path, "is not a record \"profile\"");
    Profile profile;
    profile.model = record.at("model").get<std::string>();
    profile.image = record.at("image").get<std::int64_t>();
    profile.batch = record.at("batch").get<std::int64_t>();
    profile.backend = record.at("backend").get<std::string>();
    profile.machine = record.at("machine").get<std::string>();
    for (const json& node : record.at("nodes")) {
      profile.nodes.push_back({node.at("name").get<std::string>(),
                               node.at("forward_ms").get<double>() * 1e6,
                               node.at("backward_ms").get<double>() * 1e6});
    }
    return profile;
  } catch (const json::exception& error) {
    return bad(path, error.what());
  }
}

dist::Status write_profile(const Profile& profile, const std::string& path) {
  json nodes = json::array();
  for (const LayerTime& node : profile.nodes) {
    nodes.push_back({{"name", node.name},
                     {"forward_ms", node.forward_ns / 1e6},
                     {"backward_ms", node.backward_ns / 1e6}});
  }
  const json record{
      {"record", "profile"},    {"model", profile.model},     {"image", profile.image},
      {"batch", profile.batch}, {"backend", profile.backend}, {"machine", profile.machine},
      {"nodes", nodes}};
  std::ofstream file(path);
  file << record.dump(1, ' ', false, json::error_handler_t::replace) << '\n';
  file.close();
  if (!file) return dist::Status::resource(fmt::format("profile {} cannot be written", path));
  return {};
}

Profile estimate_profile(const Graph& graph, std::int64_t batch) {
  constexpr double kFlopPerNanosecond = 100;
  constexpr double kBytesPerNanosecond = 10;
  Profile profile{graph.name, graph.input_shape().height, batch, "estimate", "estimated", {}};
  for (const Node& node : graph.nodes) {
    LayerTime time{node.name, 0, 0};
    if (!node.inputs.empty()) {
      std::int64_t elements = node.shape.elements();
      for (const std::size_t input : node.inputs) elements += graph.nodes[input].shape.elements();
      std::uint64_t parameters = 0;
      for (const std::size_t p : node.parameters) parameters += graph.parameters[p].elements();
      const double images = static_cast<double>(batch);
      const double bytes =
          4 * (static_cast<double>(elements) * images + static_cast<double>(parameters));
      time.forward_ns = static_cast<double>(graph.flop_of(node)) * images / kFlopPerNanosecond +
                        bytes / kBytesPerNanosecond;
      time.backward_ns = time.forward_ns * (node.parameters.empty() ? 1 : 2);
    }
    profile.nodes.push_back(time);
  }
  return profile;
}

dist::Status check_profile(const Profile& profile, const Graph& graph) {
  const auto mismatch = [&](std::string_view what) {
    return dist::Status::invalid_argument(
        fmt::format("the profile of {} (image {}) does not fit {} (image {}): {}", profile.model,
                    profile.image, graph.name, graph.input_shape().height, what));
  };
  if (profile.nodes.size() != graph.nodes.size()) {
    return mismatch(
        fmt::format("it has {} nodes, not {}", profile.nodes.size(), graph.nodes.size()));
  }
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const LayerTime& time = profile.nodes[i];
    if (time.name != graph.nodes[i].name) {
      return mismatch(fmt::format("node {} is {}, not {}", i, time.name, graph.nodes[i].name));
    }
    const auto valid = [](double ns) { return std::isfinite(ns) && ns >= 0; };
    if (!valid(time.forward_ns) || !valid(time.backward_ns)) {
      return mismatch(fmt::format("node {} has a time that is negative or no number", time.name));
    }
  }
  return {};
}

}  // namespace nn
