// SPDX-License-Identifier: Apache-2.0
// What main() is in the programs of this folder: the command line, and how a failure is told.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <optional>

#include "libdist/status.h"

namespace dist::bench {

/// Writes what the command line says where the options of `app` are bound to. Otherwise the exit
/// code, after the help or what is wrong was printed.
inline std::optional<int> parse_command_line(CLI::App& app, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  return std::nullopt;
}

/// Runs a program, and tells standard error what failed, also by exception. Its exit code.
template <typename Options>
int run_program(const char* name, int argc, char** argv,
                std::optional<int> (*parse)(int, char**, Options&),
                Status (*run)(const Options&, int, char**)) try {
  Options options;
  if (const auto exit_code = parse(argc, argv, options)) return *exit_code;
  const Status outcome = run(options, argc, argv);
  if (outcome.ok()) return 0;
  std::fprintf(stderr, "%s: error: %s\n", name, outcome.message().c_str());
  return 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s: error: %s\n", name, error.what());
  return 1;
}

}  // namespace dist::bench
