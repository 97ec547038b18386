// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/command.h"

#include <filesystem>
#include <initializer_list>

namespace dist::bench::gpu {
namespace {

using Words = std::vector<std::string>;

constexpr const char* kLabel = "^gpu$";       // ctest takes a regular expression
constexpr const char* kLearns = "small_cnn";  // its losses are compared
constexpr const char* kTestsAtOnce = "4";

void add(Words* command, std::initializer_list<std::string> words) {
  command->insert(command->end(), words);
}

void add_numbers(Words* command, const Run& run, const std::string& json_path) {
  add(command, {"--model", run.model, "--precision", run.precision, "--batch",
                std::to_string(run.batch), "--steps", std::to_string(run.steps), "--warmup",
                std::to_string(run.warmup), "--json", json_path});
}

Words peer_command(const Run& run, const Tools& tools, const std::string& json_path) {
  Words command = {tools.python, tools.peer, "--mode", run.mode};
  add_numbers(&command, run, json_path);
  return command;
}

}  // namespace

Words command_of(const Run& run, const Tools& tools, const std::string& json_path,
                 const std::string& profile_path) {
  if (run.program == Program::peer) return peer_command(run, tools, json_path);
  Words command;
  if (run.ranks > 1) add(&command, {tools.distrun, "-n", std::to_string(run.ranks), "--"});
  add(&command, {tools.trainer, "--strategy", run.strategy});
  if (!run.backend.empty()) add(&command, {"--backend", run.backend});
  add_numbers(&command, run, json_path);
  if (run.model == kLearns) add(&command, {"--threads", "1", "--data", "learnable"});
  // Slow enough that 50 steps later the loss is still on its way: there it tells most.
  if (run.section == "curves") add(&command, {"--learning-rate", "0.003"});
  if (!run.transport.empty()) add(&command, {"--transport", run.transport});
  if (run.profile) add(&command, {"--profile", profile_path});
  return command;
}

Words describe_command(const std::string& model, const Tools& tools, const std::string& json_path) {
  return {tools.trainer, "--model", model, "--describe", "--json", json_path};
}

// CTest writes where it tests, whatever directory it was started in.
Words tests_command(const Tools& tools, const std::string& junit_path,
                    const std::string& stop_time) {
  const auto junit = std::filesystem::path(junit_path).lexically_proximate(tools.build).string();
  return {tools.ctest,  "--test-dir",          tools.build,      "-L",  kLabel,        "-j",
          kTestsAtOnce, "--output-on-failure", "--output-junit", junit, "--stop-time", stop_time};
}

Words list_tests_command(const Tools& tools) {
  return {tools.ctest, "--test-dir", tools.build, "-L", kLabel, "--show-only=json-v1"};
}

Words sanitizer_command(const Words& test, const Tools& tools) {
  Words command = {tools.sanitizer,
                   "--tool",
                   "memcheck",
                   "--target-processes",
                   "all",
                   "--error-exitcode",
                   std::to_string(kSanitizerFound)};
  command.insert(command.end(), test.begin(), test.end());
  return command;
}

}  // namespace dist::bench::gpu
