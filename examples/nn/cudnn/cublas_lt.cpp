// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/cublas_lt.h"

#include <dlfcn.h>

#include <string>

#include "examples/nn/cudnn/failure.h"

namespace nn::cudnn {
namespace {

// Whole in the program's file, where bench/gpu/carry.sh reads it.
constexpr char kLibrary[] = DIST_CUBLAS_LT_NAME;

Failure failure(const std::string& what) {
  return Failure(what + "; install cuBLAS of the CUDA Toolkit " + std::to_string(CUBLAS_VER_MAJOR) +
                 ", or name its folder in LD_LIBRARY_PATH");
}

// Never closed: cuDNN may use the same one.
void* open(const char* name) {
  if (void* const library = dlopen(name, RTLD_NOW)) return library;
  const std::string why = dlerror();
  const std::string in_toolkit = std::string(DIST_CUBLAS_LT_FOLDER "/") + name;
  if (void* const library = dlopen(in_toolkit.c_str(), RTLD_NOW)) return library;
  throw failure(std::string("cannot load ") + name + " (" + why + "; " + dlerror() + ")");
}

}  // namespace

CublasLt load_cublas_lt(const char* name) {
  void* const library = open(name);
  const auto find = [&]<typename Function>(Function& function, const char* symbol) {
    function = reinterpret_cast<Function>(dlsym(library, symbol));
    if (function != nullptr) return;
    throw failure(std::string(name) + " lacks " + symbol + " (" + dlerror() + ")");
  };
  CublasLt lt{};
  find(lt.create, "cublasLtCreate");
  find(lt.destroy, "cublasLtDestroy");
  find(lt.status_string, "cublasLtGetStatusString");
  find(lt.matmul, "cublasLtMatmul");
  find(lt.matmul_algo_get_heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(lt.matmul_desc_create, "cublasLtMatmulDescCreate");
  find(lt.matmul_desc_destroy, "cublasLtMatmulDescDestroy");
  find(lt.matmul_desc_set_attribute, "cublasLtMatmulDescSetAttribute");
  find(lt.matmul_preference_create, "cublasLtMatmulPreferenceCreate");
  find(lt.matmul_preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(lt.matmul_preference_set_attribute, "cublasLtMatmulPreferenceSetAttribute");
  find(lt.matrix_layout_create, "cublasLtMatrixLayoutCreate");
  find(lt.matrix_layout_destroy, "cublasLtMatrixLayoutDestroy");
  return lt;
}

const CublasLt& cublas_lt() {
  static const CublasLt lt = load_cublas_lt(kLibrary);
  return lt;
}

}  // namespace nn::cudnn
