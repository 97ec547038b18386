// SPDX-License-Identifier: Apache-2.0
// A convolution by cuDNN. For each direction cuDNN times all its algorithms once, on scratch; the
// fastest that fits stays. Whether bias and ReLU are faster in cuDNN's call or in a kernel after it
// is timed as well.
#include <algorithm>
#include <array>
#include <cmath>

#include "examples/nn/cudnn/cuda_library.h"
#include "examples/nn/cudnn/descriptors.h"

namespace nn::cudnn {
namespace {

constexpr float kOne = 1;
constexpr float kZero = 0;

std::string text_of(const ConvProblem& p) {
  const auto of = [](const Shape& s) {
    return std::to_string(s.channels) + "x" + std::to_string(s.height) + "x" +
           std::to_string(s.width);
  };
  return p.layer + ": " + std::to_string(p.batch) + " x " + of(p.in) + " -> " + of(p.out) + ", " +
         std::to_string(p.window.kernel_h) + "x" + std::to_string(p.window.kernel_w) + " stride " +
         std::to_string(p.window.stride);
}

Shape bias_shape(const ConvProblem& p) { return {p.out.channels, 1, 1}; }

struct Always {
  bool operator()(const auto&) const { return true; }
};

// One direction: its own descriptor, since the kind of arithmetic is part of the choice.
template <typename Perf>
struct Choice {
  explicit Choice(const Window& window) : conv(window) {}

  ConvDescriptor conv;
  Perf perf{};
};

class CudnnConvolution final : public Convolution {
 public:
  CudnnConvolution(cudnnHandle_t handle, Tuner& tuner, const Arithmetic& arithmetic,
                   const ConvProblem& problem)
      : handle_(handle),
        arithmetic_(arithmetic),
        problem_(problem),
        x_(arithmetic.element, problem.batch, problem.in),
        y_(arithmetic.element, problem.batch, problem.out),
        bias_(arithmetic.element, 1, bias_shape(problem)),
        weight_(arithmetic.element, problem),
        forward_(problem.window),
        data_(problem.window),
        filter_(problem.window) {
    const std::uint64_t size = bytes_of(arithmetic.element);
    const auto bytes = [&](const Shape& s) {
      return static_cast<std::uint64_t>(problem.batch * s.elements()) * size;
    };
    const std::uint64_t weights =
        static_cast<std::uint64_t>(problem.out.channels * problem.in.channels *
                                   problem.window.kernel_h * problem.window.kernel_w) *
        size;
    const auto scratch =
        tuner.scratch({bytes(problem.in), bytes(problem.out), weights,
                       static_cast<std::uint64_t>(problem.out.channels) * sizeof(float)});
    choose(scratch);
    choose_epilogue(tuner, scratch);
  }

  std::uint64_t workspace_bytes() const override {
    std::size_t bytes = std::max(forward_.perf.memory, filter_.perf.memory);
    if (problem_.input_gradient) bytes = std::max(bytes, data_.perf.memory);
    return std::max(bytes, fused_bytes_);
  }

  std::string choice() const override {
    std::string text = text_of(problem_) + ": forward " + std::to_string(forward_.perf.algo) +
                       (fused_ ? " with bias and ReLU" : "") + ", weights " +
                       std::to_string(filter_.perf.algo);
    if (problem_.input_gradient) text += ", data " + std::to_string(data_.perf.algo);
    return text + ", workspace " + std::to_string(workspace_bytes()) + " bytes";
  }

  void forward(dist::Stream stream, const void* x, const void* weight, const Bias& bias, void* y,
               void* workspace) override {
    if (fused_) {
      run_fused(x, weight, bias.copy, y, workspace);
      return;
    }
    named("cudnnConvolutionForward",
          cudnnConvolutionForward(handle_, &kOne, x_.get(), x, weight_.get(), weight,
                                  forward_.conv.get(), forward_.perf.algo, workspace,
                                  forward_.perf.memory, &kZero, y_.get(), y));
    if (bias.values == nullptr && !problem_.relu) return;
    const Extent extent{problem_.batch * problem_.out.height * problem_.out.width,
                        problem_.out.channels};
    add_bias(stream, arithmetic_.element, extent, {y, problem_.out.channels}, bias.values,
             problem_.relu);
  }

  void backward_data(dist::Stream, const void* weight, const void* dy, void* dx, bool add,
                     void* workspace) override {
    named("cudnnConvolutionBackwardData",
          cudnnConvolutionBackwardData(handle_, &kOne, weight_.get(), weight, y_.get(), dy,
                                       data_.conv.get(), data_.perf.algo, workspace,
                                       data_.perf.memory, add ? &kOne : &kZero, x_.get(), dx));
  }

  void backward_weight(dist::Stream, const void* x, const void* dy, void* dweight,
                       void* workspace) override {
    named("cudnnConvolutionBackwardFilter",
          cudnnConvolutionBackwardFilter(handle_, &kOne, x_.get(), x, y_.get(), dy,
                                         filter_.conv.get(), filter_.perf.algo, workspace,
                                         filter_.perf.memory, &kZero, weight_.get(), dweight));
  }

 private:
  void named(const char* call, cudnnStatus_t code) const {
    if (code == CUDNN_STATUS_SUCCESS) return;
    try {
      check(code, call);
    } catch (const Failure& failure) {
      throw Failure(text_of(problem_) + ": " + failure.what());
    }
  }

  // Full f32 only where asked; else tensor cores where cuDNN has code for them, which the default
  // allows f32 as tf32.
  cudnnMathType_t wanted_math() const {
    if (arithmetic_.element != Element::f32) return CUDNN_TENSOR_OP_MATH;
    return arithmetic_.tf32 ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH;
  }

