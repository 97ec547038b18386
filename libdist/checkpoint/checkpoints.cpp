// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/checkpoints.h"

#include <fmt/format.h>

#include <array>
#include <random>
#include <utility>

#include "libdist/checkpoint/directory.h"
#include "libdist/checkpoint/reader.h"
#include "libdist/checkpoint/writer.h"

namespace dist {
namespace {

using checkpoint::Directory;
using checkpoint::FileSystem;
using checkpoint::Layout;
using checkpoint::Reader;

// What rank 0 found, as words for the others.
struct Finding {
  std::uint64_t failed = 0;
  std::uint64_t job = 0;
  std::uint64_t resumes = 0;
  std::uint64_t step = 0;
  std::uint64_t edition = 0;

  std::array<std::uint64_t, 5> words() const { return {failed, job, resumes, step, edition}; }
  static Finding from(const std::array<std::uint64_t, 5>& w) {
    return {w[0], w[1], w[2], w[3], w[4]};
  }
};

std::uint64_t random_word() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

class Opening {
 public:
  Opening(FileSystem& files, const CheckpointOptions& options) : files_(files), options_(options) {}

  // Rank 0: tidies up and looks for the newest.
  Status look(Finding* finding, std::vector<std::string>* damaged) {
    finding->job = random_word();
    Directory directory(files_, options_.directory, finding->job);
    DIST_TRY(directory.prepare());
    const auto names = directory.list();
    DIST_TRY(names);
    if (!options_.resume && !names->empty()) {
      return Status::invalid_argument(fmt::format(
          "{} has checkpoints of an earlier job, the newest is {}: resume from it, or choose "
          "another directory",
          options_.directory, text_of(names->front())));
    }
    if (!options_.resume) return {};
    const auto found = checkpoint::find_newest(files_, directory, options_.newest_step, damaged);
    DIST_TRY(found);
    if (!found->has_value()) return {};
    *finding = {0, finding->job, 1, (*found)->step, (*found)->edition};
    return {};
  }

  // Any rank: opens what rank 0 found.
  Result<std::unique_ptr<Reader>> read(const Finding& finding, const Layout& layout) {
    const Directory directory(files_, options_.directory, finding.job);
    auto reader = Reader::open(files_, directory.path_of({finding.step, finding.edition}));
    DIST_TRY(reader);
    DIST_TRY((*reader)->fit(layout));
    return reader;
  }

 private:
  FileSystem& files_;
  const CheckpointOptions& options_;
};

// One rank's failure is everybody's; each tells its own, or that another failed.
Status agree(Group& all, const Status& mine) {
  std::array<std::uint64_t, 1> failed = {mine.ok() ? 0u : 1u};
  DIST_TRY(all.all_reduce(failed, Reduction::max));
  if (failed[0] != 0 && mine.ok()) {
    return Status::resource("checkpoint: another rank cannot read it; its message says why");
  }
  return mine;
}

// Who writes the first shard completes the checkpoint too: nobody else says that there is one.
class CompletingSink final : public checkpoint::Sink {
 public:
  CompletingSink(checkpoint::Writer& writer, std::map<std::string, std::string> values)
      : writer_(writer), values_(std::move(values)) {}

  void accept(checkpoint::Snapshot snapshot) override {
    checkpoint::Contents contents{snapshot.step(), snapshot.shards(), values_, {}};
    const bool first = snapshot.shard() == 0;
    writer_.accept(std::move(snapshot));
    if (first) writer_.commit(std::move(contents));
  }
  bool has_room() const override { return writer_.has_room(); }
  std::unique_ptr<checkpoint::Source> newest() const override { return writer_.newest(); }

 private:
  checkpoint::Writer& writer_;
  const std::map<std::string, std::string> values_;
};

// Who completes a checkpoint.
enum class Completes : std::uint8_t {
  nothing,  // somebody else does
  saved,    // what save() was called for
  written,  // whatever the strategy gives away
};

// What a rank has found out before it can write.
struct Opened {
  std::unique_ptr<FileSystem> files;
  Directory directory;
  Layout layout;
  std::unique_ptr<Reader> reader;  // null: the job begins anew
  std::vector<std::string> damaged;
};

class JobCheckpoints final : public Checkpoints {
 public:
  JobCheckpoints(Opened opened, CheckpointOptions options, Completes completes,
                 std::function<void(const Status&)> tell)
      : files_(std::move(opened.files)),
        directory_(opened.directory),
        elems_(opened.layout.entries.back().range.end),
        completes_(completes),
        values_(std::move(options.values)),
        reader_(std::move(opened.reader)),
        damaged_(std::move(opened.damaged)),
        writer_(std::move(opened.directory), std::move(opened.layout),
                {options.keep, options.timeout, std::move(tell)}),
        completing_(writer_, values_) {}

