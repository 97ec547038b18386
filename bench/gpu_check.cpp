// SPDX-License-Identifier: Apache-2.0
// gpu_check: everything that only a GPU can show, on one of them, in under nine minutes: the gpu
// tests, several ranks on it, throughput, where the time goes, PyTorch beside it, memcheck.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "bench/gpu/check.h"
#include "bench/gpu/device.h"
#include "bench/gpu/options.h"
#include "bench/gpu/report.h"
#include "bench/gpu/values.h"
#include "bench/provenance.h"
#include "bench/runner.h"

namespace {

using namespace dist::bench::gpu;
using dist::bench::command_line;
using dist::bench::provenance;
using dist::bench::write_text;

constexpr int kFailed = 1;
constexpr int kNoGpu = 77;
constexpr double kUnknownMemoryGib = 16;

int fail(const dist::Status& status) {
  fmt::print(stderr, "gpu_check: error: {}\n", status.message());
  return kFailed;
}

dist::Result<FoundDevice> device_of(const CheckOptions& options) {
  if (options.assume_device.empty()) return find_device();
  FoundDevice found;
  found.name = options.assume_device;
  found.provenance = {{"device", found.name}, {"assumed", true}, {"built_with", built_with()}};
  return found;
}

int finish(const Findings& findings, const CheckOptions& options, int interrupted_by) {
  const std::string text = format_report(findings);
  fmt::print("\n{}\n", text);
  std::fflush(stdout);
  if (auto written = write_text(options.out + "/summary.md", text); !written.ok()) {
    return fail(written);
  }
  if (interrupted_by != 0) return 128 + interrupted_by;
  const auto failures = failures_of(findings, options.goals);
  for (const std::string& failure : failures) {
    fmt::print(stderr, "gpu_check: failed: {}\n", failure);
  }
  if (failures.empty()) fmt::print("gpu_check: all checks passed\n");
  return failures.empty() ? 0 : kFailed;
}

int check(const CheckOptions& options, const Tools& tools, const FoundDevice& device,
          const std::string& command) {
  Findings findings;
  findings.device = device.name;
  if (device.copy_gb_per_s > 0) findings.copy_gb_per_s = device.copy_gb_per_s;
  findings.provenance = provenance(command);
  findings.provenance.update(device.provenance);
  auto running = Check::open(tools, options.out, findings.provenance);
  if (!running.ok()) return fail(running.status());
  PlanInput input;
  for (const std::string& model : options.models) {
    auto facts = running->describe(model);
    if (!facts.ok()) return fail(facts.status());
    input.models.push_back(*std::move(facts));
  }
  const double known = options.memory_gib > 0 ? options.memory_gib : device.memory_gib;
  input.memory_gib = known > 0 ? known : kUnknownMemoryGib;
  input.budget_s = options.budget_s;
  input.only = options.sections;
  findings.models = input.models;
  findings.sections = make_plan(input);
  fmt::print("gpu_check: {}; at most {:.0f} s; records in {}\n", device.name, options.budget_s,
             options.out);
  for (const Section& section : findings.sections) {
    if (running->interrupted_by() == 0) running->run(section);
  }
  findings.outcomes = running->outcomes();
  for (const auto& agreed : {check_agreement(findings.outcomes), check_curves(findings.outcomes)}) {
    if (!agreed.ok()) findings.failures.push_back(agreed.message());
  }
  return finish(findings, options, running->interrupted_by());
}

}  // namespace

int main(int argc, char** argv) try {
  CheckOptions options;
  if (const auto code = parse_options(argc, argv, options)) return *code;
  setenv("CUDA_VISIBLE_DEVICES", "0", 0);  // one GPU for all ranks, ours and the peer's
  const auto device = device_of(options);
  if (!device.ok() && device.status().code() == dist::ErrorCode::unavailable) {
    fmt::print("SKIPPED: {}\n", device.status().message());
    return kNoGpu;
  }
  if (!device.ok()) return fail(device.status());
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  const auto tools = find_tools(options, here);
  if (!tools.ok()) return fail(tools.status());
  return check(options, *tools, *device, command_line(argc, argv));
} catch (const std::exception& error) {
  fmt::print(stderr, "gpu_check: error: {}\n", error.what());
  return kFailed;
}
