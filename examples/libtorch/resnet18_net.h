// SPDX-License-Identifier: Apache-2.0
// ResNet-18 (He et al. 2015, table 1) with 10 classes: 11,181,642 parameters.
#pragma once

#include <torch/torch.h>

#include <cstdint>

struct BasicBlockImpl : torch::nn::Module {
  BasicBlockImpl(int64_t in, int64_t out, int64_t stride)
      : conv1(conv(in, out, 3, stride)), conv2(conv(out, out, 3, 1)), norm1(out), norm2(out) {
    register_module("conv1", conv1);
    register_module("norm1", norm1);
    register_module("conv2", conv2);
    register_module("norm2", norm2);
    if (stride == 1 && in == out) return;
    shortcut = register_module(
        "shortcut", torch::nn::Sequential(conv(in, out, 1, stride), torch::nn::BatchNorm2d(out)));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    auto y = torch::relu(norm1->forward(conv1->forward(x)));
    y = norm2->forward(conv2->forward(y));
    return torch::relu(y + (shortcut.is_empty() ? x : shortcut->forward(x)));
  }

  static torch::nn::Conv2d conv(int64_t in, int64_t out, int64_t size, int64_t stride) {
    return torch::nn::Conv2d(
        torch::nn::Conv2dOptions(in, out, size).stride(stride).padding(size / 2).bias(false));
  }

  torch::nn::Conv2d conv1, conv2;
  torch::nn::BatchNorm2d norm1, norm2;
  torch::nn::Sequential shortcut{nullptr};
};
TORCH_MODULE(BasicBlock);

struct Resnet18Impl : torch::nn::Module {
  Resnet18Impl() {
    layers->push_back(BasicBlockImpl::conv(3, 64, 7, 2));
    layers->push_back(torch::nn::BatchNorm2d(64));
    layers->push_back(torch::nn::ReLU());
    layers->push_back(torch::nn::MaxPool2d(torch::nn::MaxPool2dOptions(3).stride(2).padding(1)));
    for (int64_t in = 64, out = 64; out <= 512; in = out, out *= 2) {
      layers->push_back(BasicBlock(in, out, out == 64 ? 1 : 2));
      layers->push_back(BasicBlock(out, out, 1));
    }
    register_module("layers", layers);
    register_module("fc", fc);
  }

  torch::Tensor forward(torch::Tensor x) {
    x = layers->forward(x).mean({2, 3});
    return torch::log_softmax(fc->forward(x), 1);
  }

  torch::nn::Sequential layers;
  torch::nn::Linear fc{512, 10};
};
TORCH_MODULE(Resnet18);
