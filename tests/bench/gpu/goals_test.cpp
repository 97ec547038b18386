// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/goals.h"

#include <algorithm>

#include "tests/bench/gpu/facts.h"
#include "tests/support/catch.h"

namespace dist::bench::gpu {
namespace {

using test::Approx;
using test::peer;
using test::rated;

constexpr const char* kH200 = "cuda:0 NVIDIA H200";

Goal goal_of(const std::vector<Goal>& goals, const std::string& what) {
  const auto found = std::ranges::find(goals, what, &Goal::what);
  REQUIRE(found != goals.end());
  return *found;
}

Outcome overhead_run(const std::string& strategy, double step_ms) {
  Outcome outcome = rated("overhead", "resnet50", "f16", 256e3 / step_ms);
  outcome.run.strategy = strategy;
  return outcome;
}

}  // namespace

TEST_CASE("a duel sets medians against each other, mode by mode") {
  std::vector<Outcome> outcomes = {
      rated("peers", "resnet50", "f16", 7000),   peer("resnet50", "f16", "eager", 5000),
      rated("peers", "resnet50", "f16", 7200),   peer("resnet50", "f16", "compile", 6000),
      rated("peers", "resnet50", "f16", 7100),   peer("resnet50", "f16", "eager", 5200),
      rated("throughput", "resnet50", "f16", 1), peer("vgg16", "f16", "eager", 2000)};
  const auto fought = duels(outcomes);
  REQUIRE(fought.size() == 2);  // VGG16 has one side only
  CHECK(fought[0].mode == "eager");
  CHECK(fought[0].ours == 7100);
  CHECK(fought[0].theirs == 5100);
  CHECK(fought[0].runs_ours == 3);
  CHECK(fought[0].runs_theirs == 2);
  CHECK(fought[1].mode == "compile");
  CHECK(fought[1].ratio() == Approx(7100.0 / 6000));
  outcomes[1].state = State::failed;
  CHECK(duels(outcomes)[0].theirs == 5200);
}

TEST_CASE("the library's overhead is a ratio of median steps") {
  CHECK_FALSE(overhead({overhead_run("ring", 10)}));
  const auto value = overhead({overhead_run("none", 10), overhead_run("ring", 10.05),
                               overhead_run("none", 10), overhead_run("none", 17)});
  REQUIRE(value);
  CHECK(*value == Approx(0.005));
}

TEST_CASE("goals: met, below and not measured") {
  const std::vector<Outcome> outcomes = {rated("peers", "resnet50", "f16", 7000),
                                         peer("resnet50", "f16", "eager", 5000),
                                         peer("resnet50", "f16", "compile", 6000),
                                         overhead_run("none", 10), overhead_run("ring", 10.2)};
  const auto all = goals(outcomes, {test::small_model("resnet50")}, kH200);
  CHECK(goal_of(all, "resnet50 f16 over PyTorch eager").verdict() == "met");
  CHECK(goal_of(all, "resnet50 f16 over PyTorch compile").verdict() == "below goal");
  CHECK(goal_of(all, "vgg16 f16 over PyTorch eager").verdict() == "not measured");
  const Goal share = goal_of(all, "library's share of a step on one rank");
  CHECK(*share.value == Approx(0.02));
  CHECK(share.verdict() == "below goal");
  CHECK(goal_of(all, "resnet50 f16, images/s").met());
  CHECK(*goal_of(all, "resnet50 f16, share of the dense peak").value ==
        Approx(7000 * 3e9 / 989e12));
}

TEST_CASE("the absolute goals are those of one device") {
  const auto ours = goals({}, {}, kH200);
  const auto others = goals({}, {}, "NVIDIA A100-SXM4-80GB");
  CHECK(ours.size() == others.size() + 2);
  CHECK(std::ranges::none_of(ours, &Goal::met));
}

TEST_CASE("a rate counts where its run was ok") {
  Outcome failed = rated("throughput", "vgg16", "f16", 100);
  failed.state = State::failed;
  const auto all = [](const Run&) { return true; };
  CHECK_FALSE(median_rate({failed}, all));
  CHECK(*median_rate({failed, rated("throughput", "vgg16", "f16", 50)}, all) == 50);
}

}  // namespace dist::bench::gpu
