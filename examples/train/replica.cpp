// SPDX-License-Identifier: Apache-2.0
#include "examples/train/replica.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <new>
#include <thread>

#include "examples/nn/memory_plan.h"
#include "examples/nn/random.h"

namespace train {
namespace {

using dist::Status;

// So much data is made before the first step and then gone through again and again.
constexpr std::int64_t kDataBytes = std::int64_t{128} << 20;

// Emulated ranks move real bytes, but their values mean nothing: all of an arena lies on one small
// window, so that 16 large replicas fit in a small machine.
constexpr dist::Bytes kReplayWindow = dist::operator""_MiB(4);

// Cores this process may use, divided by the ranks it may have to share them with.
int choose_threads(const TrainOptions& options) {
  if (options.threads > 0) return options.threads;
  if (options.deterministic) return 1;
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  cpu_set_t mine;
  const int allowed = sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : cores;
  return std::clamp(cores / options.world.local_ranks, 1, std::max(1, allowed));
}

nn::Precision precision_of(const TrainOptions& options) {
  for (const auto precision : {nn::Precision::tf32, nn::Precision::f16, nn::Precision::bf16}) {
    if (options.precision == nn::name_of(precision)) return precision;
  }
  return nn::Precision::f32;
}

// What the backend of a GPU is told besides. Where others wait for gradients, a pass is cut into
// pieces, so that they can leave before it has ended.
void add_gpu(const TrainOptions& options, const Gpu& gpu, nn::NetworkOptions* wanted) {
  constexpr int kSegments = 8;
  wanted->device = gpu.device.get();
  wanted->stream = gpu.stream;
  wanted->precision = precision_of(options);
  wanted->segments = options.world.ranks > 1 ? kSegments : 1;
  wanted->deterministic = options.deterministic;
  wanted->deferred_loss = !options.progress;
  wanted->timeout = options.world.timeout;
}

dist::Result<std::unique_ptr<nn::Network>> make_network(TrainOptions* options,
                                                        const nn::Graph& graph, int threads,
                                                        const std::optional<Gpu>& gpu) {
  nn::NetworkOptions wanted{
      .batch = options->batch,
      .dtype = options->dtype(),
      .dropout_seed = nn::random_bits(options->seed, nn::stream_of("dropout"),
                                      static_cast<std::uint64_t>(options->world.rank)),
      .timing = !options->profile.empty(),
      .threads = threads,
      .profile = options->replay_profile,
      .step_ms = options->replay_step_ms};
  if (gpu) add_gpu(*options, *gpu, &wanted);
  if (!options->backend.empty()) return nn::make_network(options->backend, graph, wanted);
  options->backend = options->precision == "f64" ? "ref" : "onednn";
  auto network = nn::make_network(options->backend, graph, wanted);
  if (network.ok() || network.status().code() != dist::ErrorCode::unavailable) return network;
  options->backend = "ref";
  return nn::make_network(options->backend, graph, wanted);
}

// How many different batches there are: by the size of the global batch, so that N workers of batch
// b and one of batch N * b train on the same images.
std::int64_t batch_count(const TrainOptions& options, const nn::Shape& image, int workers) {
  const auto step_bytes = static_cast<double>(options.batch * workers * image.elements()) * 4;
  const auto fit = static_cast<std::int64_t>(static_cast<double>(kDataBytes) / step_bytes);
  return std::clamp(fit, std::int64_t{1}, options.warmup + options.steps);
}

std::vector<nn::data::Samples> make_batches(const TrainOptions& options, const nn::Graph& graph,
                                            nn::data::Kind kind, int worker, int workers) {
  const nn::Shape& image = graph.input_shape();
  const nn::data::Synthetic data(kind, image, graph.classes(), options.seed);
  std::vector<nn::data::Samples> batches;
  const auto count = static_cast<std::uint64_t>(batch_count(options, image, workers));
  for (std::uint64_t step = 0; step < count; ++step) {
    batches.push_back(data.batch(step, options.batch, worker, workers));
  }
  return batches;
}

// Each replica fits alone, or it would not have been made; do those of this host fit together?
Status check_memory(const TrainOptions& options, const Replica& replica) {
  const int together = std::min(options.world.local_ranks, replica.workers);
  if (replica.gpu) return {};  // its memory tells by itself
  return nn::fits_in_memory(replica.network->needed_bytes() * static_cast<std::uint64_t>(together),
                            fmt::format("{} with batch {} on {} ranks of this host", options.model,
                                        options.batch, together));
}

Status bind_and_fill(const TrainOptions& options, Replica& replica) {
  auto kind = nn::data::kind_from(options.data);
  DIST_TRY(kind);
  std::vector<std::span<std::byte>> parameters;
  std::vector<std::span<std::byte>> gradients;
  const dist::Arena& arena = *replica.arena;
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    parameters.push_back(arena.parameters(arena.range(p)));
    gradients.push_back(arena.gradients(arena.range(p)));
  }
  DIST_TRY(replica.network->bind(std::move(parameters), std::move(gradients)));
  // begin() makes all replicas equal to worker 0's: only who keeps its own values needs them.
  if (replica.worker == 0 || options.strategy == "none") replica.network->initialize(options.seed);
  if (options.replays()) return {};
  auto batches =
      make_batches(options, replica.network->graph(), *kind, replica.worker, replica.workers);
  if (replica.gpu) {
    auto uploaded = GpuBatches::upload(*replica.gpu, batches, options.world.timeout);
    DIST_TRY(uploaded);
    replica.gpu_batches = *std::move(uploaded);
  } else {
    replica.batches = std::move(batches);
  }
  return {};
}

}  // namespace

