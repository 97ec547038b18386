// SPDX-License-Identifier: Apache-2.0
#include "tests/examples/train_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "tests/support/catch.h"

namespace dist::test {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::vector<double> read_parameters(const std::string& path) {
  const std::string bytes = read_text(path);
  std::vector<double> values(bytes.size() / sizeof(double));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(double));
  return values;
}

}  // namespace

std::vector<std::string> train_command(int ranks, const std::string& arguments, StartedBy by) {
  const auto words = words_of(arguments);
  return by == StartedBy::mpirun ? with_mpirun(ranks, built("train_cnn"), words)
                                 : with_distrun(ranks, built("train_cnn"), words);
}

Trained train(int ranks, const std::string& arguments, StartedBy by) {
  const ScratchDirectory scratch;
  auto command = train_command(ranks, arguments, by);
  command.insert(command.end(), {"--json", scratch.path("runs.jsonl"), "--save-parameters",
                                 scratch.path("parameters")});
  Trained trained;
  trained.process = run_program(command, {}, 300);
  INFO(arguments << "\n" << trained.process.out << trained.process.err);
  REQUIRE(trained.process.exit_code == 0);
  trained.record = last_record(scratch.path("runs.jsonl"));
  trained.parameters = read_parameters(scratch.path("parameters"));
  return trained;
}

bool close_to(const std::vector<double>& got, const std::vector<double>& wanted, double tolerance) {
  if (got.size() != wanted.size() || wanted.empty()) return false;
  double largest = 0;
  double difference = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    largest = std::max(largest, std::abs(wanted[i]));
    const double d = std::abs(got[i] - wanted[i]);
    if (!(d <= difference)) difference = d;  // a NaN stays
  }
  return difference <= tolerance * largest;
}

nlohmann::json last_record(const std::string& path) {
  std::istringstream stream(read_text(path));
  std::string last;
  for (std::string line; std::getline(stream, line);) last = line;
  if (last.empty()) throw std::runtime_error("no record in " + path);
  return nlohmann::json::parse(last);
}

}  // namespace dist::test
