// SPDX-License-Identifier: Apache-2.0
#include "bench/record.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace dist::bench {
namespace {

using nlohmann::json;

// A trainer of another version may lack what only decorates a table; the rest must be there.
template <typename T>
T value_or(const json& line, const char* key, T fallback) {
  const auto found = line.find(key);
  return found == line.end() || found->is_null() ? fallback : found->get<T>();
}

bool is_train(const json& line) {
  return line.is_object() && value_or<std::string>(line, "record", "") == "train";
}

Result<std::vector<json>> read_lines(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return Status::resource(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  }
  std::vector<json> lines;
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    if (text.empty()) continue;
    json line = json::parse(text, nullptr, false);
    if (line.is_discarded()) {
      return Status::invalid_argument(fmt::format("{}:{}: not a line of JSON", path, number));
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

Record take_apart(const json& line) {
  Record record;
  record.run.model = line.at("model").get<std::string>();
  record.run.strategy = line.at("strategy").get<std::string>();
  record.run.ranks = line.at("ranks").get<int>();
  record.run.repeat = value_or(line, "repeat", 0);
  record.backend = line.at("backend").get<std::string>();
  record.kind =
      value_or<std::string>(line, "kind", record.backend == "replay" ? "emulated" : "measured");
  record.transport = line.at("transport").get<std::string>();
  record.workers = value_or(line, "workers", record.run.ranks);
  record.servers = value_or(line, "servers", 0);
  record.placement = value_or<std::string>(line, "placement", "");
  record.batch = line.at("batch").get<std::uint64_t>();
  record.image = line.at("image").get<std::uint64_t>();
  record.images_per_second = line.at("images_per_second").get<double>();
  record.images_per_second_se = value_or(line, "images_per_second_se", 0.0);
  record.step_ms = line.at("step_ms_median").get<double>();
  record.exposed_ms = value_or(line, "exposed_communication_ms", 0.0);
  record.bytes_sent_per_step = value_or(line, "bytes_sent_per_step", 0.0);
  record.accelerator = value_or<std::string>(line, "accelerator", "");
  record.provenance = value_or(line, "provenance", json::object());
  return record;
}

}  // namespace

Result<json> last_train_record(const std::string& path) {
  auto lines = read_lines(path);
  if (!lines.ok()) return lines.status();
  for (auto line = lines->rbegin(); line != lines->rend(); ++line) {
    if (is_train(*line)) return *line;
  }
  return Status::protocol(fmt::format("{} holds no record \"train\"", path));
}

Result<Record> parse_record(const json& line) {
  try {
    return take_apart(line);
  } catch (const json::exception& error) {
    return Status::invalid_argument(fmt::format("bad train record: {}", error.what()));
  }
}

Result<std::vector<Record>> read_records(const std::string& path) {
  auto lines = read_lines(path);
  if (!lines.ok()) return lines.status();
  std::vector<Record> records;
  for (const json& line : *lines) {
    if (!is_train(line)) continue;
    auto record = parse_record(line);
    if (!record.ok()) return record.status().because(path);
    records.push_back(*std::move(record));
  }
  return records;
}

Status append_line(const std::string& path, const json& line) {
  std::ofstream file(path, std::ios::app);
  file << line.dump() << '\n';
  file.flush();
  if (!file) {
    return Status::resource(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  }
  return {};
}

}  // namespace dist::bench
