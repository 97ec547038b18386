// SPDX-License-Identifier: Apache-2.0
// Every strategy of the host for arenas on a device, against the same strategy on the host, to the
// bit. The program reads and writes the arena by work on its stream alone, as on a GPU.
#include "libdist/staged_strategy.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/device_training.h"
#include "tests/support/fake_device.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::backward;
using test::by_name;
using test::expect;
using test::expect_ok;
using test::FakeDevice;
using test::MakeStrategy;
using test::Replica;
using test::train;
using test::train_uneven;

struct Case {
  std::string name;
  std::string algorithm = "auto";
  int ranks_per_host = 0;
  std::uint64_t staleness = kUnlimitedStaleness;
};

const std::vector<Case> kCases = {
    {"ring"},    {"ring", "ring"},           {"ring", "hierarchical", 2},
    {"sync-ps"}, {"async-ps", "auto", 0, 0}, {"none"}};

Options options_of(const Case& chosen) {
  Options options;
  options.algorithm = chosen.algorithm;
  options.ranks_per_host = chosen.ranks_per_host;
  options.staleness = chosen.staleness;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 512_B;
  options.timeout = std::chrono::seconds(60);
  return options;
}

bool fits(const Case& chosen, int ranks) { return chosen.ranks_per_host == 0 || ranks == 4; }

MakeStrategy staged(const std::string& name) {
  return [=](World& world, Arena& arena, const Update& update) {
    return make_staged_strategy(
               world, arena, updates_parameters(update.rule),
               [&](Arena& mirror) { return make_strategy(name, world, mirror, update); })
        .value();
  };
}

std::vector<Update> updates() {
  Update clipped = Adam{.learning_rate = 0.01, .weight_decay = 1e-3};
  clipped.clip_norm = 0.5;
  return {Momentum{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 1e-3}, clipped};
}

TEST_CASE("on a device every strategy has the bits that it has on the host") {
  for (const int ranks : {1, 2, 3, 4}) {
    for (const Case& chosen : kCases) {
      if (!fits(chosen, ranks)) continue;
      for (const Update& update : updates()) {
        if (needs_norms(update) && chosen.name.ends_with("-ps") && ranks > 1) continue;
        INFO(chosen.name << ", " << chosen.algorithm << ", " << ranks << " ranks, "
                         << name_of(update.rule));
        REQUIRE_NOTHROW(test::run_ranks(
            "shm", ranks,
            [&](World& world) {
              FakeDevice device({.seed = static_cast<unsigned>(world.rank() + 1),
                                 .most_delay = std::chrono::microseconds(200)});
              const auto expected = train(world, update, nullptr, by_name(chosen.name));
              const auto values = train(world, update, &device, staged(chosen.name), "staged");
              expect(values == expected, "the host's bits");
              expect(device.events_out() == 0, "marks were given back");
            },
            options_of(chosen)));
      }
    }
  }
}

TEST_CASE("over tcp too") {
  for (const std::string name : {"ring", "sync-ps"}) {
    INFO(name);
    REQUIRE_NOTHROW(test::run_ranks(
        "tcp", 2,
        [&](World& world) {
          FakeDevice device({.most_delay = std::chrono::microseconds(200)});
          const Update update = Sgd{.learning_rate = 0.5};
          const auto expected = train(world, update, nullptr, by_name(name));
          expect(train(world, update, &device, staged(name)) == expected, "the host's bits");
        },
        options_of({name})));
  }
}

TEST_CASE("uneven data: with the library's update and with the program's") {
  for (const bool program_updates : {false, true}) {
    for (const bool one_by_one : {false, true}) {
      INFO(program_updates << one_by_one);
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", 3,
          [&](World& world) {
            FakeDevice device({.most_delay = std::chrono::microseconds(200)});
            train_uneven(world, device, staged("ring"), program_updates, one_by_one);
          },
          options_of({"ring", "ring"})));
    }
  }
}

TEST_CASE("a checkpoint holds what is on the device, whoever updates it") {
  const auto directory =
      std::filesystem::temp_directory_path() / ("staged-" + std::to_string(getpid()));
  for (const UpdateRule& rule : {UpdateRule(MeanGradient{}), UpdateRule(Momentum{})}) {
    INFO(name_of(rule));
    for (const bool resume : {false, true}) {
      REQUIRE_NOTHROW(test::run_ranks("shm", 2, [&](World& world) {
        FakeDevice device({.most_delay = std::chrono::microseconds(200)});
        const Replica replica(&device);
        auto all = make_group(world).value();
        auto checkpoints = Checkpoints::open(*all, *replica.arena, name_of(rule),
                                             {.directory = directory.string(), .resume = resume})
                               .value();
        const auto strategy = staged("ring")(world, *replica.arena, rule);
        checkpoints->attach(*strategy);
        const auto weights = replica.arena->parameter_span<float>(1);
        if (!resume) replica.work([=] { std::fill(weights.begin(), weights.end(), 8.0f); });
        expect_ok(strategy->begin());
        if (resume) {
          replica.wait();
          expect(weights[0] == 7 && weights[299] == 7, "begin() brings the saved parameters");
        } else {
          for (std::size_t p = 0; p < 4; ++p) {
            const auto gradients = replica.arena->gradient_span<float>(p);
            replica.work([=] { std::fill(gradients.begin(), gradients.end(), 100.0f); });
            strategy->ready(p);
          }
          expect_ok(strategy->finish_step().status());
          if (!updates_parameters(rule)) {
            replica.work([=] { std::fill(weights.begin(), weights.end(), 7.0f); });
          }
          expect_ok(checkpoints->save(*strategy));
        }
        expect_ok(strategy->end());
        expect_ok(checkpoints->wait());
      }));
    }
    std::filesystem::remove_all(directory);
  }
}

