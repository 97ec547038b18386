// SPDX-License-Identifier: Apache-2.0
// What silently breaks an exchange that hangs on hooks and addresses: each is repaired, counted, or
// an error in strict mode. Without the repair the replicas of these tests differ.
#include <dist/libtorch.h>

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <string>

#include "libdist/libtorch/compat.h"
#include "tests/libdist/libtorch/net.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"
#include "tests/support/scratch.h"

namespace {

using namespace dist;
using libtorch::attach;
using test::expect;
using test::expect_ok;
using test::TorchNet;

using Trap = std::function<void(TorchNet&, torch::optim::Optimizer&)>;

void save_and_load(TorchNet& net) {
  std::stringstream stream;
  torch::serialize::OutputArchive out;
  net.save(out);
  out.save_to(stream);
  torch::serialize::InputArchive in;
  in.load_from(stream);
  net.load(in);
}

// `Weak`: a weak libtorch::NodePointer.
template <typename Weak>
void lose_hook(void (*set_accumulator)(const torch::autograd::Variable&, Weak),
               const torch::Tensor& parameter) {
  set_accumulator(parameter, Weak(libtorch::NodePointer()));
}

struct Case {
  std::string name;
  std::string advice;  // in the error of strict mode
  Trap trap;
  bool legal = false;  // in this version of LibTorch: repaired without a word
};

const std::vector<Case> kTraps = {
    {"to() there and back", "call reattach() on every rank",
     [](TorchNet& net, torch::optim::Optimizer&) {
       net.to(torch::kFloat64);
       net.to(torch::kFloat32);
     }},
    {"load()", "call reattach() on every rank",
     [](TorchNet& net, torch::optim::Optimizer&) { save_and_load(net); }},
    {"set_data()", "call reattach() on every rank",
     [](TorchNet& net, torch::optim::Optimizer&) {
       net.left->weight.set_data(net.left->weight.detach().clone());
     }},
    {"other strides", "call reattach() on every rank",
     [](TorchNet& net, torch::optim::Optimizer&) {
       net.left->weight.set_data(net.left->weight.detach().t().contiguous().t());
     }},
    {"other strides in the same place", "call reattach() on every rank",
     [](TorchNet& net, torch::optim::Optimizer&) {
       const torch::NoGradGuard no_grad;
       const auto values = net.conv->weight.detach().clone();
       auto turned = net.conv->weight.detach().transpose(2, 3);
       net.conv->weight.set_data(turned.copy_(values));
     }},
    {"a lost hook alone", "lost its hook",
     [](TorchNet& net, torch::optim::Optimizer&) {
       lose_hook(torch::autograd::impl::set_grad_accumulator, net.head->weight);
     }},
    {"zero_grad(true)", "call zero_grad() without it",
     [](TorchNet& net, torch::optim::Optimizer&) { net.zero_grad(true); },
     libtorch::kZeroGradDrops},
    {"an assigned gradient", "copy_() into the one that is there",
     [](TorchNet& net, torch::optim::Optimizer&) {
       net.right->weight.mutable_grad() = torch::zeros_like(net.right->weight);
     }},
};

void spring(World& world, const Case& chosen, const std::string& algorithm) {
  const auto what = chosen.name + ", " + algorithm + ": ";
  TorchNet net;
  TorchNet untouched;
  auto parallel = attach(net, world).value();
  auto reference = attach(untouched, world).value();
  torch::optim::SGD optimizer(net.parameters(), 0.1);
  torch::optim::SGD reference_optimizer(untouched.parameters(), 0.1);
  for (int step = 0; step < 5; ++step) {
    optimizer.zero_grad();
    reference_optimizer.zero_grad();
    if (step == 2) chosen.trap(net, optimizer);
    expect(step > 2 || parallel.repairs() == 0, "{}repaired too early", what);
    test::loss(net, 7 * world.rank() + step, 4).backward();
    test::loss(untouched, 7 * world.rank() + step, 4).backward();
    optimizer.step();
    reference_optimizer.step();
    expect(test::distance(test::values(net), test::values(untouched)) < 1e-6,
           "{}differs from an untouched run", what);
    expect(test::equal_everywhere(world, test::values(net)), "{}replicas differ", what);
  }
  expect((parallel.repairs() > 0) != chosen.legal, "{}what was repaired", what);
  const auto once = parallel.repairs();
  test::loss(net, 0, 4).backward();
  expect(parallel.repairs() == once, "{}repaired once and for all", what);
  expect_ok(parallel.end());
  expect_ok(reference.end());
}

TEST_CASE("each trap is repaired, and training goes on as if nothing had been") {
  torch::set_num_threads(1);
  for (const Case& chosen : kTraps) {
    for (const std::string algorithm : {"auto", "ring"}) {
      INFO(chosen.name << ", " << algorithm);
      Options options;
      options.algorithm = algorithm;
      options.log = "quiet";
      REQUIRE_NOTHROW(test::run_ranks(
          "shm", 2, [&](World& world) { spring(world, chosen, algorithm); }, options));
    }
  }
}

TEST_CASE("strict: each trap is an error that says what to do") {
  for (const Case& chosen : kTraps) {
    INFO(chosen.name);
    auto world = World::open({}).value();
    TorchNet net;
    auto parallel = attach(net, world, {.strict = true}).value();
    torch::optim::SGD optimizer(net.parameters(), 0.1);
    test::loss(net, 0, 4).backward();
    chosen.trap(net, optimizer);
    std::string story;
    try {
      test::loss(net, 1, 4).backward();
    } catch (const std::exception& error) {
      story = error.what();
    }
    INFO(story);
    CHECK((story.find(chosen.advice) != std::string::npos) != chosen.legal);
  }
}

// What `body` writes to stderr.
std::string errors_of(const std::function<void()>& body) {
  const test::ScratchFolder scratch;
  const auto path = scratch.path("stderr");
  const int terminal = ::dup(STDERR_FILENO);
  const int file = ::open(path.c_str(), O_CREAT | O_WRONLY, 0600);
  ::dup2(file, STDERR_FILENO);
  body();
  ::dup2(terminal, STDERR_FILENO);
  ::close(file);
  ::close(terminal);
  std::ifstream text(path);
  return {std::istreambuf_iterator<char>(text), {}};
}

TEST_CASE("a repair is told once, with the parameter's name and advice") {
  auto world = World::open({}).value();
  TorchNet net;
  auto parallel = attach(net, world).value();
  const auto told = errors_of([&] {
    for (int step = 0; step < 3; ++step) {
      net.right->weight.mutable_grad() = torch::zeros_like(net.right->weight);
      test::loss(net, step, 4).backward();
    }
  });
  CHECK(parallel.repairs() == 3);
  CHECK(
      told ==
      "[rank 0] warning: libtorch: parameter 'right.weight' was given another gradient tensor, as "
      "an assignment to grad() or create_graph does; copy_() into the one that is there; "
      "repaired, and not told again\n");
}

TEST_CASE("create_graph replaces gradients: they are brought back") {
  Options options;
  options.log = "quiet";
  auto world = World::open(options).value();
  TorchNet net;
  auto parallel = attach(net, world).value();
  test::loss(net, 0, 4).backward({}, true, true);
  CHECK(parallel.repairs() > 0);
  const auto second = net.conv->weight.grad().sum().item<double>();
  net.zero_grad();
  test::loss(net, 0, 4).backward();
  CHECK(net.conv->weight.grad().sum().item<double>() == test::Approx(second));
}

struct Embedded : torch::nn::Module {
  Embedded()
      : table(register_module(
            "table", torch::nn::Embedding(torch::nn::EmbeddingOptions(10, 4).sparse(true)))) {
    const torch::NoGradGuard no_grad;
    table->weight.fill_(1);
  }
  torch::nn::Embedding table;
};

TEST_CASE("sparse gradients travel as dense ones, or are refused") {
  Options options;
  options.log = "quiet";
  REQUIRE_NOTHROW(test::run_ranks(
      "shm", 2,
      [](World& world) {
        Embedded net;
        auto parallel = attach(net, world).value();
        const auto row = torch::full({1}, 2 + world.rank(), torch::kInt64);
        net.table->forward(row).sum().backward();
        const auto gradient = net.table->weight.grad();
        expect(!gradient.is_sparse(), "dense");
        expect(gradient[2][0].item<double>() == 0.5 && gradient[3][3].item<double>() == 0.5 &&
                   gradient.sum().item<double>() == 4,
               "the mean of both ranks' rows");
        expect(parallel.repairs() == 1, "told");
        expect_ok(parallel.end());
      },
      options));
  auto world = World::open(options).value();
  Embedded net;
  auto parallel = attach(net, world, {.strict = true}).value();
  CHECK_THROWS(net.table->forward(torch::zeros({1}, torch::kInt64)).sum().backward());
}

TEST_CASE("another type after attach() is an error; reattach() goes on with it") {
  torch::set_num_threads(1);
  for (const std::string strategy : {"ring", "sync-ps"}) {
    INFO(strategy);
    REQUIRE_NOTHROW(test::run_ranks("shm", 2, [&](World& world) {
      TorchNet net;
      libtorch::AttachOptions options{.strategy = strategy};
      if (strategy == "sync-ps") options.update = Sgd{.learning_rate = 0.1};
      auto parallel = attach(net, world, options).value();
      test::loss(net, world.rank(), 4).backward();
      net.to(torch::kFloat64);
      std::string story;
      try {
        test::loss(net, world.rank(), 4).backward();
      } catch (const std::exception& error) {
        story = error.what();
      }
      expect(story.find("another type") != std::string::npos, "{}", story);
      if (world.rank() == 1) torch::nn::init::zeros_(net.left->weight);
      expect_ok(parallel.reattach());
      expect(test::equal_everywhere(world, test::values(net)), "reattach() takes rank 0's");
      torch::optim::SGD optimizer(net.parameters(), 0.1);
      for (int step = 0; step < 2; ++step) {
        optimizer.zero_grad();
        test::loss(net, 10 * world.rank(), 4).backward();
        expect_ok(parallel.step(optimizer).status());
        expect(test::equal_everywhere(world, test::values(net)), "replicas differ");
      }
      expect(parallel.repairs() == 0, "nothing to repair after reattach()");
      expect_ok(parallel.end());
    }));
  }
}

// Without a GPU: the same memory, said to be on another device, in a layer that is not used.
void say_other_device(torch::Tensor& tensor) {
  const torch::Device device(torch::kXPU);
  tensor.set_data(at::for_blob(tensor.data_ptr(), tensor.sizes())
                      .target_device(device)
                      .options(tensor.options().device(device))
                      .make_tensor());
}

TEST_CASE("another device or shape after attach() is an error") {
  const std::vector<std::function<void(TorchNet&)>> changes = {
      [](TorchNet& net) { say_other_device(net.right->weight); },
      [](TorchNet& net) {
        net.left->bias.set_data(net.left->bias.detach().reshape({1, 8}));
      }};
  for (const auto& change : changes) {
    auto world = World::open({}).value();
    TorchNet net;
    auto parallel = attach(net, world).value();
    change(net);
    std::string story = "none";
    try {
      test::loss(net, 0, 4, true, false).backward();
    } catch (const std::exception& error) {
      story = error.what();
    }
    INFO(story);
    CHECK(story.find("has another type, device or shape than at attach()") != std::string::npos);
  }
}

TEST_CASE("a Parallel that is gone leaves a module that trains alone") {
  auto world = World::open({}).value();
  TorchNet net;
  {
    auto parallel = attach(net, world).value();
    test::loss(net, 0, 4).backward();
  }
  TorchNet fresh;
  fresh.zero_grad();
  net.zero_grad();
  test::loss(net, 0, 4).backward();
  test::loss(fresh, 0, 4).backward();
  CHECK(test::distance(test::values(net), test::values(fresh)) == 0);
  CHECK(net.conv->weight.grad().equal(fresh.conv->weight.grad()));
}

}  // namespace
