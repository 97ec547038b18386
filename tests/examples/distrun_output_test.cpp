// SPDX-License-Identifier: Apache-2.0
// Lines of ranks, without processes.
#include "examples/launcher/output.h"
#include "tests/support/catch.h"

using launcher::LinePrefixer;

TEST_CASE("lines are whole and headed, however the bytes are cut") {
  const std::string text = "one\ntwo\n\nthree\n";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    LinePrefixer lines("[3] ", false);
    std::string got = lines.feed(text.substr(0, cut));
    got += lines.feed(text.substr(cut));
    CHECK(got == "[3] one\n[3] two\n[3] \n[3] three\n");
    CHECK(lines.finish().empty());
  }
}

TEST_CASE("a partial line waits for its end, at the latest the stream's") {
  LinePrefixer lines("[0] ", false);
  CHECK(lines.feed("par").empty());
  CHECK(lines.feed("tial").empty());
  CHECK(lines.finish() == "[0] partial\n");
  CHECK(lines.finish().empty());
}

TEST_CASE("carriage returns: with newline one end of line, alone a line of its own in a file") {
  const std::string text = "a\r\n\r10%\r20%\r";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    LinePrefixer lines("[1] ", false);
    std::string got = lines.feed(text.substr(0, cut));
    got += lines.feed(text.substr(cut));
    got += lines.finish();
    CHECK(got == "[1] a\n[1] 10%\n[1] 20%\n");
  }
}

TEST_CASE("on a terminal a lone carriage return still redraws the line") {
  LinePrefixer lines("[1] ", true);
  CHECK(lines.feed("10%\r20%\rdone\n") == "[1] 10%\x1b[K\r[1] 20%\x1b[K\r[1] done\x1b[K\n");
}

TEST_CASE("a line without end does not grow for ever") {
  LinePrefixer lines("", false);
  const std::string mebibyte(std::size_t{1} << 20, 'x');
  CHECK(lines.feed(mebibyte + "y\n") == mebibyte + "\ny\n");
}
