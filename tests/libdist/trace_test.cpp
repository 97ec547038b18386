// SPDX-License-Identifier: Apache-2.0
#include "libdist/trace.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "tests/support/catch.h"

namespace dist {
namespace {

std::filesystem::path trace_file() {
  return std::filesystem::temp_directory_path() /
         ("dist-trace-test-" + std::to_string(::getpid()) + ".json");
}

nlohmann::json written(const Trace& trace) {
  const auto path = trace_file();
  REQUIRE_OK(trace.write(path.string()));
  std::ifstream file(path);
  auto parsed = nlohmann::json::parse(file);
  std::filesystem::remove(path);
  return parsed;
}

std::vector<nlohmann::json> spans_of(const nlohmann::json& document) {
  std::vector<nlohmann::json> spans;
  for (const auto& event : document.at("traceEvents")) {
    if (event.at("ph") == "X") spans.push_back(event);
  }
  return spans;
}

}  // namespace

TEST_CASE("spans become Chrome events with rank, activity, times and bytes") {
  Trace trace(3, true);
  const TimePoint begin{std::chrono::microseconds(1500)};
  trace.record(Activity::send, "bucket 2", begin, begin + std::chrono::microseconds(250), 4_KiB);
  trace.record(Activity::reduce, "bucket 2", begin, begin);
  const auto document = written(trace);
  const auto spans = spans_of(document);
  REQUIRE(spans.size() == 2);
  REQUIRE(spans[0].at("pid") == 3);
  REQUIRE(spans[0].at("cat") == "send");
  REQUIRE(spans[0].at("name") == "bucket 2");
  REQUIRE(spans[0].at("ts") == 1500.0);
  REQUIRE(spans[0].at("dur") == 250.0);
  REQUIRE(spans[0].at("args").at("bytes") == 4096);
  REQUIRE(spans[1].at("cat") == "reduce");
  REQUIRE(spans[0].at("tid") != spans[1].at("tid"));
}

TEST_CASE("an empty trace and names with odd characters are valid JSON") {
  REQUIRE(spans_of(written(Trace(0, true))).empty());
  Trace trace(0, true);
  trace.record(Activity::compute, "say \"hi\" \\ and\nnew line \x01", {}, {});
  REQUIRE(spans_of(written(trace))[0].at("name") == "say \"hi\" \\ andnew line ");
}

TEST_CASE("every activity has a lane with its own name") {
  const auto document = written(Trace(1, true));
  std::set<std::string> names;
  for (const auto& event : document.at("traceEvents")) {
    if (event.at("name") == "thread_name") names.insert(event.at("args").at("name"));
  }
  REQUIRE(names == std::set<std::string>{"compute", "wait", "send", "receive", "reduce", "update"});
}

TEST_CASE("a disabled trace keeps nothing") {
  Trace trace(0, false);
  { const TraceScope scope(trace, Activity::wait, "step"); }
  REQUIRE(spans_of(written(trace)).empty());
}

TEST_CASE("a scope records from construction to destruction") {
  Trace trace(0, true);
  { const TraceScope scope(trace, Activity::update, "shard", 12_B); }
  const auto spans = spans_of(written(trace));
  REQUIRE(spans.size() == 1);
  REQUIRE(spans[0].at("dur").get<double>() >= 0);
  REQUIRE(spans[0].at("args").at("bytes") == 12);
}

TEST_CASE("threads may record at once") {
  Trace trace(0, true);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) trace.record(Activity::send, "x", {}, {});
    });
  }
  for (auto& thread : threads) thread.join();
  REQUIRE(spans_of(written(trace)).size() == 2000);
}

TEST_CASE("a path that cannot be written is an error that names rank and path") {
  for (const std::string path : {"/nowhere/at/all.json", "/dev/full"}) {
    const auto status = Trace(5, true).write(path);
    REQUIRE(status.code() == ErrorCode::resource);
    REQUIRE(status.message().find("rank 5") != std::string::npos);
    REQUIRE(status.message().find(path) != std::string::npos);
  }
}

}  // namespace dist
