// SPDX-License-Identifier: Apache-2.0
#include "libdist/progress.h"

#include <atomic>
#include <functional>
#include <thread>

#include "libdist/transport/shm.h"
#include "tests/support/catch.h"

namespace dist {
namespace {

constexpr Duration kLong = std::chrono::minutes(10);

class FunctionTask final : public Task {
 public:
  using Body = std::function<Result<Advance>(Transport&)>;
  explicit FunctionTask(Body body, bool has_deadline = true)
      : body_(std::move(body)), has_deadline_(has_deadline) {}
  Result<Advance> advance(Transport& transport) override { return body_(transport); }
  std::string waits_for() const override { return "bucket 7: receive from rank 1"; }
  bool has_deadline() const override { return has_deadline_; }

 private:
  Body body_;
  bool has_deadline_;
};

std::unique_ptr<Task> task(FunctionTask::Body body, bool has_deadline = true) {
  return std::make_unique<FunctionTask>(std::move(body), has_deadline);
}

std::unique_ptr<Task> never(bool has_deadline = true) {
  return task([](Transport&) { return Advance::idle; }, has_deadline);
}

std::unique_ptr<Transport> lone_rank() { return std::move(make_shm_group(1).front()); }

/// A task that says when it has been reached, and never ends.
std::unique_ptr<Task> never_after(std::atomic<bool>& reached) {
  return task([&](Transport&) {
    reached.store(true);
    return Advance::idle;
  });
}

void wait_for(const std::atomic<bool>& flag) {
  while (!flag.load()) std::this_thread::yield();
}

}  // namespace

TEST_CASE("a task is advanced until it has finished") {
  Progress progress(lone_rank(), kLong);
  int calls = 0;
  const auto ticket = progress.submit(task([&](Transport&) {
    ++calls;
    return calls < 3 ? Advance::moved : Advance::finished;
  }));
  REQUIRE_OK(ticket.wait());
  REQUIRE(calls == 3);
  REQUIRE(ticket.finished());
  REQUIRE(ticket.started() <= ticket.ended());
  REQUIRE_OK(progress.failure());
}

TEST_CASE("tasks are advanced side by side") {
  Progress progress(lone_rank(), kLong);
  std::atomic<bool> second_ran = false;
  const auto first = progress.submit(
      task([&](Transport&) { return second_ran.load() ? Advance::finished : Advance::idle; }));
  const auto second = progress.submit(task([&](Transport&) {
    second_ran.store(true);
    return Advance::finished;
  }));
  REQUIRE_OK(first.wait());
  REQUIRE_OK(second.wait());
}

TEST_CASE("a task that comes after another does not start before that one has ended") {
  Progress progress(lone_rank(), kLong);
  std::atomic<bool> may_end = false;
  std::atomic<int> second_calls = 0;
  const auto first = progress.submit(
      task([&](Transport&) { return may_end.load() ? Advance::finished : Advance::idle; }));
  const auto second = progress.submit(task([&](Transport&) {
                                        ++second_calls;
                                        return Advance::finished;
                                      }),
                                      {first});
  REQUIRE_OK(progress.run(task([](Transport&) { return Advance::finished; })));
  REQUIRE_OK(progress.run(task([](Transport&) { return Advance::finished; })));
  REQUIRE(second_calls.load() == 0);
  REQUIRE_FALSE(second.finished());
  may_end.store(true);
  REQUIRE_OK(second.wait());
  REQUIRE(second.started() >= first.ended());

  REQUIRE_OK(progress.submit(task([](Transport&) { return Advance::finished; }), {first}).wait());
}

TEST_CASE("the first failure fails every task, now and later") {
  Progress progress(lone_rank(), kLong);
  const auto waiting = progress.submit(never());
  const auto endless = progress.submit(never(false));
  const auto behind = progress.submit(never(), {waiting});
  const auto failing = progress.submit(
      task([](Transport&) -> Result<Advance> { return Status::peer_lost("rank 2 is gone"); }));
  for (const Ticket& ticket : {failing, waiting, endless, behind}) {
    const auto status = ticket.wait();
    REQUIRE(status.code() == ErrorCode::peer_lost);
    REQUIRE(status.message() == "rank 2 is gone");
  }
  REQUIRE(progress.failure().message() == "rank 2 is gone");
  REQUIRE(progress.run(never()).message() == "rank 2 is gone");
}

TEST_CASE("a failure closes the transport, so that the peers hear of it") {
  auto group = make_shm_group(2);
  Progress failing(std::move(group[0]), kLong);
  Progress waiting(std::move(group[1]), kLong);
  Operation receiving;
  std::array<std::byte, 8> memory{};
  bool posted = false;
  const auto ticket = waiting.submit(task([&](Transport& transport) -> Result<Advance> {
    if (!posted) receiving = transport.receive(0, Channel::collective, memory);
    posted = true;
    if (!transport.finished(receiving)) return Advance::idle;
    DIST_TRY(transport.take(receiving));
    return Advance::finished;
  }));
  REQUIRE_FALSE(
      failing.run(task([](Transport&) -> Result<Advance> { return Status::resource("no memory"); }))
          .ok());
  REQUIRE(ticket.wait().code() == ErrorCode::peer_lost);
}

TEST_CASE("a task in which nothing moves fails, with its name, the rank and the time") {
  Progress progress(lone_rank(), std::chrono::milliseconds(150));
  const auto status = progress.run(never());
  REQUIRE(status.code() == ErrorCode::timed_out);
  const auto message = status.message();
  INFO(message);
  REQUIRE(message.find("bucket 7: receive from rank 1 -> rank 0 waited 0.") == 0);
  REQUIRE(message.find("over shm") != std::string::npos);
}

TEST_CASE("a task without a deadline may wait, and does not stop the clock of others") {
  Progress progress(lone_rank(), std::chrono::milliseconds(60));
  std::atomic<int> looks = 0;
  std::atomic<bool> may_end = false;
  const auto server = progress.submit(task(
      [&](Transport&) {
        ++looks;
        return may_end.load() ? Advance::finished : Advance::idle;
      },
      false));
  const auto begin = Clock::now();
  while (Clock::now() - begin < std::chrono::milliseconds(150)) std::this_thread::yield();
  REQUIRE_FALSE(server.finished());
  REQUIRE(looks.load() > 1);
  may_end.store(true);
  REQUIRE_OK(server.wait());
  const auto stuck = progress.submit(never(false));
  REQUIRE(progress.run(never()).code() == ErrorCode::timed_out);
  REQUIRE(stuck.wait().code() == ErrorCode::timed_out);
}

TEST_CASE("what is in flight when progress ends is cancelled") {
  Ticket left;
  {
    Progress progress(lone_rank(), kLong);
    left = progress.submit(never());
  }
  REQUIRE(left.finished());
  REQUIRE(left.wait().code() == ErrorCode::cancelled);
}

TEST_CASE("cancel fails what is in flight with the owner's reason") {
  Progress progress(lone_rank(), kLong);
  const auto ticket = progress.submit(never());
  progress.cancel(Status::cancelled("the strategy was destroyed"));
  REQUIRE(ticket.finished());
  REQUIRE(ticket.wait().message() == "the strategy was destroyed");
  REQUIRE(progress.run(never()).message() == "the strategy was destroyed");
}

TEST_CASE("several threads may submit") {
  Progress progress(lone_rank(), kLong);
  std::atomic<int> ran = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        const auto status = progress.run(task([&](Transport&) {
          ++ran;
          return Advance::finished;
        }));
        if (!status.ok()) return;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  REQUIRE(ran.load() == 400);
}

TEST_CASE("counters tell what moved once a task has ended") {
  auto group = make_shm_group(2);
  Progress left(std::move(group[0]), kLong);
  Progress right(std::move(group[1]), kLong);
  std::array<std::byte, 100> out{}, in{};
  const auto transfer = [](auto start) {
    return task([start, operation = std::optional<Operation>()](
                    Transport& transport) mutable -> Result<Advance> {
      if (!operation) operation = start(transport);
      if (!transport.finished(*operation)) return Advance::idle;
      DIST_TRY(transport.take(*operation));
      return Advance::finished;
    });
  };
  const auto sent =
      left.submit(transfer([&](Transport& t) { return t.send(1, Channel::collective, out); }));
  const auto received =
      right.submit(transfer([&](Transport& t) { return t.receive(0, Channel::collective, in); }));
  REQUIRE_OK(sent.wait());
  REQUIRE_OK(received.wait());
  REQUIRE(left.counters().sent == 100_B);
  REQUIRE(left.counters().messages_sent == 1);
  REQUIRE(left.counters().received == 0_B);
  REQUIRE(right.counters().received == 100_B);
  REQUIRE(right.counters().messages_received == 1);
}

TEST_CASE("where nobody drives, the caller of run does") {
  Progress progress(lone_rank(), kLong);
  for (int i = 0; i < 100; ++i) {
    std::thread::id driver;
    REQUIRE_OK(progress.run(task([&](Transport&) {
      driver = std::this_thread::get_id();
      return Advance::finished;
    })));
    REQUIRE(driver == std::this_thread::get_id());
  }
}

TEST_CASE("while the progress thread drives, the caller of run waits") {
  Progress progress(lone_rank(), kLong);
  std::atomic<bool> reached = false;
  const auto endless = progress.submit(never_after(reached));
  wait_for(reached);
  std::thread::id driver;
  REQUIRE_OK(progress.run(task([&](Transport&) {
    driver = std::this_thread::get_id();
    return Advance::finished;
  })));
  REQUIRE(driver != std::this_thread::get_id());
  REQUIRE_FALSE(endless.finished());
}

TEST_CASE("a driving caller serves what others submit, and leaves the rest to the thread") {
  Progress progress(lone_rank(), kLong);
  std::atomic<bool> driving = false;
  std::atomic<bool> may_end = false;
  std::atomic<int> left_over_calls = 0;
  std::thread::id served_by;
  Ticket left_over;
  std::thread other([&] {
    wait_for(driving);
    left_over = progress.submit(task([&](Transport&) {
      ++left_over_calls;
      return may_end.load() ? Advance::finished : Advance::idle;
    }));
    static_cast<void>(progress.run(task([&](Transport&) {
      served_by = std::this_thread::get_id();
      return Advance::finished;
    })));
    driving.store(false);
  });
  const auto status = progress.run(task([&, first = true](Transport&) mutable {
    if (std::exchange(first, false)) driving.store(true);
    return driving.load() ? Advance::idle : Advance::finished;
  }));
  other.join();
  REQUIRE_OK(status);
  REQUIRE(served_by == std::this_thread::get_id());
  REQUIRE_FALSE(left_over.finished());
  const int calls = left_over_calls.load();
  const auto begin = Clock::now();
  while (left_over_calls.load() == calls && Clock::now() - begin < std::chrono::seconds(30)) {
    std::this_thread::yield();
  }
  REQUIRE(left_over_calls.load() > calls);
  may_end.store(true);
  REQUIRE_OK(left_over.wait());
}

TEST_CASE("cancel ends a run that its caller drives") {
  Progress progress(lone_rank(), kLong);
  std::atomic<bool> reached = false;
  std::thread other([&] {
    wait_for(reached);
    progress.cancel(Status::cancelled("the strategy was destroyed"));
  });
  const auto status = progress.run(never_after(reached));
  other.join();
  REQUIRE(status.message() == "the strategy was destroyed");
  REQUIRE(progress.run(never()).message() == "the strategy was destroyed");
}

TEST_CASE("another task's failure ends a run that its caller drives") {
  Progress progress(lone_rank(), kLong);
  std::atomic<bool> reached = false;
  Ticket failing;
  std::thread other([&] {
    wait_for(reached);
    failing = progress.submit(
        task([](Transport&) -> Result<Advance> { return Status::peer_lost("rank 2 is gone"); }));
  });
  const auto status = progress.run(never_after(reached));
  other.join();
  REQUIRE(status.message() == "rank 2 is gone");
  REQUIRE(failing.wait().message() == "rank 2 is gone");
  REQUIRE(progress.failure().message() == "rank 2 is gone");
}

TEST_CASE("the end of progress ends a run that its caller drives") {
  auto progress = std::make_unique<Progress>(lone_rank(), kLong);
  Progress& inner = *progress;
  std::atomic<bool> reached = false;
  Status status;
  std::thread other([&] { status = inner.run(never_after(reached)); });
  wait_for(reached);
  progress.reset();
  other.join();
  REQUIRE(status.code() == ErrorCode::cancelled);
}

TEST_CASE("callers, submitters and waits with a limit from many threads") {
  auto group = make_shm_group(2);
  std::array<std::unique_ptr<Progress>, 2> ends = {
      std::make_unique<Progress>(std::move(group[0]), kLong),
      std::make_unique<Progress>(std::move(group[1]), kLong)};
  std::atomic<int> ended = 0;
  std::vector<std::thread> threads;
  for (const auto& end : ends) {
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) {
          auto work = task([turns = i % 3](Transport&) mutable {
            return turns-- == 0 ? Advance::finished : Advance::moved;
          });
          if (t == 0) {
            ended += end->run(std::move(work)).ok() ? 1 : 0;
          } else {
            const auto ticket = end->submit(std::move(work));
            if (t == 2) static_cast<void>(ticket.wait_until(Clock::now()));
            ended += ticket.wait().ok() ? 1 : 0;
          }
        }
      });
    }
  }
  for (auto& thread : threads) thread.join();
  REQUIRE(ended.load() == 1200);
}

}  // namespace dist
