// SPDX-License-Identifier: Apache-2.0
// The products of a dense layer by cuBLASLt, bias and ReLU in the epilogue. cuBLASLt counts by
// columns: what is [rows, columns] here is [columns, rows] there. Of the algorithms that it
// proposes the fastest is kept.
#include <cublasLt.h>

#include <array>
#include <limits>

#include "examples/nn/cudnn/check.h"
#include "examples/nn/cudnn/cuda_library.h"

namespace nn::cudnn {
namespace {

cudaDataType_t type_of(Element element) {
  if (element == Element::f32) return CUDA_R_32F;
  return element == Element::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

class MatrixLayout {
 public:
  // A row-major [rows, columns].
  MatrixLayout(Element element, std::int64_t rows, std::int64_t columns) {
    check(cublas_lt().matrix_layout_create(&layout_, type_of(element),
                                           static_cast<std::uint64_t>(columns),
                                           static_cast<std::uint64_t>(rows), columns),
          "cublasLtMatrixLayoutCreate");
  }
  ~MatrixLayout() { cublas_lt().matrix_layout_destroy(layout_); }
  MatrixLayout(const MatrixLayout&) = delete;
  MatrixLayout& operator=(const MatrixLayout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

class Preference {
 public:
  Preference() {
    check(cublas_lt().matmul_preference_create(&preference_), "cublasLtMatmulPreferenceCreate");
  }
  ~Preference() { cublas_lt().matmul_preference_destroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  template <typename T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(cublas_lt().matmul_preference_set_attribute(preference_, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  }
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  cublasLtMatmulPreference_t preference_ = nullptr;
};

// out = op(a) op(b), or added to it.
class Product {
 public:
  Product(cublasLtHandle_t handle, const Arithmetic& arithmetic, cublasOperation_t of_a,
          cublasOperation_t of_b, cublasLtEpilogue_t epilogue)
      : handle_(handle), epilogue_(epilogue) {
    const auto compute = arithmetic.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    check(cublas_lt().matmul_desc_create(&desc_, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, of_a);
    set(CUBLASLT_MATMUL_DESC_TRANSB, of_b);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  }
  ~Product() { cublas_lt().matmul_desc_destroy(desc_); }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  void choose(Tuner& tuner, const MatrixLayout& a, const MatrixLayout& b, const MatrixLayout& out,
              const std::vector<void*>& scratch, const std::string& what) {
    constexpr std::uint32_t kAlignmentBytes = 64;  // of parameters in the arena
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kWorkspaceBytes});
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      preference.set(attribute, kAlignmentBytes);
    }
    set_bias(scratch[4]);  // what is proposed depends on whether there is one
    std::array<cublasLtMatmulHeuristicResult_t, 8> found{};
    int count = 0;
    check(cublas_lt().matmul_algo_get_heuristic(
              handle_, desc_, a.get(), b.get(), out.get(), out.get(), preference.get(),
              static_cast<int>(found.size()), found.data(), &count),
          "cublasLtMatmulAlgoGetHeuristic");
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < count; ++i) {
      const cublasLtMatmulHeuristicResult_t& candidate = found[static_cast<std::size_t>(i)];
      if (candidate.state != CUBLAS_STATUS_SUCCESS) continue;
      algorithm_ = candidate.algo;
      const double time = tuner.milliseconds([&] {
        run(tuner.stream(), a, scratch[1], b, scratch[2], out, scratch[3], scratch[4], false,
            scratch[0]);
      });
      if (time >= best) continue;
      best = time;
      chosen_ = candidate;
    }
    if (best == std::numeric_limits<double>::infinity()) {
      throw Failure(what + ": none of cuBLASLt's " + std::to_string(count) + " algorithms runs");
    }
    algorithm_ = chosen_.algo;
  }

  void run(dist::Stream stream, const MatrixLayout& a, const void* a_data, const MatrixLayout& b,
           const void* b_data, const MatrixLayout& out, void* out_data, const void* bias, bool add,
           void* workspace) {
    set_bias(bias);
    const float one = 1;
    const float beta = add ? 1 : 0;
    check(cublas_lt().matmul(handle_, desc_, &one, a_data, a.get(), b_data, b.get(), &beta,
                             out_data, out.get(), out_data, out.get(), &algorithm_, workspace,
                             kWorkspaceBytes, handle_of(stream)),
          "cublasLtMatmul");
  }

  static constexpr std::uint64_t kWorkspaceBytes = std::uint64_t{64} << 20;

 private:
  void set_bias(const void* bias) {
    if (epilogue_ == CUBLASLT_EPILOGUE_DEFAULT || epilogue_ == CUBLASLT_EPILOGUE_RELU) return;
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    check(cublas_lt().matmul_desc_set_attribute(desc_, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  }

  cublasLtHandle_t handle_;
  cublasLtEpilogue_t epilogue_;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatmulHeuristicResult_t chosen_{};
  cublasLtMatmulAlgo_t algorithm_{};
};

cublasLtEpilogue_t epilogue_of(const DenseProblem& p) {
  if (p.bias) return p.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
  return p.relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

class CublasDense final : public DenseProduct {
 public:
  CublasDense(cublasLtHandle_t handle, Tuner& tuner, const Arithmetic& arithmetic,
              const DenseProblem& problem)
      : problem_(problem),
        x_(arithmetic.element, problem.batch, problem.ins),
        weight_(arithmetic.element, problem.outs, problem.ins),
        y_(arithmetic.element, problem.batch, problem.outs),
        forward_(handle, arithmetic, CUBLAS_OP_T, CUBLAS_OP_N, epilogue_of(problem)),
        data_(handle, arithmetic, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT),
        filter_(handle, arithmetic, CUBLAS_OP_N, CUBLAS_OP_T, CUBLASLT_EPILOGUE_DEFAULT) {
    const std::uint64_t size = bytes_of(arithmetic.element);
    const auto bytes = [&](std::int64_t rows, std::int64_t columns) {
      return static_cast<std::uint64_t>(rows * columns) * size;
    };
    const std::uint64_t x = bytes(problem.batch, problem.ins);
    const std::uint64_t weight = bytes(problem.outs, problem.ins);
    const std::uint64_t y = bytes(problem.batch, problem.outs);
    const std::uint64_t bias = bytes(problem.outs, 1);
    forward_.choose(tuner, weight_, x_, y_, tuner.scratch({weight, x, y, bias}), problem.layer);
    filter_.choose(tuner, x_, y_, weight_, tuner.scratch({x, y, weight, bias}), problem.layer);
    if (!problem.input_gradient) return;
    data_.choose(tuner, weight_, y_, x_, tuner.scratch({weight, y, x, bias}), problem.layer);
  }

  std::uint64_t workspace_bytes() const override { return Product::kWorkspaceBytes; }
  std::string choice() const override {
    return problem_.layer + ": " + std::to_string(problem_.batch) + " x " +
           std::to_string(problem_.ins) + " -> " + std::to_string(problem_.outs) +
           ": fastest of cuBLASLt's proposals";
  }

  void forward(dist::Stream stream, const void* x, const void* weight, const Bias& bias, void* y,
               void* workspace) override {
    forward_.run(stream, weight_, weight, x_, x, y_, y, bias.copy, false, workspace);
  }
  void backward_data(dist::Stream stream, const void* weight, const void* dy, void* dx, bool add,
                     void* workspace) override {
    data_.run(stream, weight_, weight, y_, dy, x_, dx, nullptr, add, workspace);
  }
  void backward_weight(dist::Stream stream, const void* x, const void* dy, void* dweight,
                       void* workspace) override {
    filter_.run(stream, x_, x, y_, dy, weight_, dweight, nullptr, false, workspace);
  }

 private:
  DenseProblem problem_;
  MatrixLayout x_, weight_, y_;
  Product forward_, data_, filter_;
};

}  // namespace

std::shared_ptr<DenseProduct> make_cublas_dense(cublasLtHandle_t handle, Tuner& tuner,
                                                const Arithmetic& arithmetic,
                                                const DenseProblem& problem) {
  return std::make_shared<CublasDense>(handle, tuner, arithmetic, problem);
}

}  // namespace nn::cudnn
