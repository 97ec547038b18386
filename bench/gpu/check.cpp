// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/gpu/roof.h"
#include "bench/gpu/values.h"
#include "bench/record.h"

namespace dist::bench::gpu {
namespace {

constexpr int kProbeSeconds = 60;
constexpr int kImportSeconds = 120;  // PyTorch from a cold disk
constexpr int kSecondsToReport = 3;  // CTest's, after its stop time
constexpr std::size_t kTailLines = 8;

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

Result<nlohmann::json> json_of(const std::string& path) {
  auto value = nlohmann::json::parse(text_of(path), nullptr, false);
  if (value.is_discarded()) return Status::protocol(fmt::format("{} holds no JSON", path));
  return value;
}

// The last line of a file of JSON lines.
Result<nlohmann::json> last_line(const std::string& path) {
  std::ifstream file(path);
  std::string last;
  for (std::string line; std::getline(file, line);) last = line.empty() ? last : line;
  auto value = nlohmann::json::parse(last, nullptr, false);
  if (value.is_discarded()) return Status::protocol("the program left no record");
  return value;
}

// Of the end of a log: the first line with an error, else the last one. A launcher goes on talking
// after its ranks.
std::string last_words(const std::string& path) {
  std::istringstream lines(tail_of(path, kTailLines, ""));
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("error") != std::string::npos) return line;
    if (!line.empty()) last = line;
  }
  return last;
}

// As CTest wants a moment.
std::string time_of_day(int seconds_from_now) {
  const std::time_t moment = std::time(nullptr) + seconds_from_now;
  std::tm local{};
  localtime_r(&moment, &local);
  return fmt::format("{:02}:{:02}:{:02}", local.tm_hour, local.tm_min, local.tm_sec);
}

Outcome outcome_of(const Section& section, const std::string& name, State state,
                   std::string reason) {
  Outcome outcome;
  outcome.run.section = section.name;
  outcome.run.name = name;
  outcome.state = state;
  outcome.reason = std::move(reason);
  return outcome;
}

}  // namespace

Result<Check> Check::open(Tools tools, std::string out, nlohmann::json provenance) {
  Check check;
  check.begin_ = std::chrono::steady_clock::now();
  check.tools_ = std::move(tools);
  check.out_ = std::move(out);
  check.logs_ = check.tools_.build + "/gpu_check";
  check.provenance_ = std::move(provenance);
  for (const std::string& folder : {check.out_, check.logs_}) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) {
      return Status::resource(fmt::format("cannot make {}: {}", folder, error.message()));
    }
  }
  for (const std::string& section : section_names()) {
    std::filesystem::remove(fmt::format("{}/{}.jsonl", check.out_, section));
  }
  return check;
}

double Check::now_s() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

std::string Check::log_path(const std::string& name, const char* suffix) const {
  return fmt::format("{}/{}.{}", logs_, name, suffix);
}

ProcessResult Check::start(const std::vector<std::string>& command, const std::string& name,
                           int timeout_s) {
  const auto result =
      run_process(command, log_path(name, "log"), std::chrono::seconds(timeout_s), nullptr);
  if (result.interrupted_by != 0) interrupted_by_ = result.interrupted_by;
  return result;
}

Result<ModelFacts> Check::describe(const std::string& model) {
  const std::string name = "describe-" + model;
  std::filesystem::remove(log_path(name, "jsonl"));
  const auto result =
      start(describe_command(model, tools_, log_path(name, "jsonl")), name, kProbeSeconds);
  if (result.exit_code != 0) {
    return Status::unavailable(fmt::format("{}: {}", model, last_words(log_path(name, "log"))));
  }
  const auto record = last_line(log_path(name, "jsonl"));
  DIST_TRY_BECAUSE(record, model);
  return parse_model(*record);
}

void Check::keep(Outcome outcome) {
  nlohmann::json line = outcome.record.is_object() ? outcome.record : nlohmann::json::object();
  line["section"] = outcome.run.section;
  line["name"] = outcome.run.name;
  line["outcome"] = name_of(outcome.state);
  line["reason"] = outcome.reason;
  line["run_command"] = outcome.command;
  line["wall_seconds"] = outcome.wall_s;
  line["provenance"] = provenance_;
  if (!line.contains("record")) line["record"] = "gpu_check";
  const std::string path = fmt::format("{}/{}.jsonl", out_, outcome.run.section);
  if (const Status written = append_line(path, line); !written.ok()) {
    outcome.state = State::failed;
    outcome.reason = written.message();
  }
  const double rate = rate_of(outcome);
  fmt::print("[{:5.0f} s] {:<11} {:<42} {:<7}{}{}\n", now_s(), outcome.run.section,
             outcome.run.name, name_of(outcome.state),
             rate > 0 ? fmt::format(" {:.0f} images/s", rate) : "",
             outcome.reason.empty() ? "" : " " + outcome.reason);
  std::fflush(stdout);
  outcomes_.push_back(std::move(outcome));
}

