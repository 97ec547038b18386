// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/cuda_library.h"

#include <map>
#include <tuple>
#include <vector>

#include "examples/nn/cudnn/check.h"

namespace nn::cudnn {
namespace {

class EventStopwatch final : public Stopwatch {
 public:
  explicit EventStopwatch(std::size_t marks) : events_(marks, nullptr), set_(marks, false) {
    for (cudaEvent_t& event : events_) check(cudaEventCreate(&event), "cudaEventCreate");
  }
  ~EventStopwatch() override {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  void mark(dist::Stream stream, std::size_t index) override {
    check(cudaEventRecord(events_[index], handle_of(stream)), "cudaEventRecord");
    set_[index] = true;
  }
  double nanoseconds(std::size_t from, std::size_t to) override {
    if (!set_[from] || !set_[to]) return 0;
    check(cudaEventSynchronize(events_[to]), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, events_[from], events_[to]), "cudaEventElapsedTime");
    return static_cast<double>(milliseconds) * 1e6;
  }

 private:
  std::vector<cudaEvent_t> events_;
  std::vector<bool> set_;
};

// What decides about the choice; not the layer's name.
auto key_of(const ConvProblem& p) {
  return std::tuple(p.batch, p.in.channels, p.in.height, p.in.width, p.out.channels, p.out.height,
                    p.out.width, p.window.kernel_h, p.window.kernel_w, p.window.stride,
                    p.window.padding_h, p.window.padding_w, p.bias, p.relu, p.input_gradient);
}
auto key_of(const DenseProblem& p) {
  return std::tuple(p.batch, p.ins, p.outs, p.bias, p.relu, p.input_gradient);
}

class CudaLibrary final : public Library {
 public:
  CudaLibrary(dist::Device& device, dist::Stream stream, const Arithmetic& arithmetic)
      : lt_(cublas_lt()), arithmetic_(arithmetic), tuner_(device, stream) {
    check(cudaSetDevice(device.index()), "cudaSetDevice");
    try {
      check(cudnnCreate(&cudnn_), "cudnnCreate");
      check(cudnnSetStream(cudnn_, handle_of(stream)), "cudnnSetStream");
      check(lt_.create(&cublas_), "cublasLtCreate");
    } catch (...) {
      close();
      throw;
    }
  }
  ~CudaLibrary() override {
    convolutions_.clear();
    denses_.clear();
    close();
  }

  std::shared_ptr<Convolution> convolution(const ConvProblem& problem) override {
    auto& made = convolutions_[key_of(problem)];
    if (!made) made = make_cudnn_convolution(cudnn_, tuner_, arithmetic_, problem);
    return made;
  }
  std::shared_ptr<DenseProduct> dense(const DenseProblem& problem) override {
    auto& made = denses_[key_of(problem)];
    if (!made) made = make_cublas_dense(cublas_, tuner_, arithmetic_, problem);
    return made;
  }
  std::unique_ptr<Recording> record(dist::Stream stream, const std::function<void()>& work,
                                    std::string* why) override {
    return record_graph(stream, work, why);
  }
  std::unique_ptr<Stopwatch> stopwatch(std::size_t marks) override {
    return std::make_unique<EventStopwatch>(marks);
  }
  void chosen() override { tuner_.release(); }

 private:
  void close() {
    if (cublas_ != nullptr) lt_.destroy(cublas_);
    if (cudnn_ != nullptr) cudnnDestroy(cudnn_);
  }

  const CublasLt& lt_;
  Arithmetic arithmetic_;
  Tuner tuner_;
  cudnnHandle_t cudnn_ = nullptr;
  cublasLtHandle_t cublas_ = nullptr;
  std::map<decltype(key_of(ConvProblem())), std::shared_ptr<Convolution>> convolutions_;
  std::map<decltype(key_of(DenseProblem())), std::shared_ptr<DenseProduct>> denses_;
};

}  // namespace

std::unique_ptr<Library> open_cuda_library(dist::Device& device, dist::Stream stream,
                                           const Arithmetic& arithmetic) {
  return std::make_unique<CudaLibrary>(device, stream, arithmetic);
}

}  // namespace nn::cudnn
