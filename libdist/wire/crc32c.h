// SPDX-License-Identifier: Apache-2.0
// CRC32C (Castagnoli, reflected polynomial 0x82f63b78), the checksum of every frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace dist::wire {

/// Checksum of `bytes`; with the checksum of what came before as `previous`, that of both together.
/// Uses the processor's instruction where there is one. Safe from any thread.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t previous = 0);

/// The same by a table alone: what other processors run, and what tests compare with.
std::uint32_t crc32c_by_table(std::span<const std::byte> bytes, std::uint32_t previous = 0);

}  // namespace dist::wire
