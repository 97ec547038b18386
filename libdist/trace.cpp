// SPDX-License-Identifier: Apache-2.0
#include "libdist/trace.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace dist {
namespace {

double microseconds(Duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// Span names are the library's own; quotes and backslashes still must not break the file.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out;
}

}  // namespace

std::string_view name_of(Activity activity) {
  switch (activity) {
    case Activity::compute:
      return "compute";
    case Activity::wait:
      return "wait";
    case Activity::send:
      return "send";
    case Activity::receive:
      return "receive";
    case Activity::reduce:
      return "reduce";
    case Activity::update:
      return "update";
  }
  return "unknown";
}

void Trace::record(Activity activity, std::string_view name, TimePoint begin, TimePoint end,
                   Bytes bytes) {
  if (!enabled_) return;
  const std::lock_guard lock(mutex_);
  spans_.push_back({activity, std::string(name), begin, end, bytes});
}

Status Trace::write(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  const auto close = [](std::FILE* file) { return std::fclose(file); };
  std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path.c_str(), "w"), close);
  const auto failed = [&] {
    return Status::resource(
        fmt::format("rank {}: cannot write trace {}: {}", rank_, path, std::strerror(errno)));
  };
  if (!file) return failed();
  std::string text = "{\"traceEvents\":[\n";
  text += fmt::format(
      R"({{"ph":"M","pid":{0},"name":"process_name","args":{{"name":"rank {0}"}}}})", rank_);
  for (int a = 0; a <= static_cast<int>(Activity::update); ++a) {
    text += fmt::format(
        ",\n"
        R"({{"ph":"M","pid":{},"tid":{},"name":"thread_name","args":{{"name":"{}"}}}})",
        rank_, a, name_of(static_cast<Activity>(a)));
  }
  for (const Span& span : spans_) {
    text += fmt::format(
        ",\n"
        R"({{"ph":"X","pid":{},"tid":{},"cat":"{}","name":"{}","ts":{:.3f},"dur":{:.3f},"args":{{"bytes":{}}}}})",
        rank_, static_cast<int>(span.activity), name_of(span.activity), escaped(span.name),
        microseconds(span.begin.time_since_epoch()), microseconds(span.end - span.begin),
        span.bytes.value);
  }
  text += "\n]}\n";
  if (std::fwrite(text.data(), 1, text.size(), file.get()) != text.size()) return failed();
  if (close(file.release()) != 0) return failed();
  return {};
}

}  // namespace dist
