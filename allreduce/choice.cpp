// SPDX-License-Identifier: Apache-2.0
#include "allreduce/choice.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>

#include "libdist/check.h"

namespace dist::allreduce {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"ring", "doubling", "halving", "tree",
                                                    "native"};
constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kColumns = "transport ranks_at_least bytes_at_least algorithm";

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  line = line.substr(0, line.find('#'));
  for (auto begin = line.find_first_not_of(kBlanks); begin != line.npos;) {
    const auto end = line.find_first_of(kBlanks, begin);
    words.push_back(line.substr(begin, end - begin));
    begin = end == line.npos ? end : line.find_first_not_of(kBlanks, end);
  }
  return words;
}

template <typename T>
Status parse_count(std::string_view word, std::string_view column, T least, T* out) {
  const char* const end = word.data() + word.size();
  const auto [stopped, error] = std::from_chars(word.data(), end, *out);
  if (error == std::errc() && stopped == end && *out >= least) return {};
  return Status::invalid_argument(
      fmt::format("{} '{}' is not a number of at least {}", column, word, least));
}

Result<ChoiceRow> parse_row(const std::vector<std::string_view>& words) {
  if (words.size() != 4) {
    return Status::invalid_argument(
        fmt::format("{} columns instead of four: {}", words.size(), kColumns));
  }
  ChoiceRow row;
  row.transport = words[0];
  if (row.transport != "*" && row.transport != "shm" && row.transport != "tcp" &&
      row.transport != "mpi") {
    return Status::invalid_argument(
        fmt::format("transport '{}' is unknown; valid: shm, tcp, mpi, *", words[0]));
  }
  DIST_TRY(parse_count(words[1], "ranks_at_least", 1, &row.ranks_at_least));
  DIST_TRY(parse_count<std::uint64_t>(words[2], "bytes_at_least", 0, &row.bytes_at_least.value));
  const auto algorithm = algorithm_of(words[3]);
  if (!algorithm) {
    return Status::invalid_argument(
        fmt::format("algorithm '{}' is unknown; valid: {}", words[3], algorithm_names()));
  }
  row.algorithm = *algorithm;
  if (row.algorithm == Algorithm::native && row.transport != "mpi") {
    return Status::invalid_argument(
        fmt::format("algorithm native works over transport mpi only, not '{}'", row.transport));
  }
  return row;
}

bool fits_everything(const ChoiceRow& row) {
  return row.transport == "*" && row.ranks_at_least == 1 && row.bytes_at_least == 0_B;
}

}  // namespace

std::string_view name_of(Algorithm algorithm) {
  return kNames[static_cast<std::size_t>(algorithm)];
}

std::optional<Algorithm> algorithm_of(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<Algorithm>(i);
  }
  return std::nullopt;
}

std::string algorithm_names() { return fmt::format("{}", fmt::join(kNames, ", ")); }

ChoiceTable default_choice_table() {
  return {
      {"*", 1, 0_B, Algorithm::ring},      //
      {"*", 2, 0_B, Algorithm::doubling},  //
      {"*", 2, 1_MiB, Algorithm::ring},    //
      {"*", 4, 64_KiB, Algorithm::tree},   //
      {"*", 4, 1_MiB, Algorithm::ring},    //
  };
}

Result<ChoiceTable> parse_choice_table(std::string_view text, std::string_view name) {
  ChoiceTable table;
  for (int number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    const auto words = words_of(text.substr(0, end));
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
    if (words.empty()) continue;
    auto row = parse_row(words);
    DIST_TRY_BECAUSE(row, fmt::format("{}:{}", name, number));
    if (table.empty() && !fits_everything(*row)) {
      return Status::invalid_argument(
          fmt::format("{}:{} -> the first row must fit everything: * 1 0 ALGORITHM", name, number));
    }
    table.push_back(*std::move(row));
  }
  if (!table.empty()) return table;
  return Status::invalid_argument(fmt::format("{} -> holds no row of {}", name, kColumns));
}

Result<ChoiceTable> read_choice_table(const std::string& path) {
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file.is_open() || file.bad()) {
    return Status::invalid_argument(
        fmt::format("choice table {} cannot be read; write one with `tune` or leave the option "
                    "choice-table away",
                    path));
  }
  return parse_choice_table(text, path);
}

std::string print_choice_table(const ChoiceTable& table) {
  std::string text = fmt::format("# {}\n", kColumns);
  for (const ChoiceRow& row : table) {
    text += fmt::format("{:<10} {:>3} {:>12} {}\n", row.transport, row.ranks_at_least,
                        row.bytes_at_least.value, name_of(row.algorithm));
  }
  return text;
}

Algorithm choose(const ChoiceTable& table, int ranks, Bytes bytes, std::string_view transport,
                 bool native_possible) {
  for (auto row = table.rbegin(); row != table.rend(); ++row) {
    if (row->transport != "*" && row->transport != transport) continue;
    if (ranks < row->ranks_at_least || bytes < row->bytes_at_least) continue;
    if (row->algorithm == Algorithm::native && !native_possible) continue;
    return row->algorithm;
  }
  DIST_ASSERT(false, "a choice table without a row that fits everything");
  return Algorithm::ring;
}

}  // namespace dist::allreduce
