// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/feed.h"

#include <cstring>

#include "libdist/check.h"
#include "libdist/memory/device_wait.h"

namespace nn::cudnn {

dist::Status await_event(dist::Device& device, dist::Event event, dist::Duration timeout) {
  const dist::Status passed = dist::wait_for_mark(device, event, timeout);
  device.release_event(event);
  return passed.because("cudnn");
}

Feed::~Feed() {
  for (Slot& slot : slots_) {
    if (slot.read) device_->release_event(*slot.read);
  }
}

std::uint64_t Feed::image_bytes() const {
  return static_cast<std::uint64_t>(batch_ * image_.elements()) * sizeof(float);
}

dist::Result<const float*> Feed::take(const Batch& batch, std::int64_t classes,
                                      std::int32_t* labels) {
  DIST_ASSERT(batch.images.size_bytes() == image_bytes(), "the images are not one batch");
  DIST_ASSERT(static_cast<std::int64_t>(batch.labels.size()) == batch_, "one label an image");
  if (batch.on_device) {
    DIST_TRY(device_->copy(stream_,
                           {reinterpret_cast<std::byte*>(labels), batch.labels.size_bytes()},
                           std::as_bytes(batch.labels)));
    return batch.images.data();
  }
  for (const std::int32_t label : batch.labels) {
    DIST_ASSERT(label >= 0 && label < classes, "a label outside [0, classes)");
  }
  DIST_TRY(take_from_host(batch, labels));
  return reinterpret_cast<const float*>(images_.bytes().data());
}

dist::Status Feed::take_from_host(const Batch& batch, std::int32_t* labels) {
  const std::uint64_t bytes = image_bytes() + batch.labels.size_bytes();
  if (images_.bytes().empty()) {
    auto images = device_->allocate(dist::Bytes(image_bytes()), dist::MemoryKind::device);
    DIST_TRY_BECAUSE(images, "images");
    images_ = *std::move(images);
    for (Slot& slot : slots_) {
      auto pinned = device_->allocate(dist::Bytes(bytes), dist::MemoryKind::pinned);
      DIST_TRY_BECAUSE(pinned, "images on the host");
      slot.pinned = *std::move(pinned);
    }
  }
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  if (slot.read) {
    const dist::Event read = *slot.read;
    slot.read.reset();
    DIST_TRY(await_event(*device_, read, timeout_));
  }
  const std::span<std::byte> pinned = slot.pinned.bytes();
  std::memcpy(pinned.data(), batch.images.data(), image_bytes());
  std::memcpy(pinned.data() + image_bytes(), batch.labels.data(), batch.labels.size_bytes());
  DIST_TRY(
      device_->copy(stream_, images_.bytes().first(image_bytes()), pinned.first(image_bytes())));
  DIST_TRY(device_->copy(stream_, {reinterpret_cast<std::byte*>(labels), batch.labels.size_bytes()},
                         pinned.subspan(image_bytes(), batch.labels.size_bytes())));
  auto read = device_->record(stream_);
  DIST_TRY(read);
  slot.read = *read;
  return {};
}

}  // namespace nn::cudnn
