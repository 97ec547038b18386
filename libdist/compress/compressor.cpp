// SPDX-License-Identifier: Apache-2.0
#include "libdist/compress/compressor.h"

#include <algorithm>

#include "libdist/check.h"

namespace dist {
namespace {

template <typename T>
std::span<const T> typed(std::span<const std::byte> raw) {
  return {reinterpret_cast<const T*>(raw.data()), raw.size() / sizeof(T)};
}

template <typename To, typename From>
void convert(std::span<const From> from, To* to) {
  std::transform(from.begin(), from.end(), to, [](From value) { return static_cast<To>(value); });
}

}  // namespace

Compressor::Compressor(Compression method, double top_k, DType dtype)
    : method_(method), dtype_(dtype), codec_(make_codec(method, top_k)) {
  DIST_ASSERT(can_train(dtype), "compression is for f32 and f64");
}

void Compressor::encode(std::span<const std::byte> values, std::span<std::byte> out,
                        std::span<float> error) {
  const auto begin = Clock::now();
  write(values, out, error);
  time_ += Clock::now() - begin;
}

Status Compressor::decode(std::span<const std::byte> in, std::span<std::byte> values) {
  const auto begin = Clock::now();
  Status outcome = read(in, values);
  time_ += Clock::now() - begin;
  return outcome;
}

void Compressor::write(std::span<const std::byte> values, std::span<std::byte> out,
                       std::span<float> error) {
  if (dtype_ == DType::f32 && error.empty()) return codec_->encode(typed<float>(values), out);
  const std::size_t elems = values.size() / size_of(dtype_);
  DIST_ASSERT(error.empty() || error.size() == elems, "one error a value");
  values_.resize(elems);
  if (dtype_ == DType::f32) {
    convert(typed<float>(values), values_.data());
  } else {
    convert(typed<double>(values), values_.data());
  }
  for (std::size_t i = 0; i < error.size(); ++i) values_[i] += error[i];
  codec_->encode(values_, out);
  if (error.empty()) return;
  arrived_.resize(elems);
  const Status own = codec_->decode(out, arrived_);
  DIST_ASSERT(own.ok(), "a codec reads what it wrote");
  for (std::size_t i = 0; i < elems; ++i) error[i] = values_[i] - arrived_[i];
}

Status Compressor::read(std::span<const std::byte> in, std::span<std::byte> values) {
  if (dtype_ == DType::f32) {
    return codec_->decode(in,
                          {reinterpret_cast<float*>(values.data()), values.size() / sizeof(float)});
  }
  arrived_.resize(values.size() / sizeof(double));
  DIST_TRY(codec_->decode(in, arrived_));
  convert(std::span<const float>(arrived_), reinterpret_cast<double*>(values.data()));
  return {};
}

}  // namespace dist
