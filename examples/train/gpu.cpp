// SPDX-License-Identifier: Apache-2.0
#include "examples/train/gpu.h"

#include <fmt/format.h>

#include "libdist/memory/device_wait.h"

namespace train {

using dist::Status;

Status Gpu::wait(dist::Duration timeout) const {
  return dist::wait_for_stream(*device, stream, timeout, "training step");
}

dist::Result<Gpu> open_gpu(const TrainOptions& options) {
  const auto instead = [](const Status& why) {
    return Status(why.code(), fmt::format("--backend cudnn: {}; or choose --backend onednn or ref",
                                          why.message()));
  };
  if (const Status usable = dist::device_available(); !usable.ok()) return instead(usable);
  auto device = dist::open_device(options.world.local_rank % dist::device_count());
  if (!device.ok()) return instead(device.status());
  const auto stream = (*device)->make_stream(dist::StreamPriority::normal);
  DIST_TRY(stream);
  return Gpu{*std::move(device), *stream};
}

Status check_precision(const TrainOptions& options) {
  const auto& precision = options.precision;
  const bool low = precision == "tf32" || precision == "f16" || precision == "bf16";
  if (low && !options.on_gpu()) {
    return Status::invalid_argument(fmt::format(
        "--precision {} is for --backend cudnn; the others compute in f32, and ref in f64 too",
        precision));
  }
  if (precision == "f64" && options.on_gpu()) {
    return Status::invalid_argument(
        "--precision f64 is for --backend ref; cudnn computes in f32, tf32, f16 or bf16");
  }
  return {};
}

dist::Result<GpuBatches> GpuBatches::upload(const Gpu& gpu,
                                            std::span<const nn::data::Samples> batches,
                                            dist::Duration timeout) {
  GpuBatches all;
  const auto copy = [&](auto values) -> dist::Result<decltype(values)> {
    const auto bytes = std::as_bytes(values);
    auto memory = gpu.device->allocate(dist::Bytes(bytes.size()), dist::MemoryKind::device);
    DIST_TRY(memory);
    DIST_TRY(gpu.device->copy(gpu.stream, memory->bytes(), bytes));
    all.memory_.push_back(*std::move(memory));
    using Value = typename decltype(values)::pointer;
    return decltype(values)(reinterpret_cast<Value>(all.memory_.back().bytes().data()),
                            values.size());
  };
  for (const nn::data::Samples& samples : batches) {
    const auto images = copy(samples.batch().images);
    DIST_TRY_BECAUSE(images, "batches");
    const auto labels = copy(samples.batch().labels);
    DIST_TRY_BECAUSE(labels, "batches");
    all.batches_.push_back({*images, *labels, true});
  }
  DIST_TRY_BECAUSE(gpu.wait(timeout), "batches");
  return all;
}

}  // namespace train
