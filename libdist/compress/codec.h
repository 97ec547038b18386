// SPDX-License-Identifier: Apache-2.0
// How values are written with fewer bits than they have. Pure: no transport, no state. The size of
// what is written follows from the number of values alone, never from their content: nobody has to
// believe a length that came over a wire. README.md holds the formats.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

enum class Compression : std::uint8_t {
  none,
  f16,      ///< IEEE binary16; beyond 65504 it becomes infinity
  bf16,     ///< the upper half of binary32
  int8,     ///< 8 bits and a scale for 256 values (Dettmers 2016 has it for gradients)
  top_k,    ///< the values of largest size with their places (Aji and Heafield 2017)
  one_bit,  ///< the sign, and for 1024 values the mean of each sign (Seide et al. 2014)
};
std::string_view name_of(Compression method);

/// By name: none, f16, bf16, int8, top-k, one-bit; anything else is an error that lists them.
Result<Compression> compression_named(std::string_view name);

/// Whether what is lost is so much that training goes astray unless it is added to the next values
/// (error feedback, Karimireddy et al. 2019).
constexpr bool needs_error_feedback(Compression method) { return method >= Compression::int8; }

class Codec {
 public:
  virtual ~Codec() = default;

  virtual Bytes encoded_bytes(Elems elems) const = 0;

  /// `out` has encoded_bytes(values.size()) bytes. A value that is not a number makes the values
  /// that share a scale with it not a number on the other side: nothing is hidden.
  virtual void encode(std::span<const float> values, std::span<std::byte> out) const = 0;

  /// The other way. Error (protocol): bytes that no encode() writes.
  virtual Status decode(std::span<const std::byte> in, std::span<float> values) const = 0;
};

/// `top_k` is the part of the values that is sent, in (0, 1]; at least one. Not for `none`.
std::unique_ptr<Codec> make_codec(Compression method, double top_k);

// One a file, for make_codec().
std::unique_ptr<Codec> make_half_codec(Compression method);
std::unique_ptr<Codec> make_int8_codec();
std::unique_ptr<Codec> make_top_k_codec(double part);
std::unique_ptr<Codec> make_one_bit_codec();

}  // namespace dist
