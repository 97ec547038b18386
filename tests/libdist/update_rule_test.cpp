// SPDX-License-Identifier: Apache-2.0
#include "libdist/update_rule.h"

#include <cmath>
#include <limits>
#include <string>

#include "tests/support/catch.h"

namespace {

using namespace dist;

TEST_CASE("rules by name") {
  const auto names = update_rule_names();
  REQUIRE(names.size() == 9);
  for (const auto name : names) {
    auto rule = make_update_rule(name, 0.5);
    REQUIRE_OK(rule);
    CHECK(name_of(*rule) == name);
    CHECK(learning_rate_of(*rule) == 0.5);
    set_weight_decay(*rule, 0.25);
    CHECK(weight_decay_of(*rule) == 0.25);
    CHECK(states_of(*rule) <= 2);
    CHECK(updates_parameters(*rule));
    REQUIRE_OK(validate(*rule));
  }
  const auto wrong = make_update_rule("adamax", 0.5);
  REQUIRE(!wrong.ok());
  CHECK(wrong.status().code() == ErrorCode::invalid_argument);
  CHECK(wrong.status().message() ==
        "optimizer 'adamax' is unknown; valid: sgd, momentum, nesterov, rmsprop, adagrad, adam, "
        "adamw, nadam, lars");
}

TEST_CASE("without a learning rate a rule has its own") {
  CHECK(learning_rate_of(make_update_rule("momentum").value()) == 0.01);
  CHECK(learning_rate_of(make_update_rule("adam").value()) == 1e-3);
  CHECK(learning_rate_of(make_update_rule("nadam").value()) == 2e-3);
}

TEST_CASE("a description holds every number exactly") {
  const UpdateRule rule = Nadam{.learning_rate = 0.1, .weight_decay = 1e-4};
  CHECK(describe(rule) ==
        "nadam (learning_rate 0.1, beta1 0.9, beta2 0.999, epsilon 1e-08, weight_decay 0.0001, "
        "momentum_decay 0.004)");
  const double next = std::nextafter(0.1, 1);
  CHECK(describe(UpdateRule(Sgd{.learning_rate = next})) !=
        describe(UpdateRule(Sgd{.learning_rate = 0.1})));
  CHECK(describe(UpdateRule(Momentum{})) != describe(UpdateRule(Nesterov{})));
}

TEST_CASE("numbers that a formula cannot take are refused") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(!validate(UpdateRule(Sgd{.learning_rate = nan})).ok());
  CHECK(!validate(UpdateRule(Adam{.beta2 = 1})).ok());
  CHECK(!validate(UpdateRule(RmsProp{.alpha = -0.1})).ok());
  const Status refused = validate(UpdateRule(Lars{.trust = -1}));
  CHECK(refused.code() == ErrorCode::invalid_argument);
  CHECK(refused.message().find("optimizer lars: trust is -1") == 0);
  REQUIRE_OK(validate(UpdateRule(Sgd{.learning_rate = -1})));  // climbs
}

}  // namespace