nn::Batch Replica::batch(std::int64_t step) const {
  if (gpu) return gpu_batches[static_cast<std::size_t>(step) % gpu_batches.size()];
  if (batches.empty()) return {};
  return batches[static_cast<std::size_t>(step) % batches.size()].batch();
}

dist::Result<Replica> make_replica(TrainOptions* options, const nn::Graph& graph,
                                   dist::World& world) {
  DIST_TRY(nn::data::kind_from(options->data));
  auto update = make_update(*options);
  DIST_TRY(update);
  DIST_TRY(check_precision(*options));
  Replica replica;
  replica.threads = choose_threads(*options);
  if (options->on_gpu()) {
    auto gpu = open_gpu(*options);
    DIST_TRY(gpu);
    replica.gpu = *std::move(gpu);
  }
  auto network = make_network(options, graph, replica.threads, replica.gpu);
  DIST_TRY(network);
  replica.network = *std::move(network);
  dist::ArenaOptions place;
  place.alias_window = options->replays() ? kReplayWindow : dist::Bytes();
  if (replica.gpu) {
    place.device = replica.gpu->device.get();
    place.stream = replica.gpu->stream;
  }
  auto arena = dist::Arena::create(replica.network->parameters(), place);
  DIST_TRY(arena);
  replica.arena = std::make_unique<dist::Arena>(*std::move(arena));
  auto strategy = dist::make_strategy(options->strategy, world, *replica.arena, *update);
  DIST_TRY(strategy);
  replica.strategy = *std::move(strategy);
  const bool alone = options->strategy == "none";  // each rank is worker 0 of 1 and has other data
  replica.worker = alone ? world.rank() : replica.strategy->worker();
  replica.workers = alone ? world.ranks() : replica.strategy->workers();
  DIST_TRY(check_memory(*options, replica));
  return replica;
}

Status make_ready(const TrainOptions& options, Replica& replica) {
  if (!replica.trains()) return {};
  try {
    return bind_and_fill(options, replica);
  } catch (const std::bad_alloc&) {
    return Status::resource("out of memory; use a smaller --batch or --image");
  }
}

}  // namespace train
