// SPDX-License-Identifier: Apache-2.0
#include "bench/ps/variant.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "libdist/compress/codec.h"

namespace dist::bench {
namespace {

constexpr std::string_view kGrammar =
    "sync, backup[:K], async, bounded:S, ring; each may be followed by +rate, +dc:LAMBDA, "
    "+push:METHOD, +pull:METHOD, +lr:FACTOR, +momentum:M";

template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "key:value", or "key" alone.
struct Word {
  explicit Word(std::string_view text)
      : key(text.substr(0, text.find(':'))),
        value(key.size() < text.size() ? text.substr(key.size() + 1) : std::string_view()),
        alone(key.size() == text.size()) {}
  std::string_view key, value;
  bool alone;
};

bool read_policy(const Word& word, Variant* variant) {
  const auto count = number<std::uint64_t>(word.value);
  if (word.key == "sync" || word.key == "ring") {
    variant->strategy = word.key == "sync" ? "sync-ps" : "ring";
    return word.alone;
  }
  if (word.key == "backup") {
    variant->strategy = "sync-ps";
    variant->backup_workers = word.alone ? 1 : static_cast<int>(count.value_or(0));
    return variant->backup_workers > 0;
  }
  variant->strategy = "async-ps";
  if (word.key == "bounded" && count) variant->staleness = *count;
  return word.key == "bounded" ? count.has_value() : word.key == "async" && word.alone;
}

bool read_extra(const Word& word, Variant* variant) {
  if (word.key == "rate") {
    variant->staleness_rate = true;
    return word.alone;
  }
  if (word.key == "push" || word.key == "pull") {
    (word.key == "push" ? variant->compress : variant->compress_pull) = word.value;
    return compression_named(word.value).ok();
  }
  if (word.key == "momentum") {
    variant->momentum = number<double>(word.value);
    return variant->momentum && *variant->momentum >= 0 && *variant->momentum < 1;
  }
  const auto value = number<double>(word.value).value_or(0);
  if (word.key == "dc") variant->delay_compensation = value;
  if (word.key == "lr") variant->rate_factor = value;
  return (word.key == "dc" || word.key == "lr") && value > 0;
}

}  // namespace

double Variant::rate_for(int workers) const {
  if (rate_factor != 0) return rate_factor;
  return on_arrival() && !staleness_rate ? 1.0 / workers : 1.0;
}

Status Variant::apply(Options* options) const {
  options->backup_workers = backup_workers;
  options->staleness = staleness;
  options->staleness_rate = staleness_rate;
  options->delay_compensation = delay_compensation;
  options->compress = compress;
  options->compress_pull = compress_pull;
  return options->validate();
}

Result<Variant> variant_named(std::string_view name) {
  Variant variant;
  variant.name = name;
  auto end = std::min(name.find('+'), name.size());
  bool good = read_policy(Word(name.substr(0, end)), &variant);
  while (good && end < name.size()) {
    const auto begin = end + 1;
    end = std::min(name.find('+', begin), name.size());
    good = read_extra(Word(name.substr(begin, end - begin)), &variant);
  }
  if (good) return variant;
  return Status::invalid_argument(fmt::format("policy '{}' is unknown; valid: {}", name, kGrammar));
}

std::string_view variant_grammar() { return kGrammar; }

}  // namespace dist::bench
