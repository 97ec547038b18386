// SPDX-License-Identifier: Apache-2.0
#include "examples/launcher/output.h"

#include <unistd.h>

#include <cerrno>

namespace launcher {
namespace {

constexpr std::size_t kLongestLineBytes = std::size_t{1} << 20;
constexpr std::string_view kEraseRest = "\x1b[K";  // of a longer line that was drawn here before

}  // namespace

void LinePrefixer::end_line(char by, std::string* out) {
  if (by == '\r' && line_.empty()) return;
  *out += prefix_;
  *out += line_;
  if (terminal_) *out += kEraseRest;
  *out += by == '\r' && terminal_ ? '\r' : '\n';
  line_.clear();
}

std::string LinePrefixer::feed(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    if (return_seen_) {
      return_seen_ = false;
      end_line(c == '\n' ? '\n' : '\r', &out);
      if (c == '\n') continue;
    }
    if (c == '\n') {
      end_line('\n', &out);
    } else if (c == '\r') {
      return_seen_ = true;
    } else {
      line_ += c;
      if (line_.size() >= kLongestLineBytes) end_line('\n', &out);
    }
  }
  return out;
}

std::string LinePrefixer::finish() {
  std::string out;
  if (!line_.empty()) end_line('\n', &out);
  return_seen_ = false;
  return out;
}

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace launcher
