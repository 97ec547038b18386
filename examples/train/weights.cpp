// SPDX-License-Identifier: Apache-2.0
#include "examples/train/weights.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

namespace train {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little endian");

constexpr std::size_t kAlignmentBytes = 8;

template <typename T>
void append_values(const std::vector<double>& values, std::vector<std::byte>* out) {
  for (const double value : values) {
    const T narrow = static_cast<T>(value);
    const auto* const bytes = reinterpret_cast<const std::byte*>(&narrow);
    out->insert(out->end(), bytes, bytes + sizeof narrow);
  }
}

std::string header_of(const nn::Graph& graph, dist::DType dtype) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  std::uint64_t at = 0;
  for (const nn::ParameterInfo& info : graph.parameters) {
    const auto end = at + info.elements() * dist::size_of(dtype);
    header[info.name] = {{"dtype", dtype == dist::DType::f64 ? "F64" : "F32"},
                         {"shape", info.dims},
                         {"data_offsets", {at, end}}};
    at = end;
  }
  auto text = header.dump();
  text.resize((text.size() + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes, ' ');
  return text;
}

}  // namespace

std::vector<std::byte> safetensors(const nn::Network& network) {
  const nn::Graph& graph = network.graph();
  const auto dtype = network.options().dtype;
  const auto header = header_of(graph, dtype);
  const std::uint64_t length = header.size();
  std::vector<std::byte> bytes(sizeof length + header.size());
  std::memcpy(bytes.data(), &length, sizeof length);
  std::memcpy(bytes.data() + sizeof length, header.data(), header.size());
  bytes.reserve(bytes.size() + graph.parameter_elements() * dist::size_of(dtype));
  const auto backward = graph.backward_order();
  std::vector<std::size_t> place(backward.size());  // in Network::parameters(), by forward order
  for (std::size_t i = 0; i < backward.size(); ++i) place[backward[i]] = i;
  for (const std::size_t i : place) {
    const auto values = network.plain_parameter(i);
    dtype == dist::DType::f64 ? append_values<double>(values, &bytes)
                              : append_values<float>(values, &bytes);
  }
  return bytes;
}

}  // namespace train
