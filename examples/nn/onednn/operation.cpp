// SPDX-License-Identifier: Apache-2.0
// What the layers share: working memory, primitives with their scratchpads, delivery of gradients.
#include "examples/nn/onednn/layers.h"

#include <string_view>
#include <utility>

#include "libdist/check.h"

namespace nn::onednn {

void Operation::run(const Steps& steps, dnnl::stream& stream) {
  for (const Step& step : steps) step.primitive.execute(stream, step.arguments);
}

void Operation::forward(dnnl::stream& stream, Mode) { run(forward_, stream); }
void Operation::backward_parameters(dnnl::stream& stream) { run(backward_parameters_, stream); }
void Operation::backward_inputs(dnnl::stream& stream) { run(backward_inputs_, stream); }

std::size_t Operation::reserve(std::uint64_t bytes, Phase phase) {
  workspaces_.push_back({bytes, phase});
  return workspaces_.size() - 1;
}

memory Operation::workspace(const Tensors& tensors, std::size_t index,
                            const memory::desc& desc) const {
  DIST_ASSERT(desc.get_size() <= workspaces_[index].bytes, "a workspace is too small");
  return memory(desc, engine_, tensors.workspaces[index]);
}

Step Operation::step(const Kernel& kernel, const Tensors& tensors,
                     std::unordered_map<int, memory> arguments) const {
  if (kernel.scratchpad.get_size() > 0) {
    arguments.insert({DNNL_ARG_SCRATCHPAD, workspace(tensors, kernel.slot, kernel.scratchpad)});
  }
  return {kernel.primitive, std::move(arguments)};
}

Operation::Kernel Operation::reorder_kernel(const memory::desc& from, const memory::desc& to,
                                            Phase phase) {
  return kernel(dnnl::reorder::primitive_desc(engine_, from, engine_, to, attributes()), phase);
}

Operation::Delivery Operation::deliver(const Site& site, std::size_t input) {
  Delivery delivery;
  delivery.input = input;
  delivery.desc = site.in[input];
  delivery.add = site.routes[input].add;
  if (delivery.add) {
    delivery.slot = reserve(delivery.desc.get_size(), Phase::backward);
    delivery.sum = kernel(describe_sum(engine_, delivery.desc, {delivery.desc, delivery.desc}),
                          Phase::backward);
  }
  return delivery;
}

memory Operation::target(const Delivery& delivery, const Tensors& tensors) const {
  if (!delivery.add) return tensors.dx[delivery.input];
  return workspace(tensors, delivery.slot, delivery.desc);
}

void Operation::finish(const Delivery& delivery, const Tensors& tensors, Steps& steps) const {
  if (!delivery.add) return;
  const memory& sum = tensors.dx[delivery.input];
  steps.push_back(step(delivery.sum, tensors,
                       {{DNNL_ARG_MULTIPLE_SRC, sum},
                        {DNNL_ARG_MULTIPLE_SRC + 1, target(delivery, tensors)},
                        {DNNL_ARG_DST, sum}}));
}

memory::desc plain_desc(const memory::dims& dims) {
  memory::dims strides(dims.size(), 1);
  for (std::size_t i = dims.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * dims[i];
  return memory::desc(dims, memory::data_type::f32, strides);
}

memory::desc any_desc(const memory::dims& dims) {
  return memory::desc(dims, memory::data_type::f32, memory::format_tag::any);
}

bool lies_plain(const memory::desc& desc) {
  const memory::dims dims = dims_of(desc);
  const auto is = [&](memory::format_tag tag) {
    return desc == memory::desc(dims, memory::data_type::f32, tag);
  };
  if (desc == plain_desc(dims)) return true;
  if (dims.size() != 4) return false;
  if (is(memory::format_tag::nchw)) return true;
  if (dims[2] != 1 || dims[3] != 1) return false;
  // One pixel: blocks of channels follow each other as plain channels do, unless they are padded.
  return is(memory::format_tag::nhwc) || (dims[1] % 16 == 0 && is(memory::format_tag::nChw16c)) ||
         (dims[1] % 8 == 0 && is(memory::format_tag::nChw8c));
}

int speed_class(const char* implementation) {
  const std::string_view name = implementation;
  const auto has = [&](std::string_view part) { return name.find(part) != name.npos; };
  if (has("brg")) return 2;
  if (has("gemm")) return 1;  // also "x64:gemm:jit"
  return has("jit") ? 2 : 0;  // "jit:avx512_core", "jit_1x1:avx512_core", ...
}

}  // namespace nn::onednn