TEST_CASE("memory that cannot be page-locked is used as it is") {
  REQUIRE_NOTHROW(test::run_ranks("shm", 1, [](World& world) {
    FakeDevice device;
    const Update update = Sgd{.learning_rate = 0.5};
    const auto expected = train(world, update, nullptr, by_name("ring"));
    device.fail("pin", Status::resource("no more pages"));
    expect(train(world, update, &device, staged("ring")) == expected, "the host's bits");
  }));
}

// What the second step of one rank says.
Status second_step(const Options& options, const std::function<void(FakeDevice&, Stream)>& spoil) {
  Status outcome;
  test::run_ranks(
      "shm", 1,
      [&](World& world) {
        FakeDevice device;
        const Replica replica(&device);
        const auto strategy = staged("ring")(world, *replica.arena, Sgd{});
        expect_ok(strategy->begin());
        backward(replica, *strategy, 0, 0);
        expect_ok(strategy->finish_step().status());
        replica.wait();
        spoil(device, replica.stream);
        backward(replica, *strategy, 0, 1);
        outcome = strategy->finish_step().status();
        device.let_go(replica.stream);
      },
      options);
  return outcome;
}

TEST_CASE("what fails on the device is told with its place, and nobody waits for ever") {
  const auto failed = second_step({}, [](FakeDevice& device, Stream) {
    device.fail("copy", Status::resource("bus error"), 2);
  });
  CHECK(failed.code() == ErrorCode::resource);
  CHECK(failed.message() == "staged: copy of the gradient of 'c' -> copy -> bus error");

  const auto broken = second_step({}, [](FakeDevice& device, Stream stream) {
    device.break_down(stream, Status::resource("illegal address"));
  });
  CHECK(broken.message().find("illegal address") != std::string::npos);

  Options impatient;
  impatient.timeout = std::chrono::seconds(2);
  const auto late =
      second_step(impatient, [](FakeDevice& device, Stream stream) { device.hold(stream); });
  CHECK(late.code() == ErrorCode::timed_out);
  CHECK(late.message().find("the gradient of 'a' did not leave") != std::string::npos);
}

// Notes what it is told.
class Noting final : public Strategy {
 public:
  explicit Noting(std::vector<std::size_t>* readied) : readied_(readied) {}
  std::string_view name() const override { return "noting"; }
  int workers() const override { return 1; }
  int worker() const override { return 0; }
  Status begin() override { return {}; }
  std::uint64_t next_step() const override { return 0; }
  void ready(std::size_t index) override { readied_->push_back(index); }
  Status await(std::size_t) override { return {}; }
  Result<StepReport> finish_step() override { return StepReport(); }
  Status join(const std::function<void()>&) override { return {}; }
  Result<bool> stand_by() override { return false; }
  Status end() override { return {}; }
  Result<Saving> save() override { return Saving(); }

 private:
  std::vector<std::size_t>* readied_;
};

TEST_CASE("gradients reach the exchange while the backward pass goes on, in its order") {
  constexpr std::size_t kParameters = 2000;
  auto world = World::open({}).value();
  FakeDevice device;
  std::vector<Parameter> parameters;
  for (std::size_t p = 0; p < kParameters; ++p) {
    parameters.push_back({std::to_string(p), Elems(1)});
  }
  const auto stream = device.make_stream(StreamPriority::normal).value();
  ArenaOptions place;
  place.device = &device;
  place.stream = stream;
  auto arena = Arena::create(parameters, place).value();
  std::vector<std::size_t> readied;
  const auto strategy =
      make_staged_strategy(world, arena, true, [&](Arena&) -> Result<std::unique_ptr<Strategy>> {
        return std::unique_ptr<Strategy>(std::make_unique<Noting>(&readied));
      }).value();
  REQUIRE_OK(strategy->begin());
  for (std::size_t p = 0; p + 1 < kParameters; ++p) {
    strategy->ready(p);
    if (readied.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  CHECK_FALSE(readied.empty());
  device.hold(stream);
  strategy->ready(kParameters - 1);
  CHECK(readied.size() < kParameters);  // never one that is not there
  device.let_go(stream);
  REQUIRE_OK(strategy->finish_step());
  std::vector<std::size_t> all(kParameters);
  std::iota(all.begin(), all.end(), 0);
  CHECK(readied == all);
}

}  // namespace
