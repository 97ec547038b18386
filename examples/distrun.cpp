// SPDX-License-Identifier: Apache-2.0
// distrun: starts N ranks of a program on this machine and ends them together.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "examples/launcher/job.h"

namespace {

constexpr const char* kAbout =
    "distrun -n N [OPTIONS] [--] program [arguments...]\n\n"
    "Starts N ranks of a program on this machine, heads each line of their output with [rank], "
    "and\n"
    "ends all of them when one fails or a signal comes. Each rank finds DIST_RANK, DIST_RANKS,\n"
    "DIST_JOB and DIST_RENDEZVOUS in its environment; its standard input is empty. SIGINT, "
    "SIGTERM\n"
    "and SIGHUP are passed on and end the job, SIGUSR1 is passed on. Exit code: 0, or that of the\n"
    "first rank that failed (128 + signal when it was killed), 124 after --timeout, 127 when the\n"
    "program was not found.\n";

int fail(const std::string& text) {
  std::fprintf(stderr, "distrun: error: %s\n", text.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) try {
  launcher::JobOptions options;
  double timeout_s = 0;
  double grace_s = 2;
  bool no_prefix = false;
  CLI::App app(kAbout, "distrun");
  app.prefix_command();
  app.add_option("-n,--ranks", options.ranks, "How many ranks to start")
      ->required()
      ->check(CLI::Range(1, 4096));
  app.add_option("--timeout", timeout_s, "Seconds after which the job is ended; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--grace", grace_s,
                 "Seconds the ranks get to leave by themselves once one failed or a signal came;\n"
                 "then SIGTERM, a second later SIGKILL")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--elastic", options.servers,
                 "The last so many ranks are parameter servers, the others workers that may fail:\n"
                 "the job goes on without them (sets DIST_ELASTIC, DIST_TRANSPORT=tcp,\n"
                 "DIST_PLACEMENT=dedicated and DIST_SERVERS)")
      ->check(CLI::Range(1, 4095));
  app.add_option("--restart", options.restarts,
                 "With --elastic: how often, in all, a worker that failed is started again, with\n"
                 "DIST_INCARNATION telling it which life it is")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--no-prefix", no_prefix, "Pass lines on without [rank]");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(std::string(error.what()) + "; see distrun --help");
  }
  if (options.servers >= options.ranks) {
    return fail(fmt::format("--elastic {}: of {} ranks, one must be a worker", options.servers,
                            options.ranks));
  }
  if (options.restarts > 0 && options.servers == 0) return fail("--restart needs --elastic");
  options.prefix = !no_prefix;
  options.timeout = std::chrono::duration<double>(timeout_s);
  options.grace = std::chrono::duration<double>(grace_s);
  options.command = app.remaining();
  if (!options.command.empty() && options.command.front() == "--") {
    options.command.erase(options.command.begin());
  }
  if (options.command.empty()) return fail("no program given; see distrun --help");
  if (const char* rank = std::getenv("DIST_RANK"); rank != nullptr) {
    return fail(
        fmt::format("this is already rank {} of a distrun job; a job inside a job is not "
                    "supported (env -u DIST_RANK -u DIST_JOB starts an independent one)",
                    rank));
  }
  return launcher::run_job(options);
} catch (const std::exception& error) {
  std::fprintf(stderr, "distrun: error: %s\n", error.what());
  return 1;
}
