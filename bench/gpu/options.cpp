// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "bench/gpu/plan.h"
#include "bench/main.h"

namespace dist::bench::gpu {
namespace {

constexpr double kMostBudget = 24 * 3600;

constexpr const char* kFooter = R"(
Each section ends when its part of --budget-s is over; what could not run is named as cut. Start it from the root of
the repository, in which a release build lies.
Exit code: 0 all checks passed; 1 a check failed, or did not finish, or (with --goals) a goal was not met; 77 there is no
GPU that this build can use; 128 + signal after an interruption.)";

// As seen from here, where it lies below: records then hold no path of one machine.
std::string seen_from_here(const std::filesystem::path& path) {
  const auto near = path.lexically_relative(std::filesystem::current_path());
  return near.empty() || *near.begin() == ".." ? path.string() : near.string();
}

bool runs(const std::string& path) { return access(path.c_str(), X_OK) == 0; }

std::string find_sanitizer() {
  const char* path = std::getenv("PATH");
  std::string folders = path == nullptr ? "" : path;
  folders += ":/usr/local/cuda/bin";
  for (std::size_t begin = 0; begin <= folders.size();) {
    const auto end = std::min(folders.find(':', begin), folders.size());
    std::string candidate = folders.substr(begin, end - begin) + "/compute-sanitizer";
    if (runs(candidate)) return candidate;
    begin = end + 1;
  }
  return "";
}

}  // namespace

std::optional<int> parse_options(int argc, const char* const* argv, CheckOptions& o) {
  CLI::App app{
      "Verifies and measures everything that needs a GPU, on one of them, in under nine minutes.",
      "gpu_check"};
  app.footer(kFooter);
  app.get_formatter()->column_width(30);
  app.option_defaults()->always_capture_default();
  app.add_option("--out", o.out, "Directory for records (SECTION.jsonl) and summary.md");
  app.add_option("--build", o.build, "Build directory; default: that of this program");
  app.add_option("--models", o.models, "Models, the most important first")->delimiter(',');
  app.add_option("--sections", o.sections, fmt::format("{}", fmt::join(section_names(), ", ")))
      ->delimiter(',')
      ->check(CLI::IsMember(section_names()));
  app.add_option("--budget-s", o.budget_s, "Seconds for everything")
      ->check(CLI::Range(1.0, kMostBudget));
  app.add_flag("--goals", o.goals, "Fail where a goal is not met");
  app.add_option("--python", o.python, "Python that may have PyTorch");
  app.add_option("--sanitizer", o.sanitizer, "compute-sanitizer, where PATH does not say");
  app.add_option("--memory-gib", o.memory_gib, "Of the GPU; 0: as nvidia-smi says")
      ->check(CLI::Range(0.0, 1e6));
  app.add_option("--assume-device", o.assume_device,
                 "Do not look for a GPU, take one of this name for granted (to try this program)");
  return parse_command_line(app, argc, argv);
}

Result<Tools> find_tools(const CheckOptions& options, const std::string& own_directory) {
  Tools tools;
  tools.build =
      seen_from_here(options.build.empty() ? std::filesystem::path(own_directory).parent_path()
                                           : std::filesystem::absolute(options.build));
  tools.trainer = tools.build + "/bin/train_cnn";
  tools.distrun = tools.build + "/bin/distrun";
  tools.python = options.python;
  tools.peer = seen_from_here(
      std::filesystem::weakly_canonical(DIST_SOURCE_DIR "/bench/peers/torch_peer.py"));
  tools.sanitizer = options.sanitizer.empty() ? find_sanitizer() : options.sanitizer;
  for (const std::string& path : {tools.trainer, tools.distrun}) {
    if (!runs(path)) {
      return Status::unavailable(fmt::format("{} is not there or cannot be run; build it", path));
    }
  }
  return tools;
}

}  // namespace dist::bench::gpu
