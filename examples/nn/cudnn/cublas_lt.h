// SPDX-License-Identifier: Apache-2.0
// cuBLASLt's functions, loaded when they are first asked for: a program that links it pays for it
// at its start, also where no GPU is used. Only sources that need CUDA include this.
#pragma once

#include <cublasLt.h>

namespace nn::cudnn {

struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) matmul_algo_get_heuristic;
  decltype(&cublasLtMatmulDescCreate) matmul_desc_create;
  decltype(&cublasLtMatmulDescDestroy) matmul_desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) matmul_desc_set_attribute;
  decltype(&cublasLtMatmulPreferenceCreate) matmul_preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) matmul_preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) matmul_preference_set_attribute;
  decltype(&cublasLtMatrixLayoutCreate) matrix_layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) matrix_layout_destroy;
};

/// Loads the shared library of that file name, from where the loader looks or else from the
/// toolkit's folder; it stays loaded. Failure: it cannot be loaded, or lacks a function.
CublasLt load_cublas_lt(const char* name);

/// The cuBLASLt whose headers this was compiled with, loaded by the first call; from any thread.
/// Failure: as above, and the next call tries again.
const CublasLt& cublas_lt();

}  // namespace nn::cudnn
