// SPDX-License-Identifier: Apache-2.0
// train_cnn: trains an image network, data-parallel, and reports what it measured. See --help, and
// README.md beside this file.
#include <cstdio>
#include <exception>
#include <string>

#include "examples/train/options.h"
#include "examples/train/session.h"

namespace {

int fail(const std::string& error) {
  if (!error.empty()) std::fprintf(stderr, "train_cnn: error: %s\n", error.c_str());
  return 1;
}

int run(int argc, char** argv) {
  auto place = dist::Options::from_environment();  // who speaks when all ranks err alike
  if (!place.ok()) return fail(place.status().message());
  auto options = train::parse_options(argc, argv);
  if (!options.ok()) return fail(place->rank == 0 ? options.status().message() : "");
  if (!options->has_value()) return 0;  // --help was printed
  const auto outcome = train::run_session(**std::move(options));
  if (outcome.exit_code != 0) fail(outcome.error);
  return outcome.exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
