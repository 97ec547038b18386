// SPDX-License-Identifier: Apache-2.0
// The one file that knows oneDNN's versions. 2.x makes a primitive descriptor from an operation
// descriptor, 3.x directly; a few argument lists differ too. Everything here throws dnnl::error.
#pragma once

#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

namespace nn::onednn {

using dnnl::memory;

/// Rows and columns of a sliding window.
struct Sliding {
  memory::dims kernel, strides, padding;
};

inline dnnl::primitive_attr attributes(bool relu = false) {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (relu) {
    dnnl::post_ops after;
#if DNNL_VERSION_MAJOR >= 3
    after.append_eltwise(dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
#else
    after.append_eltwise(1.0f, dnnl::algorithm::eltwise_relu, 0.0f, 0.0f);
#endif
    attr.set_post_ops(after);
  }
  return attr;
}

/// Op::primitive_desc from the arguments that both versions share.
template <typename Op, typename... Arguments>
typename Op::primitive_desc describe(const dnnl::engine& engine, const dnnl::primitive_attr& attr,
                                     const Arguments&... arguments) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, arguments..., attr};
#else
  return {typename Op::desc(arguments...), attr, engine};
#endif
}

/// The same for a backward primitive, which takes its forward one as a hint.
template <typename Op, typename Forward, typename... Arguments>
typename Op::primitive_desc describe_backward(const dnnl::engine& engine, const Forward& forward,
                                              const Arguments&... arguments) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, arguments..., forward, attributes()};
#else
  return {typename Op::desc(arguments...), attributes(), engine, forward};
#endif
}

inline dnnl::pooling_forward::primitive_desc describe_pooling(const dnnl::engine& engine,
                                                              dnnl::algorithm algorithm,
                                                              const memory::desc& src,
                                                              const memory::desc& dst,
                                                              const Sliding& window) {
  constexpr auto kProp = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
  return describe<dnnl::pooling_forward>(engine, attributes(), kProp, algorithm, src, dst,
                                         window.strides, window.kernel, memory::dims{0, 0},
                                         window.padding, window.padding);
#else
  return describe<dnnl::pooling_forward>(engine, attributes(), kProp, algorithm, src, dst,
                                         window.strides, window.kernel, window.padding,
                                         window.padding);
#endif
}

inline dnnl::pooling_backward::primitive_desc describe_pooling_backward(
    const dnnl::engine& engine, const dnnl::pooling_forward::primitive_desc& forward,
    dnnl::algorithm algorithm, const memory::desc& diff_src, const memory::desc& diff_dst,
    const Sliding& window) {
#if DNNL_VERSION_MAJOR >= 3
  return describe_backward<dnnl::pooling_backward>(
      engine, forward, algorithm, diff_src, diff_dst, window.strides, window.kernel,
      memory::dims{0, 0}, window.padding, window.padding);
#else
  return describe_backward<dnnl::pooling_backward>(engine, forward, algorithm, diff_src, diff_dst,
                                                   window.strides, window.kernel, window.padding,
                                                   window.padding);
#endif
}

inline dnnl::batch_normalization_forward::primitive_desc describe_batch_norm(
    const dnnl::engine& engine, dnnl::prop_kind prop, const memory::desc& data, float epsilon,
    dnnl::normalization_flags flags) {
#if DNNL_VERSION_MAJOR >= 3
  return describe<dnnl::batch_normalization_forward>(engine, attributes(), prop, data, data,
                                                     epsilon, flags);
#else
  return describe<dnnl::batch_normalization_forward>(engine, attributes(), prop, data, epsilon,
                                                     flags);
#endif
}

inline dnnl::batch_normalization_backward::primitive_desc describe_batch_norm_backward(
    const dnnl::engine& engine, const dnnl::batch_normalization_forward::primitive_desc& forward,
    const memory::desc& data, float epsilon, dnnl::normalization_flags flags) {
  constexpr auto kProp = dnnl::prop_kind::backward;
#if DNNL_VERSION_MAJOR >= 3
  return describe_backward<dnnl::batch_normalization_backward>(engine, forward, kProp, data, data,
                                                               data, epsilon, flags);
#else
  return describe_backward<dnnl::batch_normalization_backward>(engine, forward, kProp, data, data,
                                                               epsilon, flags);
#endif
}

inline dnnl::eltwise_forward::primitive_desc describe_relu(const dnnl::engine& engine,
                                                           const memory::desc& data) {
  constexpr auto kProp = dnnl::prop_kind::forward_training;
  constexpr auto kRelu = dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
#if DNNL_VERSION_MAJOR >= 3
  return describe<dnnl::eltwise_forward>(engine, attributes(), kProp, kRelu, data, data, 0.0f,
                                         0.0f);
#else
  return describe<dnnl::eltwise_forward>(engine, attributes(), kProp, kRelu, data, 0.0f, 0.0f);
#endif
}

inline dnnl::eltwise_backward::primitive_desc describe_relu_backward(
    const dnnl::engine& engine, const dnnl::eltwise_forward::primitive_desc& forward,
    const memory::desc& data) {
  constexpr auto kRelu = dnnl::algorithm::eltwise_relu_use_dst_for_bwd;
#if DNNL_VERSION_MAJOR >= 3
  return describe_backward<dnnl::eltwise_backward>(engine, forward, kRelu, data, data, data, 0.0f,
                                                   0.0f);
#else
  return describe_backward<dnnl::eltwise_backward>(engine, forward, kRelu, data, data, 0.0f, 0.0f);
#endif
}

inline dnnl::sum::primitive_desc describe_sum(const dnnl::engine& engine, const memory::desc& dst,
                                              const std::vector<memory::desc>& sources) {
  const std::vector<float> scales(sources.size(), 1.0f);
#if DNNL_VERSION_MAJOR >= 3
  return {engine, dst, scales, sources, attributes()};
#else
  return {dst, scales, sources, engine, attributes()};
#endif
}

/// Along channels; the layout of the result is oneDNN's choice.
inline dnnl::concat::primitive_desc describe_concat(const dnnl::engine& engine,
                                                    const std::vector<memory::desc>& sources) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, 1, sources, attributes()};
#else
  return {1, sources, engine, attributes()};
#endif
}

inline dnnl::concat::primitive_desc describe_concat(const dnnl::engine& engine,
                                                    const memory::desc& dst,
                                                    const std::vector<memory::desc>& sources) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, dst, 1, sources, attributes()};
#else
  return {dst, 1, sources, engine, attributes()};
#endif
}

inline memory::dims dims_of(const memory::desc& desc) {
#if DNNL_VERSION_MAJOR >= 3
  return desc.get_dims();
#else
  return desc.dims();
#endif
}

}  // namespace nn::onednn
