// SPDX-License-Identifier: Apache-2.0
// Recorded work as a CUDA graph.
#include "examples/nn/cudnn/check.h"
#include "examples/nn/cudnn/cuda_library.h"

namespace nn::cudnn {
namespace {

class GraphRecording final : public Recording {
 public:
  explicit GraphRecording(cudaGraphExec_t executable) : executable_(executable) {}
  ~GraphRecording() override { cudaGraphExecDestroy(executable_); }
  void launch(dist::Stream stream) override {
    check(cudaGraphLaunch(executable_, handle_of(stream)), "cudaGraphLaunch");
  }

 private:
  cudaGraphExec_t executable_;
};

}  // namespace

std::unique_ptr<Recording> record_graph(dist::Stream stream, const std::function<void()>& work,
                                        std::string* why) {
  const cudaStream_t handle = handle_of(stream);
  cudaGraph_t graph = nullptr;
  try {
    // Other threads of the process may call CUDA meanwhile.
    check(cudaStreamBeginCapture(handle, cudaStreamCaptureModeThreadLocal),
          "cudaStreamBeginCapture");
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(handle, &graph);
      throw;
    }
    check(cudaStreamEndCapture(handle, &graph), "cudaStreamEndCapture");
    cudaGraphExec_t executable = nullptr;
    check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(graph);
    return std::make_unique<GraphRecording>(executable);
  } catch (const Failure& failure) {
    *why = failure.what();
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // an error of the capture is told; it must not show in the next call
    return nullptr;
  }
}

}  // namespace nn::cudnn
