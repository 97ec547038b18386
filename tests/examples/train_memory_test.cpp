// SPDX-License-Identifier: Apache-2.0
// vgg16 at its native size, batch 32 a worker, trains on two ranks of one small machine.
#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {

TEST_CASE("vgg16, batch 32, two ranks stay within 24 GiB in all") {
  if (std::string(DIST_TEST_ONEDNN) == "OFF") skip("this build has no oneDNN");
  const ScratchDirectory scratch;
  auto command = train_command(2,
                               "--model vgg16 --backend onednn --batch 32 --steps 2 --warmup 0 "
                               "--json " +
                                   scratch.path("runs.jsonl"));
  const auto done = run_program(command, {}, 1200);
  INFO(done.out << done.err);
  REQUIRE(done.exit_code == 0);
  const auto record = last_record(scratch.path("runs.jsonl"));
  const double gibibytes = record["peak_memory_bytes"].get<double>() / (1 << 30);
  INFO(gibibytes << " GiB");
  CHECK(gibibytes > 1);
  CHECK(gibibytes < 24);
}

}  // namespace dist::test
