// SPDX-License-Identifier: Apache-2.0
// The launcher with real processes: small shell scripts stand for the ranks.
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <set>
#include <sstream>

#include "tests/examples/program.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

Finished run_script(int ranks, const std::string& script,
                    const std::vector<std::string>& flags = {}) {
  std::vector<std::string> command = {built("distrun"), "-n", std::to_string(ranks)};
  command.insert(command.end(), flags.begin(), flags.end());
  command.insert(command.end(), {"--", "sh", "-c", script});
  return run_program(command);
}

std::multiset<std::string> lines_of(const std::string& text) {
  std::multiset<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.insert(line);
  return lines;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("each rank knows its place, and its lines are headed by it, stream by stream") {
  const auto done = run_script(3, "echo out $DIST_RANK/$DIST_RANKS; echo err >&2; printf tail");
  CHECK(done.exit_code == 0);
  CHECK(lines_of(done.out) == std::multiset<std::string>{"[0] out 0/3", "[0] tail", "[1] out 1/3",
                                                         "[1] tail", "[2] out 2/3", "[2] tail"});
  CHECK(lines_of(done.err) == std::multiset<std::string>{"[0] err", "[1] err", "[2] err"});
}

TEST_CASE("--no-prefix leaves lines as they are") {
  CHECK(run_script(2, "echo same", {"--no-prefix"}).out == "same\nsame\n");
}

TEST_CASE("ranks share a job number and a private directory that is gone afterwards") {
  const auto script = "d=${DIST_RENDEZVOUS#dir:}; echo $DIST_JOB $d $(stat -c %a $d)";
  const auto once = run_script(2, script, {"--no-prefix"});
  const auto again = run_script(2, script, {"--no-prefix"});
  const auto lines = lines_of(once.out);
  REQUIRE(lines.size() == 2);
  CHECK(*lines.begin() == *lines.rbegin());
  CHECK(once.out != again.out);
  std::istringstream words(*lines.begin());
  std::string job;
  std::string directory;
  std::string mode;
  words >> job >> directory >> mode;
  CHECK(job.size() == 16);
  CHECK(mode == "700");
  CHECK_FALSE(std::filesystem::exists(directory));
}

TEST_CASE("arguments after the program are the program's, with and without --") {
  const std::vector<std::string> tail = {"sh", "-c", "printf '%s %s' $1 $2", "x", "-n", "7"};
  for (const bool dashes : {true, false}) {
    std::vector<std::string> command = {built("distrun"), "-n", "1"};
    if (dashes) command.push_back("--");
    command.insert(command.end(), tail.begin(), tail.end());
    CHECK(run_program(command).out == "[0] -n 7\n");
  }
}

TEST_CASE("sixteen ranks, many lines, none torn") {
  const auto done = run_script(16, "seq 1 2000 | sed \"s/^/$DIST_RANK:/\"");
  CHECK(done.exit_code == 0);
  const auto lines = lines_of(done.out);
  CHECK(lines.size() == 16 * 2000);
  for (int r = 0; r < 16; ++r) {
    const std::string rank = std::to_string(r);
    CHECK(lines.count("[" + rank + "] " + rank + ":2000") == 1);
  }
}

TEST_CASE("the first failing rank's exit code is distrun's, and the others tell their story") {
  const auto done = run_script(3, "[ $DIST_RANK = 1 ] && exit 3; sleep 0.5; echo story; exit 4");
  CHECK(done.exit_code == 3);
  CHECK(lines_of(done.out) == std::multiset<std::string>{"[0] story", "[2] story"});
  CHECK(done.err == "distrun: rank 1 exited with code 3; ending the others\n");
}

TEST_CASE("a killed rank ends the job within five seconds, even where SIGTERM is ignored") {
  const auto script = "trap '' TERM; echo pid $$; [ $DIST_RANK = 1 ] && kill -9 $$; sleep 60";
  const auto done = run_script(4, script);
  CHECK(done.exit_code == 128 + SIGKILL);
  CHECK(done.seconds < 5);
  CHECK(
      contains(done.err, "distrun: rank 1 was killed by signal 9 (SIGKILL); ending the others\n"));
  const auto pids = numbers_after(done.out, "pid ");
  CHECK(pids.size() == 4);
  CHECK(all_gone(pids, 0));
}

TEST_CASE("nothing survives distrun's own death by SIGKILL") {
  Program job({built("distrun"), "-n", "3", "--", "sh", "-c",
               "echo dir ${DIST_RENDEZVOUS#dir:}.; sh -c 'echo pid $$; sleep 60' & "
               "setsid sh -c 'echo pid $$; sleep 60' & echo pid $$; sleep 60"});
  job.wait_for("pid ", 9);
  const auto pids = numbers_after(job.out(), "pid ");
  REQUIRE(pids.size() == 9);
  const auto at = job.out().find("dir ") + 4;
  const auto directory = job.out().substr(at, job.out().find('.', at) - at);
  REQUIRE(std::filesystem::exists(directory));
  job.signal(SIGKILL);
  CHECK(all_gone(pids, 5));
  for (int i = 0; i < 250 && std::filesystem::exists(directory); ++i) usleep(20'000);
  CHECK_FALSE(std::filesystem::exists(directory));
}

TEST_CASE("what a finished rank leaves behind is ended too") {
  const auto done = run_script(2, "setsid sh -c 'echo pid $$; exec sleep 60' & sleep 0.3");
  CHECK(done.exit_code == 0);
  CHECK(done.seconds < 10);
  const auto pids = numbers_after(done.out, "pid ");
  CHECK(pids.size() == 2);
  CHECK(all_gone(pids, 0));
}

TEST_CASE("signals are passed on; those that end a program end the job") {
  const std::string wait = "echo up; while :; do sleep 0.05; done";
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Program job({built("distrun"), "-n", "2", "--", "sh", "-c",
                 "trap 'echo caught; exit 0' INT TERM HUP; " + wait});
    job.wait_for("up\n", 2);
    job.signal(signal);
    const auto done = job.wait(5);
    CHECK(done.exit_code == 128 + signal);
    CHECK(contains(done.out, "[0] caught\n"));
    CHECK(contains(done.out, "[1] caught\n"));
  }
  Program job(
      {built("distrun"), "-n", "2", "--", "sh", "-c", "trap 'echo caught; exit 0' USR1; " + wait});
  job.wait_for("up\n", 2);
  job.signal(SIGUSR1);
  CHECK(job.wait(5).exit_code == 0);
}

TEST_CASE("a rank that floods its output does not keep the job from ending") {
  const auto done = run_script(2, "[ $DIST_RANK = 0 ] && exec yes flood; sleep 0.2; exit 5");
  CHECK(done.exit_code == 5);
  CHECK(done.seconds < 5);
}

TEST_CASE("--timeout ends a job that runs on") {
  const auto done = run_script(2, "sleep 60", {"--timeout", "0.3"});
  CHECK(done.exit_code == 124);
  CHECK(done.seconds < 5);
  CHECK(contains(done.err, "longer than 0.3 s"));
}

TEST_CASE("elastic: a worker that fails is gone, or comes back as its next incarnation") {
  const std::string mortal =
      "if [ $DIST_RANK = 0 ] && [ $DIST_INCARNATION -lt 2 ]; then kill -9 $$; fi; "
      "test $DIST_ELASTIC$DIST_SERVERS$DIST_TRANSPORT$DIST_PLACEMENT = 11tcpdedicated || exit 3; ";
  const auto gone =
      run_script(3, mortal + "sleep 0.3; echo life $DIST_INCARNATION", {"--elastic", "1"});
  CHECK(gone.exit_code == 0);
  CHECK(lines_of(gone.out) == std::multiset<std::string>{"[1] life 0", "[2] life 0"});
  CHECK(contains(gone.err, "rank 0 was killed by signal 9 (SIGKILL); going on without it"));
  const auto back = run_script(3, mortal + "sleep 0.5; echo life $DIST_INCARNATION",
                               {"--elastic", "1", "--restart", "2"});
  CHECK(back.exit_code == 0);
  CHECK(lines_of(back.out) == std::multiset<std::string>{"[0] life 2", "[1] life 0", "[2] life 0"});
  CHECK(contains(back.err, "starting it again, incarnation 2"));
}

TEST_CASE("elastic: a server that fails ends the job") {
  const auto done = run_script(3, "if [ $DIST_RANK = 2 ]; then sleep 0.2; exit 7; fi; sleep 30",
                               {"--elastic", "1"});
  CHECK(done.exit_code == 7);
  CHECK(contains(done.err, "rank 2 exited with code 7; ending the others"));
}

TEST_CASE("wrong calls are told once, in one line") {
  struct Case {
    std::vector<std::string> arguments;
    int exit_code;
    std::string said;
  };
  const std::vector<Case> cases = {
      {{"-n", "3", "no-such-program"}, 127, "cannot run no-such-program: No such file"},
      {{"-n", "3", "/etc/passwd"}, 126, "cannot run /etc/passwd: Permission denied"},
      {{"-n", "0", "true"}, 1, "1 to 4096"},
      {{"-n", "-2", "true"}, 1, "1 to 4096"},
      {{"-n", "many", "true"}, 1, "--ranks"},
      {{"true"}, 1, "--ranks is required"},
      {{"-n", "2"}, 1, "no program given"},
      {{"-n", "2", "--timeout", "-1", "true"}, 1, "--timeout"},
  };
  for (const Case& c : cases) {
    std::vector<std::string> command = {built("distrun")};
    command.insert(command.end(), c.arguments.begin(), c.arguments.end());
    const auto done = run_program(command);
    INFO(done.err);
    CHECK(done.exit_code == c.exit_code);
    CHECK(contains(done.err, c.said));
    CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
  }
}

TEST_CASE("a job inside a job is refused") {
  const auto done = run_program({built("distrun"), "-n", "1", built("distrun"), "-n", "1", "true"});
  CHECK(done.exit_code == 1);
  CHECK(contains(done.err, "already rank 0 of a distrun job"));
}

}  // namespace dist::test