void Check::run(const Section& section) {
  if (section.name == "tests") return run_tests(section);
  if (section.name == "sanitizer") return run_sanitizer(section);
  if (section.name == "peers" && !section.runs.empty() && !peer_is_there(section)) return;
  for (const Run& run : section.runs) {
    if (interrupted_by_ != 0) return;
    run_one(run, section);
  }
}

void Check::run_one(const Run& run, const Section& section) {
  Outcome outcome;
  outcome.run = run;
  const double now = now_s();
  const Decision decision = decide(run, now, section.ends_at_s);
  if (!decision.start) {
    outcome.state = State::cut;
    outcome.reason = fmt::format("{:.0f} s left of its section, needs about {:.0f}",
                                 std::max(0.0, section.ends_at_s - now), run.expected_s);
    return keep(std::move(outcome));
  }
  for (const char* suffix : {"jsonl", "profile.json"}) {
    std::filesystem::remove(log_path(run.name, suffix));
  }
  const auto command =
      command_of(run, tools_, log_path(run.name, "jsonl"), log_path(run.name, "profile.json"));
  outcome.command = fmt::format("{}", fmt::join(command, " "));
  const auto result = start(command, run.name, decision.timeout_s);
  outcome.wall_s = result.wall_seconds;
  if (const Status collected = collect(&outcome, result, decision); !collected.ok()) {
    // What PyTorch cannot do here says nothing about us.
    const State broken = run.program == Program::peer ? State::skipped : State::failed;
    if (outcome.state == State::ok) outcome.state = broken;
    outcome.reason = collected.message();
  }
  keep(std::move(outcome));
}

// Takes the record in, or says why there is none.
Status Check::collect(Outcome* outcome, const ProcessResult& result, const Decision& decision) {
  const Run& run = outcome->run;
  if (result.interrupted_by != 0 || (result.timed_out && !decision.may_hang)) {
    outcome->state = State::cut;
    return Status::unavailable(
        fmt::format("ended after {} s, with its section", std::lround(result.wall_seconds)));
  }
  if (result.timed_out) {
    return Status::unavailable(fmt::format("hangs: ended after {} s", decision.timeout_s));
  }
  if (result.exit_code != 0) {
    return Status::unavailable(
        fmt::format("exit code {}: {}", result.exit_code, last_words(log_path(run.name, "log"))));
  }
  auto record = last_line(log_path(run.name, "jsonl"));
  DIST_TRY(record);
  outcome->record = *std::move(record);
  DIST_TRY(check_record(run, outcome->record));
  if (!run.profile) return {};
  auto profile = json_of(log_path(run.name, "profile.json"));
  DIST_TRY(profile);
  outcome->record = *std::move(profile);
  return {};
}

// Asks the peer once what it is; without it all its duels are skipped, ours too.
bool Check::peer_is_there(const Section& section) {
  const double left = std::max(1.0, section.ends_at_s - now_s());
  const auto result = start({tools_.python, tools_.peer, "--probe"}, "peer-probe",
                            std::min(kImportSeconds, static_cast<int>(left)));
  if (result.exit_code == 0) return true;
  const std::string log = log_path("peer-probe", "log");
  keep(outcome_of(section, "pytorch", State::skipped,
                  fmt::format("no PyTorch for this GPU: {}", last_words(log))));
  return false;
}

Result<std::vector<TestCommand>> Check::list_tests() {
  start(list_tests_command(tools_), "test-list", kProbeSeconds);
  return parse_test_list(text_of(log_path("test-list", "log")));
}

Outcome Check::test_outcome(const Section& section, const TestCase& test,
                            const std::string& log) const {
  const std::string see = "see " + log_path("tests", "log");
  Outcome outcome;
  if (test.status == "run") {
    outcome = outcome_of(section, test.name, State::ok, "");
  } else if (test.status != "fail") {
    outcome = outcome_of(section, test.name, State::skipped, see);
  } else if (ended_by_deadline(log, test.name)) {
    outcome = outcome_of(section, test.name, State::cut,
                         fmt::format("ended after {:.0f} s; {}", test.seconds, see));
  } else {
    outcome = outcome_of(section, test.name, State::failed, see);
  }
  outcome.wall_s = test.seconds;
  return outcome;
}

