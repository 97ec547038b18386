// SPDX-License-Identifier: Apache-2.0
#include "libdist/checkpoint/writer.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>

#include "libdist/checkpoint/reader.h"

namespace dist::checkpoint {
namespace {

constexpr Duration kPoll = std::chrono::milliseconds(10);
constexpr int kNice = 10;

// Of the calling thread; Linux counts niceness by thread.
void lower_priority() {
  static_cast<void>(::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice));
}

}  // namespace

Writer::Writer(Directory directory, Layout layout, WriterOptions options)
    : directory_(std::move(directory)), layout_(std::move(layout)), options_(std::move(options)) {
  thread_ = std::thread([this] { loop(); });
}

Writer::~Writer() {
  {
    const Lock lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

void Writer::accept(Snapshot snapshot) {
  {
    const Lock lock(mutex_);
    snapshots_.push_back(std::move(snapshot));
  }
  work_.notify_one();
}

bool Writer::has_room() const {
  const Lock lock(mutex_);
  return snapshots_.empty();
}

// Its values are not looked at.
std::unique_ptr<Source> Writer::newest() const {
  const auto names = directory_.list();
  if (!names.ok()) return nullptr;
  for (const Name& name : *names) {
    auto reader = Reader::open(directory_.files(), directory_.path_of(name));
    if (reader.ok() && (*reader)->fit(layout_).ok()) return *std::move(reader);
  }
  return nullptr;
}

void Writer::commit(Contents contents) {
  {
    const Lock lock(mutex_);
    commits_.push_back({std::move(contents), Clock::now() + options_.timeout});
  }
  work_.notify_one();
}

Status Writer::wait() {
  Lock lock(mutex_);
  done_.wait(lock, [this] { return idle(); });
  return std::exchange(failure_, {});
}

// Own shards go first: others wait for them, and this rank's commits too.
void Writer::loop() {
  lower_priority();
  Lock lock(mutex_);
  while (!stopping_) {
    if (!snapshots_.empty()) write_next(lock);
    const bool completed = commit_one(lock);
    if (idle()) done_.notify_all();
    if (completed || stopping_ || !snapshots_.empty()) continue;
    if (commits_.empty()) {
      work_.wait(lock);
    } else {
      work_.wait_for(lock, kPoll);
    }
  }
}

void Writer::write_next(Lock& lock) {
  const Snapshot snapshot = std::move(snapshots_.front());
  snapshots_.pop_front();
  working_ = true;
  lock.unlock();
  const Status outcome = write(snapshot);
  if (!outcome.ok() && options_.tell) options_.tell(outcome);
  lock.lock();
  working_ = false;
  note(outcome);
}

Status Writer::write(const Snapshot& snapshot) {
  const Status outcome = directory_.write_shard(layout_, snapshot);
  if (!outcome.ok()) directory_.give_up_shard(snapshot);
  return outcome.because(
      fmt::format("checkpoint of step {}: shard {}", snapshot.step(), snapshot.shard()));
}

// The first that has all its shards takes those before it away: what one of them lacks, because who
// asked for it was gone before all were asked, never comes. False: none has.
bool Writer::commit_one(Lock& lock) {
  for (std::size_t i = 0; i < commits_.size(); ++i) {
    const Commit& commit = commits_[i];  // only this thread takes it away
    const auto step = commit.contents.step;
    lock.unlock();
    const auto outcome = complete(commit);
    const Status failure = outcome.status().because(fmt::format("checkpoint of step {}", step));
    if (!outcome.ok() && options_.tell) options_.tell(failure);
    lock.lock();
    if (outcome.ok() && !*outcome) continue;
    note(failure);
    const auto at = commits_.begin() + static_cast<std::ptrdiff_t>(i);
    commits_.erase(outcome.ok() ? commits_.begin() : at, at + 1);
    return true;
  }
  return false;
}

void Writer::note(const Status& outcome) {
  if (options_.tell || failure_.ok()) failure_ = outcome;
}

// Whether it is; an error when it never will be.
Result<bool> Writer::complete(const Commit& commit) {
  const Contents& contents = commit.contents;
  auto ready = directory_.shards_complete(contents);
  if (ready.ok() && !*ready && Clock::now() > commit.deadline) {
    ready = Status::timed_out(fmt::format(
        "{}: not all of its {} shards came within {} s; do all ranks see this directory?",
        directory_.path(), contents.shards,
        std::chrono::duration<double>(options_.timeout).count()));
  }
  if (ready.ok() && *ready) {
    const auto committed = directory_.commit(layout_, contents);
    if (committed.ok()) {
      directory_.discard_before(contents.step);
      DIST_TRY_BECAUSE(directory_.prune(options_.keep), "older ones");
      return true;
    }
    ready = committed.status();
  }
  if (!ready.ok()) directory_.discard(contents.step);
  return ready;
}

}  // namespace dist::checkpoint
