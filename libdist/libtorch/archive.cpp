// SPDX-License-Identifier: Apache-2.0
#include "libdist/libtorch/archive.h"

#include <fmt/format.h>
#include <torch/serialize.h>
#include <torch/types.h>

#include <sstream>

namespace dist::libtorch {
namespace {

constexpr const char* kTensors = "buffers.pt";
constexpr const char* kOptimizer = "optimizer.pt";

CheckpointFile file_of(const char* name, torch::serialize::OutputArchive& archive) {
  std::ostringstream stream;
  archive.save_to(stream);
  const auto text = stream.str();
  const auto* const data = reinterpret_cast<const std::byte*>(text.data());
  return {name, {data, data + text.size()}};
}

// LibTorch tells failures by exceptions.
template <typename Read>
Status read(const std::string& path, const char* name, torch::Device device,
            const Read& read_archive) {
  const auto file = path + "/" + name;
  try {
    torch::serialize::InputArchive archive;
    archive.load_from(file, device);
    read_archive(archive);
    return {};
  } catch (const c10::Error& error) {  // whose what() ends with a stack
    return Status::invalid_argument(
        fmt::format("libtorch: {}: {}", file, error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return Status::invalid_argument(fmt::format("libtorch: {}: {}", file, error.what()));
  }
}

}  // namespace

CheckpointFile pack_tensors(const std::vector<torch::Tensor>& tensors) {
  torch::serialize::OutputArchive archive;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    archive.write(std::to_string(t), tensors[t].detach().cpu(), /*is_buffer=*/true);
  }
  return file_of(kTensors, archive);
}

CheckpointFile pack_optimizer(const torch::optim::Optimizer& optimizer) {
  torch::serialize::OutputArchive archive;
  optimizer.save(archive);
  return file_of(kOptimizer, archive);
}

Status unpack_tensors(const std::string& path, const std::vector<torch::Tensor>& tensors) {
  return read(path, kTensors, torch::kCPU, [&](torch::serialize::InputArchive& archive) {
    const torch::NoGradGuard no_grad;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      torch::Tensor saved;
      archive.read(std::to_string(t), saved, /*is_buffer=*/true);
      tensors[t].copy_(saved);
    }
  });
}

Status unpack_optimizer(const std::string& path, torch::optim::Optimizer& optimizer,
                        torch::Device device) {
  return read(path, kOptimizer, device,
              [&](torch::serialize::InputArchive& archive) { optimizer.load(archive); });
}

}  // namespace dist::libtorch
