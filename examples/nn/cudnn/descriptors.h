// SPDX-License-Identifier: Apache-2.0
// cuDNN's descriptors of tensors, weights, convolutions and activations, each owned and checked.
#pragma once

#include <cudnn.h>

#include <memory>
#include <type_traits>

#include "examples/nn/cudnn/check.h"
#include "examples/nn/cudnn/library.h"

namespace nn::cudnn {

template <auto kCreate, auto kDestroy, typename Handle>
class Descriptor {
 public:
  Descriptor() { check(kCreate(&handle_), "cudnnCreate...Descriptor"); }
  ~Descriptor() { kDestroy(handle_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

inline cudnnDataType_t type_of(Element element) {
  if (element == Element::f32) return CUDNN_DATA_FLOAT;
  return element == Element::f16 ? CUDNN_DATA_HALF : CUDNN_DATA_BFLOAT16;
}

class TensorDescriptor : public Descriptor<cudnnCreateTensorDescriptor,
                                           cudnnDestroyTensorDescriptor, cudnnTensorDescriptor_t> {
 public:
  TensorDescriptor(Element element, std::int64_t batch, const Shape& s) {
    check(cudnnSetTensor4dDescriptor(get(), CUDNN_TENSOR_NHWC, type_of(element),
                                     static_cast<int>(batch), static_cast<int>(s.channels),
                                     static_cast<int>(s.height), static_cast<int>(s.width)),
          "cudnnSetTensor4dDescriptor");
  }
};

class WeightDescriptor : public Descriptor<cudnnCreateFilterDescriptor,
                                           cudnnDestroyFilterDescriptor, cudnnFilterDescriptor_t> {
 public:
  WeightDescriptor(Element element, const ConvProblem& p) {
    check(cudnnSetFilter4dDescriptor(
              get(), type_of(element), CUDNN_TENSOR_NHWC, static_cast<int>(p.out.channels),
              static_cast<int>(p.in.channels), static_cast<int>(p.window.kernel_h),
              static_cast<int>(p.window.kernel_w)),
          "cudnnSetFilter4dDescriptor");
  }
};

class ConvDescriptor
    : public Descriptor<cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor,
                        cudnnConvolutionDescriptor_t> {
 public:
  explicit ConvDescriptor(const Window& w) {
    const auto stride = static_cast<int>(w.stride);
    check(cudnnSetConvolution2dDescriptor(get(), static_cast<int>(w.padding_h),
                                          static_cast<int>(w.padding_w), stride, stride, 1, 1,
                                          CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
          "cudnnSetConvolution2dDescriptor");
  }
  void set_math(cudnnMathType_t math) {
    check(cudnnSetConvolutionMathType(get(), math), "cudnnSetConvolutionMathType");
  }
};

class ReluDescriptor
    : public Descriptor<cudnnCreateActivationDescriptor, cudnnDestroyActivationDescriptor,
                        cudnnActivationDescriptor_t> {
 public:
  // cuDNN's fused call takes no other kind: what is not a number becomes zero there.
  ReluDescriptor() {
    check(cudnnSetActivationDescriptor(get(), CUDNN_ACTIVATION_RELU, CUDNN_NOT_PROPAGATE_NAN, 0.0),
          "cudnnSetActivationDescriptor");
  }
};

}  // namespace nn::cudnn
