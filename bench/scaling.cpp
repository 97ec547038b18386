// SPDX-License-Identifier: Apache-2.0
// scaling: runs the trainer over models x strategies x rank counts x repeats and reports how
// images/s grow with workers, against the ideal line and against ranks that exchange nothing.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "bench/options.h"
#include "bench/plot.h"
#include "bench/provenance.h"
#include "bench/runner.h"
#include "bench/table.h"

namespace {

using namespace dist::bench;

constexpr int kRunsFailed = 1;
constexpr int kPlotsMissing = 2;

int fail(const dist::Status& status) {
  fmt::print(stderr, "scaling: error: {}\n", status.message());
  return kRunsFailed;
}

// Table and plots from DIR/runs.jsonl.
int report(const std::string& directory, const std::vector<std::string>& failures) {
  auto records = read_records(directory + "/runs.jsonl");
  if (!records.ok()) return fail(records.status());
  auto summary = summarise(*records);
  if (!summary.ok()) return fail(summary.status().because(directory));
  fmt::print("\n{}\n{}", describe_kind(*summary), format_rows(*summary));
  if (dist::Status status = write_text(directory + "/table.md", format_table(*summary, failures));
      !status.ok()) {
    return fail(status);
  }
  fmt::print("\ntable: {}/table.md\n", directory);
  if (dist::Status status = write_plots(*summary, directory + "/plots"); !status.ok()) {
    fmt::print(stderr, "scaling: no plots: {}\n", status.message());
    return kPlotsMissing;
  }
  fmt::print("plots: {0}/plots/overview.png, .svg and one page a strategy\n", directory);
  return 0;
}

dist::Result<Tools> find_tools(const SweepOptions& options) {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  Tools tools;
  tools.program = options.program.empty() ? (here / "train_cnn").string() : options.program;
  tools.launcher_is_mpirun = options.launcher == "mpirun";
  tools.launcher = tools.launcher_is_mpirun ? "mpirun" : (here / "distrun").string();
  tools.as_root = geteuid() == 0;
  for (const std::string& path : {tools.program, tools.launcher}) {
    if (path.find('/') != std::string::npos && access(path.c_str(), X_OK) != 0) {
      return dist::Status::unavailable(fmt::format(
          "{} is not there or cannot be run; build it, or name the trainer with --program", path));
    }
  }
  return tools;
}

}  // namespace

int main(int argc, char** argv) {
  SweepOptions options;
  if (const auto code = parse_options(argc, argv, options)) return *code;
  if (const auto status = validate(options); !status.ok()) return fail(status);
  if (!options.plot_only.empty()) {
    return report(std::filesystem::absolute(options.plot_only).string(), {});
  }
  options.out = std::filesystem::absolute(options.out).string();
  auto tools = find_tools(options);
  if (!tools.ok()) return fail(tools.status());
  auto sweep = Sweep::open(options, *tools, provenance(command_line(argc, argv)));
  if (!sweep.ok()) return fail(sweep.status());
  const bool finished = sweep->run();
  const int reported =
      sweep->succeeded() > 0 ? report(options.out, sweep->failures()) : kRunsFailed;
  if (!finished) return 128 + sweep->interrupted_by();
  for (const std::string& failure : sweep->failures()) {
    fmt::print(stderr, "scaling: failed: {}\n", failure);
  }
  return sweep->failures().empty() ? reported : kRunsFailed;
}