// CTest is told to stop before it is stopped: what has ended by then is not lost.
void Check::run_tests(const Section& section) {
  const std::string junit = log_path("tests", "xml");
  std::filesystem::remove(junit);
  const auto all = list_tests();
  const int timeout = std::max(1, static_cast<int>(section.ends_at_s - now_s()));
  const auto command =
      tests_command(tools_, junit, time_of_day(std::max(1, timeout - kSecondsToReport)));
  const auto result = start(command, "tests", timeout);
  const std::string line = fmt::format("{}", fmt::join(command, " "));
  const auto cases = parse_junit(text_of(junit));
  if (!cases.ok() || cases->empty()) {
    const bool cut = result.timed_out || result.interrupted_by != 0;
    auto outcome = outcome_of(section, "ctest", cut ? State::cut : State::failed,
                              cut          ? fmt::format("did not end in {} s", timeout)
                              : cases.ok() ? "no test has the label gpu"
                                           : cases.status().message());
    outcome.command = line;
    return keep(std::move(outcome));
  }
  const std::string log = text_of(log_path("tests", "log"));
  for (const TestCase& test : *cases) {
    auto outcome = test_outcome(section, test, log);
    outcome.command = line;
    keep(std::move(outcome));
  }
  for (const TestCommand& test : all.ok() ? *all : std::vector<TestCommand>()) {
    if (std::ranges::find(*cases, test.name, &TestCase::name) != cases->end()) continue;
    keep(outcome_of(section, test.name, State::cut, "not begun when its section ended"));
  }
  const bool any = std::ranges::any_of(
      *cases, [](const auto& test) { return test.status == "run" || test.status == "fail"; });
  if (!any) keep(outcome_of(section, "ctest", State::failed, "every gpu test was skipped"));
}

// The gpu tests that passed, the quickest first, as many as there is time for.
void Check::run_sanitizer(const Section& section) {
  if (tools_.sanitizer.empty()) {
    return keep(outcome_of(section, "memcheck", State::skipped, "there is no compute-sanitizer"));
  }
  const auto list = list_tests();
  if (!list.ok()) {
    return keep(outcome_of(section, "memcheck", State::failed, list.status().message()));
  }
  std::vector<std::pair<double, TestCommand>> passed;
  for (const TestCommand& test : *list) {
    const auto outcome = std::ranges::find_if(outcomes_, [&](const Outcome& o) {
      return o.run.section == "tests" && o.run.name == test.name && o.state == State::ok;
    });
    if (outcome != outcomes_.end()) passed.emplace_back(outcome->wall_s, test);
  }
  if (passed.empty()) {
    return keep(outcome_of(section, "memcheck", State::skipped, "no gpu test passed before"));
  }
  std::ranges::stable_sort(passed, {}, [](const auto& one) { return one.first; });
  for (const auto& [seconds, test] : passed) {
    if (interrupted_by_ != 0) return;
    auto outcome = outcome_of(section, "memcheck-" + test.name, State::ok, "");
    const double left = section.ends_at_s - now_s();
    if (left < 1 || left < 2 * seconds) {
      outcome.state = State::cut;
      outcome.reason = fmt::format("{:.0f} s left of its section", std::max(0.0, left));
      keep(std::move(outcome));
      continue;
    }
    const auto command = sanitizer_command(test.argv, tools_);
    outcome.command = fmt::format("{}", fmt::join(command, " "));
    const auto result = start(command, outcome.run.name, static_cast<int>(left));
    outcome.wall_s = result.wall_seconds;
    if (result.timed_out || result.interrupted_by != 0) {
      outcome.state = State::cut;
      outcome.reason = "ended with its section";
    } else if (result.exit_code != 0) {
      outcome.state = State::failed;
      outcome.reason = fmt::format("{}; see {}",
                                   result.exit_code == kSanitizerFound
                                       ? "memcheck found errors"
                                       : fmt::format("exit code {}", result.exit_code),
                                   log_path(outcome.run.name, "log"));
    }
    keep(std::move(outcome));
  }
}

}  // namespace dist::bench::gpu
