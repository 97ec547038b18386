// SPDX-License-Identifier: Apache-2.0
#include "bench/cluster.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace dist::bench {

Result<double> Cluster::step_ms_at(const std::string& model, std::uint64_t other_batch) const {
  const auto found = step_ms.find(model);
  if (found == step_ms.end()) {
    std::vector<std::string> known;
    for (const auto& [each, time] : step_ms) known.push_back(each);
    return Status::invalid_argument(fmt::format("{} has no step time for model {}; it has: {}",
                                                name, model, fmt::join(known, ", ")));
  }
  return found->second * static_cast<double>(other_batch) / static_cast<double>(batch);
}

Result<Cluster> read_cluster(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return Status::resource(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  }
  try {
    const auto json = nlohmann::json::parse(file);
    Cluster cluster;
    cluster.name = json.at("name").get<std::string>();
    if (json.value("kind", "") == "assumed") cluster.name += " (assumed)";
    cluster.batch = json.at("batch").get<std::uint64_t>();
    cluster.step_ms = json.at("step_ms").get<std::map<std::string, double>>();
    if (cluster.batch == 0) return Status::invalid_argument(path + ": batch must be at least 1");
    return cluster;
  } catch (const nlohmann::json::exception& error) {
    return Status::invalid_argument(fmt::format("{}: not a cluster file: {}", path, error.what()));
  }
}

}  // namespace dist::bench
