// SPDX-License-Identifier: Apache-2.0
// A codec for raw elements of an arena, and the time it takes.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "libdist/compress/codec.h"

namespace dist {

/// f32 or f64 elements; f64 loses what float cannot hold. Not thread-safe.
class Compressor {
 public:
  /// See make_codec().
  Compressor(Compression method, double top_k, DType dtype);

  Compression method() const { return method_; }
  Bytes encoded_bytes(Elems elems) const { return codec_->encoded_bytes(elems); }

  /// Writes `values` to `out`, encoded_bytes() long. With an `error` (one float a value, 0 at
  /// first; else empty) it writes values + error instead and leaves there what got lost of that:
  /// over many calls everything arrives (Karimireddy et al. 2019, algorithm 1).
  void encode(std::span<const std::byte> values, std::span<std::byte> out, std::span<float> error);

  /// The other way. Error: protocol.
  Status decode(std::span<const std::byte> in, std::span<std::byte> values);

  /// Spent in both since it was made.
  Duration time() const { return time_; }

 private:
  void write(std::span<const std::byte> values, std::span<std::byte> out, std::span<float> error);
  Status read(std::span<const std::byte> in, std::span<std::byte> values);

  const Compression method_;
  const DType dtype_;
  const std::unique_ptr<Codec> codec_;
  std::vector<float> values_;   // on their way
  std::vector<float> arrived_;  // what the other side sees
  Duration time_{0};
};

}  // namespace dist
