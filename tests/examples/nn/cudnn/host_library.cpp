// SPDX-License-Identifier: Apache-2.0
#include "tests/examples/nn/cudnn/host_library.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <chrono>
#include <cstring>
#include <vector>

#include "examples/nn/cudnn/failure.h"
#include "tests/examples/nn/cudnn/host_grid.h"

namespace nn::cudnn::test {
namespace {

float value_at(Element element, const void* data, std::int64_t i) {
  if (element == Element::f32) return static_cast<const float*>(data)[i];
  if (element == Element::f16) return __half2float(static_cast<const __half*>(data)[i]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}
void put_at(Element element, void* data, std::int64_t i, double value) {
  const auto rounded = static_cast<float>(value);
  if (element == Element::f32) {
    static_cast<float*>(data)[i] = rounded;
  } else if (element == Element::f16) {
    static_cast<__half*>(data)[i] = __float2half_rn(rounded);
  } else {
    static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(rounded);
  }
}

// The workspace belongs to whoever runs: spoil it, so that nobody counts on it.
void spoil(void* workspace, std::uint64_t bytes) { std::memset(workspace, 0xff, bytes); }
constexpr std::uint64_t kWorkspaceBytes = 4096;

// Visits (index in x, index in the weight, index in y) of every product.
template <typename Visit>
void for_each_product(const ConvProblem& p, const Visit& visit) {
  const Window& w = p.window;
  for (std::int64_t n = 0; n < p.batch; ++n) {
    for (std::int64_t h = 0; h < p.out.height; ++h) {
      for (std::int64_t v = 0; v < p.out.width; ++v) {
        for (std::int64_t r = 0; r < w.kernel_h; ++r) {
          for (std::int64_t s = 0; s < w.kernel_w; ++s) {
            const std::int64_t in_h = h * w.stride + r - w.padding_h;
            const std::int64_t in_w = v * w.stride + s - w.padding_w;
            if (in_h < 0 || in_h >= p.in.height || in_w < 0 || in_w >= p.in.width) continue;
            const std::int64_t x = ((n * p.in.height + in_h) * p.in.width + in_w) * p.in.channels;
            const std::int64_t y = ((n * p.out.height + h) * p.out.width + v) * p.out.channels;
            for (std::int64_t k = 0; k < p.out.channels; ++k) {
              const std::int64_t weight = ((k * w.kernel_h + r) * w.kernel_w + s) * p.in.channels;
              for (std::int64_t c = 0; c < p.in.channels; ++c) visit(x + c, weight + c, y + k);
            }
          }
        }
      }
    }
  }
}

// Both kinds of layer: a product is a convolution of one pixel.
class HostConvolution : public Convolution, public DenseProduct {
 public:
  HostConvolution(Element element, const ConvProblem& problem)
      : element_(element), problem_(problem) {}

  std::uint64_t workspace_bytes() const override { return kWorkspaceBytes; }
  std::string choice() const override { return problem_.layer + ": loops"; }

  void forward(dist::Stream stream, const void* x, const void* weight, const Bias& bias, void* y,
               void* workspace) override {
    host_grid::submit(stream, [=, this] {
      spoil(workspace, kWorkspaceBytes);
      std::vector<double> sums(count(problem_.batch, problem_.out));
      for_each_product(problem_, [&](std::int64_t from, std::int64_t by, std::int64_t to) {
        sums[static_cast<std::size_t>(to)] += static_cast<double>(value_at(element_, x, from)) *
                                              static_cast<double>(value_at(element_, weight, by));
      });
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        // The copy, as cuDNN reads it.
        if (bias.copy != nullptr) {
          sums[i] += static_cast<double>(value_at(element_, bias.copy, at % problem_.out.channels));
        }
        put_at(element_, y, at, problem_.relu && sums[i] <= 0 ? 0 : sums[i]);
      }
    });
  }

  void backward_data(dist::Stream stream, const void* weight, const void* dy, void* dx, bool add,
                     void* workspace) override {
    if (!problem_.input_gradient) throw Failure("a gradient that nobody asked for");
    host_grid::submit(stream, [=, this] {
      spoil(workspace, kWorkspaceBytes);
      std::vector<double> sums(count(problem_.batch, problem_.in));
      for_each_product(problem_, [&](std::int64_t to, std::int64_t by, std::int64_t from) {
        sums[static_cast<std::size_t>(to)] += static_cast<double>(value_at(element_, dy, from)) *
                                              static_cast<double>(value_at(element_, weight, by));
      });
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        if (add) sums[i] += static_cast<double>(value_at(element_, dx, at));
        put_at(element_, dx, at, sums[i]);
      }
    });
  }

