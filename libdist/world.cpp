// SPDX-License-Identifier: Apache-2.0
#include "libdist/world.h"

#include <fmt/format.h>

#include <filesystem>

#include "libdist/operation_order.h"

namespace dist {
namespace {

LogLevel log_level(const std::string& name) {
  if (name == "quiet") return LogLevel::quiet;
  return name == "info" ? LogLevel::info : LogLevel::warning;
}

// trace.json -> trace.rank3.json
std::string trace_path(const std::string& path, Rank rank) {
  const std::filesystem::path whole(path);
  auto named = whole;
  named.replace_extension(fmt::format("rank{}{}", rank, whole.extension().string()));
  return named.string();
}

}  // namespace

struct World::State {
  State(std::unique_ptr<Transport> transport, Options chosen)
      : options(std::move(chosen)),
        trace(options.rank, !options.trace.empty()),
        log(options.rank, log_level(options.log)),
        progress(std::move(transport), options.timeout) {}

  ~State() {
    if (!trace.enabled()) return;
    const auto written = trace.write(trace_path(options.trace, options.rank));
    if (!written.ok()) log.warning(written.message());
  }

  Options options;
  Trace trace;
  Log log;
  OperationOrder operation_order;
  Progress progress;  // last: its thread ends before what it writes to
};

World::World(std::unique_ptr<State> state) : state_(std::move(state)) {}
World::World(World&&) noexcept = default;
World& World::operator=(World&&) noexcept = default;
World::~World() = default;

World World::over(std::unique_ptr<Transport> transport, Options options) {
  options.rank = transport->rank();
  options.ranks = transport->ranks();
  return World(std::make_unique<State>(std::move(transport), std::move(options)));
}

const Options& World::options() const { return state_->options; }
std::string_view World::transport_name() const { return state_->progress.transport().name(); }
Progress& World::progress() const { return state_->progress; }
OperationOrder& World::operation_order() const { return state_->operation_order; }
Trace& World::trace() const { return state_->trace; }
const Log& World::log() const { return state_->log; }

}  // namespace dist
