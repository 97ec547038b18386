// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/piece_table.h"

#include <algorithm>
#include <span>

#include "examples/nn/cudnn/plan.h"
#include "libdist/check.h"

namespace nn::cudnn {

void PieceTable::add(float* values, void* copy, std::uint64_t elements, Element element) {
  DIST_ASSERT(elements % kChannelBlock == 0, "a parameter that is not padded");
  for (std::uint64_t done = 0; done < elements; done += kPieceElements) {
    void* part =
        copy == nullptr ? nullptr : static_cast<std::byte*>(copy) + done * bytes_of(element);
    pieces_.push_back({values + done, part});
    elements_.push_back(static_cast<std::uint32_t>(std::min(kPieceElements, elements - done)));
  }
}

dist::Status PieceTable::upload(dist::Device& device, dist::Stream stream) {
  if (pieces_.empty()) return {};
  const auto pieces = std::as_bytes(std::span(pieces_));
  const auto counts = std::as_bytes(std::span(elements_));
  auto memory =
      device.allocate(dist::Bytes(pieces.size() + counts.size()), dist::MemoryKind::device);
  DIST_TRY_BECAUSE(memory, "tables of parameters");
  memory_ = *std::move(memory);
  const std::span<std::byte> bytes = memory_.bytes();
  DIST_TRY(device.copy(stream, bytes.first(pieces.size()), pieces));
  DIST_TRY(device.copy(stream, bytes.subspan(pieces.size(), counts.size()), counts));
  DIST_TRY(device.synchronize(stream));
  on_device_ = {reinterpret_cast<const Piece*>(bytes.data()),
                reinterpret_cast<const std::uint32_t*>(bytes.data() + pieces.size()),
                pieces_.size()};
  return {};
}

}  // namespace nn::cudnn
