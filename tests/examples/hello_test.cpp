// SPDX-License-Identifier: Apache-2.0
// The hello programs say under distrun what their sources promise.

#include "tests/examples/hello_lines.h"
#include "tests/support/catch.h"

namespace dist::test {

TEST_CASE("hello_all_reduce under distrun") {
  for (const std::string transport : {"shm", "tcp"}) {
    const auto done =
        run_program(with_distrun(3, built("hello_all_reduce")), {"DIST_TRANSPORT=" + transport});
    INFO(done.err);
    CHECK(done.exit_code == 0);
    CHECK(sorted_lines(done.out) == headed(kAllReduceLines));
  }
}

TEST_CASE("hello_all_reduce alone") {
  const auto done = run_program({built("hello_all_reduce")});
  CHECK(done.out == "rank 0 of 1 brought 1 10 100; the sums are 1 10 100\n");
}

TEST_CASE("hello_parameter_server under distrun") {
  const auto done = run_program(with_distrun(3, built("hello_parameter_server")));
  INFO(done.err);
  CHECK(done.exit_code == 0);
  CHECK(sync_lines(done.out) == headed(kSyncLines));
  CHECK(count_lines(done.out, "async-ps rank") == 6);
}

TEST_CASE("hello_parameter_server with a dedicated server") {
  const auto done =
      run_program(with_distrun(3, built("hello_parameter_server")), {"DIST_PLACEMENT=dedicated"});
  INFO(done.err);
  CHECK(done.exit_code == 0);
  CHECK(count_lines(done.out, "[2] sync-ps  rank 2 only serves") == 1);
  CHECK(count_lines(done.out, "async-ps rank 2 only serves") == 1);
  CHECK(count_lines(done.out, "rank 0 step 2: weight 3 3, bias 3, 0 versions") == 1);
}

}  // namespace dist::test
