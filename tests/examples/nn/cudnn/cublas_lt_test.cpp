// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/cublas_lt.h"

#include <fstream>
#include <iterator>
#include <string>

#include "examples/nn/cudnn/failure.h"
#include "tests/support/catch.h"

using namespace nn::cudnn;

namespace {

bool has(const std::string& text, const char* part) { return text.find(part) != text.npos; }

bool is_mapped() {
  std::ifstream file("/proc/self/maps");
  const std::string maps{std::istreambuf_iterator<char>(file), {}};
  REQUIRE(has(maps, "libc.so"));
  return has(maps, "libcublasLt");
}

std::string failure_to_load(const char* name) {
  try {
    load_cublas_lt(name);
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "loaded";
}

}  // namespace

TEST_CASE("cuBLASLt is loaded when it is asked for, and answers") {
  CHECK_FALSE(is_mapped());
  CHECK(has(cublas_lt().status_string(CUBLAS_STATUS_NOT_INITIALIZED), "not initialized"));
  CHECK(is_mapped());
  CHECK(&cublas_lt() == &cublas_lt());
}

TEST_CASE("a cuBLASLt that is missing, or lacks a function, is named with what to install") {
  const std::string missing = failure_to_load("libcublasLt.so.0");
  INFO(missing);
  CHECK(has(missing, "cannot load libcublasLt.so.0 (libcublasLt.so.0: "));
  CHECK(has(missing, "/libcublasLt.so.0: cannot open shared object file"));
  CHECK(has(missing, "; install cuBLAS of the CUDA Toolkit "));
  const std::string other = failure_to_load("libm.so.6");
  INFO(other);
  CHECK(has(other, "libm.so.6 lacks cublasLtCreate ("));
  CHECK(has(other, "; install cuBLAS of the CUDA Toolkit "));
}