  void attach(Strategy& strategy) override {
    checkpoint::Sink* sink = &writer_;
    if (completes_ == Completes::written) sink = &completing_;
    strategy.use_checkpoints(sink, reader_.get());
  }

  std::string resumed_from() const override { return reader_ ? reader_->folder() : ""; }
  std::uint64_t first_step() const override { return reader_ ? reader_->step() : 0; }
  std::uint64_t version() const override { return reader_ ? reader_->version({0, elems_}) : 0; }
  const std::map<std::string, std::string>& values() const override {
    return reader_ ? reader_->manifest().values : no_values_;
  }
  const std::vector<std::string>& damaged() const override { return damaged_; }

  Status save(Strategy& strategy, std::map<std::string, std::string> values,
              std::vector<CheckpointFile> files) override {
    Status before = writer_.wait();
    const auto saving = strategy.save();
    DIST_TRY_BECAUSE(saving, "checkpoint");
    if (completes_ != Completes::saved) return before;
    values.insert(values_.begin(), values_.end());
    checkpoint::Contents contents{saving->step, saving->shards, std::move(values), {}};
    for (CheckpointFile& file : files) {
      contents.attachments.push_back({std::move(file.name), std::move(file.bytes)});
    }
    writer_.commit(std::move(contents));
    return before;
  }

  Status wait() override { return writer_.wait(); }

  std::uint64_t newest_step() const override {
    const auto names = directory_.list();
    return names.ok() && !names->empty() ? names->front().step : 0;
  }

 private:
  const std::unique_ptr<FileSystem> files_;
  const Directory directory_;
  const std::uint64_t elems_;
  const Completes completes_;
  const std::map<std::string, std::string> values_;
  const std::unique_ptr<Reader> reader_;
  const std::vector<std::string> damaged_;
  const std::map<std::string, std::string> no_values_;
  checkpoint::Writer writer_;
  CompletingSink completing_;
};

void normalize(CheckpointOptions* options) {
  auto& directory = options->directory;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
}

// Among all who write.
Result<Opened> open_together(Group& all, const Arena& arena, std::string_view rule,
                             const CheckpointOptions& options) {
  if (arena.alias_window().value != 0) {
    return Status::invalid_argument(
        "checkpoint: a replay's parameters mean nothing; there is nothing to save");
  }
  auto files = checkpoint::make_system_files();
  Opening opening(*files, options);
  Finding finding;
  std::vector<std::string> damaged;
  Status looked;
  if (all.rank() == 0) looked = opening.look(&finding, &damaged).because("checkpoint");
  finding.failed = looked.ok() ? 0 : 1;
  auto words = finding.words();
  DIST_TRY_BECAUSE(all.broadcast(words), "checkpoint");
  finding = Finding::from(words);
  DIST_TRY(looked);
  if (finding.failed != 0) {
    return Status::resource("checkpoint: rank 0 cannot use the directory; its message says why");
  }
  auto layout = Layout::of(arena, rule);
  std::unique_ptr<Reader> reader;
  if (finding.resumes != 0) {
    auto read = opening.read(finding, layout);
    DIST_TRY(agree(all, read.status().because("checkpoint")));
    reader = *std::move(read);
  }
  const Directory directory(*files, options.directory, finding.job);
  return Opened{std::move(files), directory, std::move(layout), std::move(reader),
                std::move(damaged)};
}

}  // namespace

Result<std::unique_ptr<Checkpoints>> Checkpoints::open(Group& all, const Arena& arena,
                                                       std::string_view rule,
                                                       CheckpointOptions options) {
  normalize(&options);
  auto opened = open_together(all, arena, rule, options);
  DIST_TRY(opened);
  const auto completes = all.rank() == 0 ? Completes::saved : Completes::nothing;
  return std::unique_ptr<Checkpoints>(
      std::make_unique<JobCheckpoints>(*std::move(opened), std::move(options), completes, nullptr));
}

Result<std::unique_ptr<Checkpoints>> Checkpoints::open_at_servers(
    Group& servers, const Arena& arena, std::string_view rule, CheckpointOptions options,
    std::function<void(const Status&)> tell) {
  normalize(&options);
  auto opened = open_together(servers, arena, rule, options);
  DIST_TRY(opened);
  return std::unique_ptr<Checkpoints>(std::make_unique<JobCheckpoints>(
      *std::move(opened), std::move(options), Completes::written, std::move(tell)));
}

std::unique_ptr<Checkpoints> Checkpoints::follow(const Arena& arena, std::string_view rule,
                                                 CheckpointOptions options) {
  normalize(&options);
  auto files = checkpoint::make_system_files();
  const Directory directory(*files, options.directory, 0);
  return std::make_unique<JobCheckpoints>(
      Opened{std::move(files), directory, Layout::of(arena, rule), nullptr, {}}, std::move(options),
      Completes::nothing, nullptr);
}

}  // namespace dist
