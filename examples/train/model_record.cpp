// SPDX-License-Identifier: Apache-2.0
#include "examples/train/model_record.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "examples/nn/cost.h"

namespace train {

dist::Status append_model_record(const TrainOptions& options, const nn::Graph& graph) {
  const auto costs = nn::train_costs(graph);
  const nn::NodeCost total = nn::total_cost(costs);
  nlohmann::ordered_json nodes = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    nodes.push_back({{"name", graph.nodes[i].name},
                     {"kind", nn::kind_of(graph.nodes[i].layer)},
                     {"forward_flop", costs[i].forward_flop},
                     {"backward_flop", costs[i].backward_flop},
                     {"forward_elements", costs[i].forward_elements},
                     {"backward_elements", costs[i].backward_elements},
                     {"parameters", costs[i].parameter_elements}});
  }
  const nlohmann::ordered_json record = {{"record", "model"},
                                         {"model", graph.name},
                                         {"image", graph.input_shape().height},
                                         {"classes", graph.classes()},
                                         {"parameters", graph.parameter_elements()},
                                         {"activation_elements", graph.activation_elements()},
                                         {"forward_flop", total.forward_flop},
                                         {"train_flop", total.forward_flop + total.backward_flop},
                                         {"nodes", nodes}};
  std::ofstream file(options.json, std::ios::app);
  file << record.dump() + "\n";
  file.close();
  if (!file) return dist::Status::resource(fmt::format("--json: cannot write {}", options.json));
  return {};
}

}  // namespace train
