// SPDX-License-Identifier: Apache-2.0
// Data-parallel training of the MNIST network: distrun -n 2 -- mnist [epochs]
#include <dist/libtorch.h>

#include <cstdio>
#include <cstdlib>

#include "data.h"
#include "mnist_net.h"

int main(int argc, char** argv) {
  const int epochs = argc > 1 ? std::atoi(argv[1]) : 5;
  auto world = dist::World::from_environment(argc, argv).value();
  torch::manual_seed(1);
  MnistNet net;
  torch::optim::SGD optimizer(net->parameters(), torch::optim::SGDOptions(0.05).momentum(0.5));
  auto parallel = dist::libtorch::attach(*net, world).value();
  Patterns data(960, 1, 28);
  torch::data::samplers::DistributedSequentialSampler sampler(960, world.ranks(), world.rank());
  auto loader =
      torch::data::make_data_loader(data.map(torch::data::transforms::Stack<>()), sampler, 16);
  for (int epoch = 0; epoch < epochs; ++epoch) {
    double sum = 0;
    int batches = 0;
    for (auto& batch : *loader) {
      optimizer.zero_grad();
      auto loss = torch::nll_loss(net->forward(batch.data), batch.target);
      loss.backward();
      optimizer.step();
      sum += loss.item<double>();
      ++batches;
    }
    std::printf("epoch %d: %d batches, loss %.4f\n", epoch, batches, sum / batches);
  }
  parallel.end().value();
}
