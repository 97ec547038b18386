// SPDX-License-Identifier: Apache-2.0
// The single-process program that resnet18.cpp came from: resnet18_alone [epochs] [images]
#include <cstdio>
#include <cstdlib>

#include "data.h"
#include "resnet18_net.h"

int main(int argc, char** argv) {
  const int epochs = argc > 1 ? std::atoi(argv[1]) : 5;
  const int images = argc > 2 ? std::atoi(argv[2]) : 640;
  torch::manual_seed(1);
  Resnet18 net;
  torch::optim::Adam optimizer(net->parameters(), torch::optim::AdamOptions(1e-3));
  Patterns data(images, 3, 64);
  torch::data::samplers::SequentialSampler sampler(images);
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
}
