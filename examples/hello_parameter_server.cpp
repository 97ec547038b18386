// SPDX-License-Identifier: Apache-2.0
// Two parameters learn through parameter servers, first in step, then each worker at its own pace.
//
//   distrun -n 3 hello_parameter_server        or        mpirun -n 3 hello_parameter_server
//
// Expected output on rank 0 (distrun puts "[0] " before it); sync-ps is the same on every rank:
//   sync-ps  rank 0 step 1: weight 2 2, bias 2, 0 versions behind
//   sync-ps  rank 0 step 2: weight 4 4, bias 4, 0 versions behind
//   async-ps rank 0 step 1: weight 1 1, bias 1, 0 versions behind      (yours will differ)
//   async-ps rank 0 step 2: weight 7 7, bias 7, 2 versions behind      (yours will differ)
// With DIST_PLACEMENT=dedicated the last rank trains nothing and says that it only serves.
#include <dist/dist.h>

#include <algorithm>
#include <cstdio>
#include <exception>

namespace {

void train(const char* name, dist::World& world) {
  // All parameters and all gradients of this rank, in the order in which gradients become ready.
  auto arena = dist::Arena::create({{"bias", dist::Elems(1)}, {"weight", dist::Elems(2)}}).value();
  // p -= 1 * gradient. The update runs on the servers, not here.
  auto strategy = dist::make_strategy(name, world, arena, dist::Sgd{.learning_rate = 1}).value();
  const int worker = strategy->worker();
  if (worker < 0) std::printf("%-8s rank %d only serves\n", name, world.rank());

  strategy->begin().value();  // everybody starts from worker 0's parameters: zeros
  for (int step = 1; worker >= 0 && step <= 2; ++step) {
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      // Worker 0, 1, 2 finds the gradient -1, -2, -3. sync-ps applies the mean of a step, -2;
      // async-ps applies each as it comes, so that a step adds up to -6.
      std::ranges::fill(arena.gradient_span<float>(p), -static_cast<float>(worker + 1));
      strategy->ready(p);  // never blocks: the push travels while the next gradient is computed
    }
    const auto report = strategy->finish_step().value();  // now the new parameters are here
    const auto bias = arena.parameter_span<float>(0);
    const auto weight = arena.parameter_span<float>(1);
    std::printf("%-8s rank %d step %d: weight %g %g, bias %g, %llu versions behind\n", name,
                world.rank(), step, weight[0], weight[1], bias[0],
                static_cast<unsigned long long>(report.staleness));
  }
  strategy->end().value();  // a rank that only serves stays here until the workers are done
}

}  // namespace

int main(int argc, char** argv) try {
  dist::World world = dist::World::from_environment(argc, argv).value();
  train("sync-ps", world);
  train("async-ps", world);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "hello_parameter_server: %s\n", error.what());
  return 1;
}