  // Full f32 stays asked for: the default that a result may name lets tf32 in.
  template <typename Perf>
  cudnnMathType_t math_of(const Perf& perf) const {
    return wanted_math() == CUDNN_FMA_MATH ? CUDNN_FMA_MATH : perf.mathType;
  }

  // `works`: whether it does what the search does not try.
  template <typename Perf, typename Find, typename Works = Always>
  void choose_one(Choice<Perf>& choice, const char* call, const Find& find,
                  const Works& works = {}) {
    choice.conv.set_math(wanted_math());
    std::array<Perf, 16> found{};
    int count = 0;
    named(call, find(static_cast<int>(found.size()), &count, found.data()));
    const bool full = wanted_math() == CUDNN_FMA_MATH;
    const auto suits = [&](const Perf& perf) {
      const bool tensor_cores = perf.mathType == CUDNN_TENSOR_OP_MATH ||
                                perf.mathType == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION;
      return perf.status == CUDNN_STATUS_SUCCESS && perf.memory <= Tuner::kMostWorkspaceBytes &&
             (!arithmetic_.deterministic || perf.determinism == CUDNN_DETERMINISTIC) &&
             !(full && tensor_cores) && works(perf);
    };
    const auto best = std::find_if(found.begin(), found.begin() + count, suits);  // fastest first
    if (best == found.begin() + count) {
      throw Failure(text_of(problem_) + ": " + call + " found no algorithm that suits");
    }
    choice.perf = *best;
    choice.conv.set_math(math_of(*best));
  }

  void choose(const std::vector<void*>& scratch) {
    void* workspace = scratch[0];
    void* x = scratch[1];
    void* y = scratch[2];
    void* weight = scratch[3];
    // The search only overwrites; where branches meet, gradients are added to what is there.
    const auto adds = [&](const cudnnConvolutionBwdDataAlgoPerf_t& perf) {
      data_.conv.set_math(math_of(perf));
      return cudnnConvolutionBackwardData(handle_, &kOne, weight_.get(), weight, y_.get(), y,
                                          data_.conv.get(), perf.algo, workspace, perf.memory,
                                          &kOne, x_.get(), x) == CUDNN_STATUS_SUCCESS;
    };
    choose_one(forward_, "cudnnFindConvolutionForwardAlgorithmEx",
               [&](int wanted, int* count, cudnnConvolutionFwdAlgoPerf_t* found) {
                 return cudnnFindConvolutionForwardAlgorithmEx(
                     handle_, x_.get(), x, weight_.get(), weight, forward_.conv.get(), y_.get(), y,
                     wanted, count, found, workspace, Tuner::kMostWorkspaceBytes);
               });
    choose_one(filter_, "cudnnFindConvolutionBackwardFilterAlgorithmEx",
               [&](int wanted, int* count, cudnnConvolutionBwdFilterAlgoPerf_t* found) {
                 return cudnnFindConvolutionBackwardFilterAlgorithmEx(
                     handle_, x_.get(), x, y_.get(), y, filter_.conv.get(), weight_.get(), weight,
                     wanted, count, found, workspace, Tuner::kMostWorkspaceBytes);
               });
    if (!problem_.input_gradient) return;
    choose_one(
        data_, "cudnnFindConvolutionBackwardDataAlgorithmEx",
        [&](int wanted, int* count, cudnnConvolutionBwdDataAlgoPerf_t* found) {
          return cudnnFindConvolutionBackwardDataAlgorithmEx(
              handle_, weight_.get(), weight, y_.get(), y, data_.conv.get(), x_.get(), x, wanted,
              count, found, workspace, Tuner::kMostWorkspaceBytes);
        },
        adds);
  }

  void run_fused(const void* x, const void* weight, const void* bias, void* y, void* workspace) {
    named("cudnnConvolutionBiasActivationForward",
          cudnnConvolutionBiasActivationForward(handle_, &kOne, x_.get(), x, weight_.get(), weight,
                                                forward_.conv.get(), forward_.perf.algo, workspace,
                                                fused_bytes_, &kZero, y_.get(), y, bias_.get(),
                                                bias, relu_.get(), y_.get(), y));
  }

  // cuDNN's fused call wants a bias and a ReLU, and not every algorithm or type has it.
  void choose_epilogue(Tuner& tuner, const std::vector<void*>& scratch) {
    if (!problem_.bias || !problem_.relu) return;
    const Bias bias{static_cast<const float*>(scratch[4]), scratch[4]};
    const auto run = [&] {
      forward(tuner.stream(), scratch[1], scratch[3], bias, scratch[2], scratch[0]);
    };
    const double apart = tuner.milliseconds(run);
    fused_bytes_ = forward_.perf.memory;
    fused_ = true;
    if (tuner.milliseconds(run) < apart) return;
    fused_ = false;
    fused_bytes_ = 0;
  }

  cudnnHandle_t handle_;
  Arithmetic arithmetic_;
  ConvProblem problem_;
  TensorDescriptor x_, y_, bias_;
  WeightDescriptor weight_;
  ReluDescriptor relu_;
  Choice<cudnnConvolutionFwdAlgoPerf_t> forward_;
  Choice<cudnnConvolutionBwdDataAlgoPerf_t> data_;
  Choice<cudnnConvolutionBwdFilterAlgoPerf_t> filter_;
  bool fused_ = false;
  std::size_t fused_bytes_ = 0;
};

}  // namespace

std::shared_ptr<Convolution> make_cudnn_convolution(cudnnHandle_t handle, Tuner& tuner,
                                                    const Arithmetic& arithmetic,
                                                    const ConvProblem& problem) {
  return std::make_shared<CudnnConvolution>(handle, tuner, arithmetic, problem);
}

}  // namespace nn::cudnn
