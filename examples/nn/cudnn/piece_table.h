// SPDX-License-Identifier: Apache-2.0
// Runs of parameters for kernels that go over many at once: cut into equal pieces, so that one
// large weight does not keep a single block busy, and put where the device reads them.
#pragma once

#include <cstdint>
#include <vector>

#include "examples/nn/cudnn/kernels.h"

namespace nn::cudnn {

class PieceTable {
 public:
  /// `elements` is a multiple of eight; `copy` may be missing.
  void add(float* values, void* copy, std::uint64_t elements, Element element);

  /// Copies the table to the device and waits.
  dist::Status upload(dist::Device& device, dist::Stream stream);
  Pieces pieces() const { return on_device_; }

  const std::vector<Piece>& on_host() const { return pieces_; }
  const std::vector<std::uint32_t>& elements() const { return elements_; }

 private:
  std::vector<Piece> pieces_;
  std::vector<std::uint32_t> elements_;
  dist::DeviceMemory memory_;
  Pieces on_device_;
};

}  // namespace nn::cudnn