  void backward_weight(dist::Stream stream, const void* x, const void* dy, void* dweight,
                       void* workspace) override {
    host_grid::submit(stream, [=, this] {
      spoil(workspace, kWorkspaceBytes);
      std::vector<double> sums(
          static_cast<std::size_t>(problem_.out.channels * problem_.in.channels *
                                   problem_.window.kernel_h * problem_.window.kernel_w));
      for_each_product(problem_, [&](std::int64_t by, std::int64_t to, std::int64_t from) {
        sums[static_cast<std::size_t>(to)] += static_cast<double>(value_at(element_, dy, from)) *
                                              static_cast<double>(value_at(element_, x, by));
      });
      for (std::size_t i = 0; i < sums.size(); ++i) {
        put_at(element_, dweight, static_cast<std::int64_t>(i), sums[i]);
      }
    });
  }

 private:
  static std::size_t count(std::int64_t batch, const Shape& s) {
    return static_cast<std::size_t>(batch * s.elements());
  }

  Element element_;
  ConvProblem problem_;
};

ConvProblem as_convolution(const DenseProblem& p) {
  return {.layer = p.layer,
          .batch = p.batch,
          .in = {p.ins, 1, 1},
          .out = {p.outs, 1, 1},
          .window = {},
          .bias = p.bias,
          .relu = p.relu,
          .input_gradient = p.input_gradient};
}

class HostRecording final : public Recording {
 public:
  HostRecording(std::vector<host_grid::Work> work, HostLibraryCounts* counts)
      : work_(std::move(work)), counts_(counts) {}
  void launch(dist::Stream stream) override {
    ++counts_->launched;
    for (const host_grid::Work& work : work_) host_grid::submit(stream, work);
  }

 private:
  std::vector<host_grid::Work> work_;
  HostLibraryCounts* counts_;
};

class HostStopwatch final : public Stopwatch {
 public:
  explicit HostStopwatch(std::size_t marks) : times_(marks) {}
  void mark(dist::Stream stream, std::size_t index) override {
    host_grid::submit(stream, [this, index] { times_[index] = dist::Clock::now(); });
  }
  double nanoseconds(std::size_t from, std::size_t to) override {
    return std::chrono::duration<double, std::nano>(times_[to] - times_[from]).count();
  }

 private:
  std::vector<dist::TimePoint> times_;
};

class HostLibrary final : public Library {
 public:
  HostLibrary(const HostLibraryOptions& options, HostLibraryCounts* counts)
      : options_(options), counts_(counts) {}

  std::shared_ptr<Convolution> convolution(const ConvProblem& problem) override {
    ++counts_->made;
    return std::make_shared<HostConvolution>(options_.arithmetic.element, problem);
  }
  std::shared_ptr<DenseProduct> dense(const DenseProblem& problem) override {
    ++counts_->made;
    return std::make_shared<HostConvolution>(options_.arithmetic.element, as_convolution(problem));
  }
  std::unique_ptr<Recording> record(dist::Stream, const std::function<void()>& work,
                                    std::string* why) override {
    if (!options_.records) {
      *why = "this library does not record";
      return nullptr;
    }
    ++counts_->recorded;
    host_grid::begin_recording();
    work();
    return std::make_unique<HostRecording>(host_grid::end_recording(), counts_);
  }
  std::unique_ptr<Stopwatch> stopwatch(std::size_t marks) override {
    return std::make_unique<HostStopwatch>(marks);
  }

 private:
  HostLibraryOptions options_;
  HostLibraryCounts* counts_;
};

}  // namespace

std::unique_ptr<Library> make_host_library(const HostLibraryOptions& options,
                                           HostLibraryCounts* counts) {
  return std::make_unique<HostLibrary>(options, counts);
}

}  // namespace nn::cudnn::test
