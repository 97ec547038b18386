// SPDX-License-Identifier: Apache-2.0
#include "ps/packing.h"

#include <fmt/format.h>

#include "libdist/check.h"

namespace dist::ps {

Result<Packing> Packing::from(const Options& options) {
  const auto push = compression_named(options.compress);
  DIST_TRY_BECAUSE(push, "option compress");
  const auto pull = compression_named(options.compress_pull);
  DIST_TRY_BECAUSE(pull, "option compress-pull");
  if (needs_error_feedback(*pull)) {
    return Status::invalid_argument(
        fmt::format("option compress-pull: {} would leave parameters wrong for good, since what a "
                    "rounding loses is not sent later; choose f16, bf16 or none",
                    options.compress_pull));
  }
  return Packing{*push, *pull, options.top_k, options.compress_at_least};
}

std::string Packing::describe() const {
  return fmt::format("{} {} {} {}", name_of(push), name_of(pull), top_k, at_least.value);
}

Packer::Packer(const Packing& packing, DType dtype) : dtype_(dtype), at_least_(packing.at_least) {
  if (packing.push != Compression::none) push_.emplace(packing.push, packing.top_k, dtype);
  if (packing.pull != Compression::none) pull_.emplace(packing.pull, packing.top_k, dtype);
}

bool Packer::packs(Kind kind, Elems elems) const {
  return find(kind) != nullptr && bytes_of(elems, dtype_) >= at_least_;
}

Bytes Packer::payload_bytes(Kind kind, Elems elems) const {
  return packs(kind, elems) ? find(kind)->encoded_bytes(elems) : bytes_of(elems, dtype_);
}

void Packer::pack(Kind kind, std::span<const std::byte> plain, std::span<std::byte> out,
                  std::span<float> error) {
  get(kind).encode(plain, out, error);
}

Status Packer::unpack(Kind kind, std::span<const std::byte> in, std::span<std::byte> plain) {
  return get(kind).decode(in, plain);
}

Duration Packer::time() const {
  return (push_ ? push_->time() : Duration(0)) + (pull_ ? pull_->time() : Duration(0));
}

const Compressor* Packer::find(Kind kind) const {
  if (kind == Kind::push && push_) return &*push_;
  if (kind == Kind::reply && pull_) return &*pull_;
  return nullptr;
}

Compressor& Packer::get(Kind kind) {
  DIST_ASSERT(find(kind) != nullptr, "this kind of payload is not compressed");
  return kind == Kind::push ? *push_ : *pull_;
}

}  // namespace dist::ps
