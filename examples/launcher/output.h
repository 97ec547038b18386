// SPDX-License-Identifier: Apache-2.0
// The output of one rank as whole lines headed by its number, so that ranks do not mix. Pure.
#pragma once

#include <string>
#include <string_view>

namespace launcher {

/// One stream of one rank. "\r\n" becomes "\n". A lone "\r" (a progress line that redraws itself)
/// stays one on a terminal and becomes "\n" elsewhere. A line of over a mebibyte is cut.
class LinePrefixer {
 public:
  LinePrefixer(std::string prefix, bool terminal)
      : prefix_(std::move(prefix)), terminal_(terminal) {}

  /// The lines that `bytes` completed, ready to be written.
  std::string feed(std::string_view bytes);

  /// The stream has ended: the last line, completed, or nothing.
  std::string finish();

 private:
  void end_line(char by, std::string* out);

  std::string prefix_;
  bool terminal_;
  std::string line_;
  bool return_seen_ = false;  // "\r" came; what it means depends on the next byte
};

/// Writes all of `text`, through partial writes and interrupts. False when the reader is gone.
bool write_all(int descriptor, std::string_view text);

}  // namespace launcher
