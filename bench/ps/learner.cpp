// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/learner.h"

#include <utility>
#include <vector>

#include "examples/data/synthetic.h"
#include "examples/models/models.h"
#include "examples/nn/network.h"

namespace dist::bench {
namespace {

Result<std::unique_ptr<nn::Network>> make_network(const LearnerOptions& options) {
  const auto graph = nn::models::make_model("small_cnn", {.image = options.image});
  DIST_TRY(graph);
  const nn::NetworkOptions network{.batch = options.batch};
  if (options.backend != "auto") return nn::make_network(options.backend, *graph, network);
  auto fast = nn::make_network("onednn", *graph, network);
  return fast.ok() ? std::move(fast) : nn::make_network("ref", *graph, network);
}

}  // namespace

struct Learner::State {
  State(const LearnerOptions& chosen, std::unique_ptr<nn::Network> made, Arena memory)
      : options(chosen),
        network(std::move(made)),
        arena(std::move(memory)),
        data(nn::data::Kind::learnable, network->graph().input_shape(), network->graph().classes(),
             chosen.seed) {}

  const LearnerOptions options;
  const std::unique_ptr<nn::Network> network;
  Arena arena;
  const nn::data::Synthetic data;
};

Learner::Learner(std::unique_ptr<State> state) : state_(std::move(state)) {}
Learner::Learner(Learner&&) noexcept = default;
Learner::~Learner() = default;

Arena& Learner::arena() const { return state_->arena; }

Result<Learner> Learner::make(const LearnerOptions& options) {
  auto network = make_network(options);
  DIST_TRY(network);
  auto arena = Arena::create((*network)->parameters());
  DIST_TRY(arena);
  std::vector<std::span<std::byte>> parameters;
  std::vector<std::span<std::byte>> gradients;
  for (std::size_t p = 0; p < arena->parameter_count(); ++p) {
    parameters.push_back(arena->parameters(arena->range(p)));
    gradients.push_back(arena->gradients(arena->range(p)));
  }
  DIST_TRY((*network)->bind(std::move(parameters), std::move(gradients)));
  (*network)->initialize(options.seed);
  return Learner(std::make_unique<State>(options, *std::move(network), *std::move(arena)));
}

Lesson Learner::study(std::uint64_t step, int worker, int workers) {
  const auto samples = state_->data.batch(step, state_->options.batch, worker, workers);
  Lesson lesson;
  lesson.loss = state_->network->forward(samples.batch(), nn::Mode::train);
  lesson.accuracy = state_->network->accuracy();
  state_->network->backward([](std::size_t) {});
  return lesson;
}

}  // namespace dist::bench
