// SPDX-License-Identifier: Apache-2.0
// Which payloads travel compressed, and how. All ranks have the same, so the size of every payload
// follows from its kind and its piece on both sides.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "libdist/compress/compressor.h"
#include "libdist/options.h"
#include "libdist/status.h"
#include "ps/message.h"

namespace dist::ps {

/// What the user has asked for.
struct Packing {
  Compression push = Compression::none;  ///< of gradients
  Compression pull = Compression::none;  ///< of parameters: f16, bf16 or none
  double top_k = 0.01;                   ///< see make_codec()
  Bytes at_least = 64_KiB;               ///< smaller payloads travel as they are

  static Result<Packing> from(const Options& options);

  /// All of it as text, to compare between ranks.
  std::string describe() const;
};

/// Of one worker or server. All but the const functions belongs to the progress thread.
class Packer {
 public:
  Packer(const Packing& packing, DType dtype);

  /// Whether a payload of that kind and size is compressed; first parameters never are.
  bool packs(Kind kind, Elems elems) const;

  /// How long such a payload is on its way.
  Bytes payload_bytes(Kind kind, Elems elems) const;

  /// See Compressor. Only where packs() says so.
  void pack(Kind kind, std::span<const std::byte> plain, std::span<std::byte> out,
            std::span<float> error = {});
  Status unpack(Kind kind, std::span<const std::byte> in, std::span<std::byte> plain);

  /// Time spent in both.
  Duration time() const;

 private:
  const Compressor* find(Kind kind) const;
  Compressor& get(Kind kind);

  const DType dtype_;
  const Bytes at_least_;
  std::optional<Compressor> push_;
  std::optional<Compressor> pull_;
};

}  // namespace dist::ps
