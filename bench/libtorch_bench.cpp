// SPDX-License-Identifier: Apache-2.0
// LibTorch training on N ranks, side by side in one run: libdist's adapter, PyTorch's
// DistributedDataParallel over Gloo, one all-reduce a parameter, and no exchange at all. Started by
// distrun; one thread a rank.
#include <dist/libtorch.h>
#include <fmt/format.h>
#include <sched.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "bench/libtorch/contestant.h"
#include "bench/main.h"
#include "bench/provenance.h"
#include "bench/record.h"
#include "bench/statistics.h"
#include "resnet18_net.h"

namespace {

using namespace dist;
using bench::Contestant;
using bench::Model;

class ResnetModel final : public Model {
 public:
  torch::nn::Module& module() override { return *net_; }
  torch::Tensor loss() override { return torch::nll_loss(net_->forward(images_), classes_); }

 private:
  Resnet18 net_;
  torch::Tensor images_ = torch::randn({16, 3, 64, 64});
  torch::Tensor classes_ = torch::arange(16).remainder(10);
};

// The parameters of VGG-16 without its arithmetic: the loss is linear, the gradient a constant.
class VggGradient final : public Model {
 public:
  struct Net : torch::nn::Module {
    Net() {
      int64_t in = 3;
      for (const int64_t out : {64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512}) {
        add({out, in, 3, 3});
        in = out;
      }
      for (const auto& [rows, columns] :
           {std::pair<int64_t, int64_t>{4096, 25088}, {4096, 4096}, {1000, 4096}}) {
        add({rows, columns});
      }
    }
    void add(std::vector<int64_t> shape) {
      const auto number = std::to_string(parameters().size());
      register_parameter("weight" + number, torch::zeros(shape));
      register_parameter("bias" + number, torch::zeros({shape[0]}));
    }
  };

  torch::nn::Module& module() override { return net_; }
  torch::Tensor loss() override {
    auto sum = torch::zeros({});
    for (const auto& parameter : net_.parameters()) sum = sum + parameter.sum();
    return sum;
  }

 private:
  Net net_;
};

template <typename M>
std::unique_ptr<Model> make() {
  torch::manual_seed(1);
  return std::make_unique<M>();
}

class Alone final : public Contestant {
 public:
  using Contestant::Contestant;
  std::string name() const override { return "none"; }
};

class Libdist final : public Contestant {
 public:
  Libdist(std::unique_ptr<Model> model, World& world)
      : Contestant(std::move(model)),
        parallel_(libtorch::attach(model_->module(), world).value()) {}
  std::string name() const override { return "libdist"; }
  void end() override { parallel_.end().value(); }

 protected:
  std::optional<StepReport> update() override { return parallel_.step(optimizer_).value(); }

 private:
  libtorch::Parallel parallel_;
};

struct BenchOptions {
  std::string model = "resnet18";
  int rounds = 20;
  std::string json;
};

struct Times {
  std::vector<double> step_s, exposed_s, busy_s;
};

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Every contestant makes a step a round; all ranks start together, the slowest counts.
Status measure(const BenchOptions& o, World& world,
               const std::vector<std::unique_ptr<Contestant>>& contestants,
               std::vector<Times>* times) {
  auto group = make_group(world);
  DIST_TRY(group);
  times->resize(contestants.size());
  for (int round = -3; round < o.rounds; ++round) {  // three of warm-up: pages, buckets rebuilt
    for (std::size_t c = 0; c < contestants.size(); ++c) {
      DIST_TRY((*group)->barrier());
      const auto begin = Clock::now();
      const auto report = contestants[c]->step();
      std::array<double, 3> spent = {seconds(Clock::now() - begin), 0, 0};
      if (report) spent[1] = seconds(report->communication_exposed);
      if (report) spent[2] = seconds(report->communication_busy);
      DIST_TRY((*group)->all_reduce(spent, Reduction::max));
      if (round < 0) continue;
      (*times)[c].step_s.push_back(spent[0]);
      (*times)[c].exposed_s.push_back(spent[1]);
      (*times)[c].busy_s.push_back(spent[2]);
    }
  }
  return {};
}

Status report(const BenchOptions& o, const World& world,
              const std::vector<std::unique_ptr<Contestant>>& contestants,
              const std::vector<Times>& times, const nlohmann::json& provenance) {
  std::puts("model           contestant    step ms     least  exposed   overlap  libdist's share");
  const double own_ms = 1e3 * bench::median(times[1].step_s);
  for (std::size_t c = 0; c < contestants.size(); ++c) {
    const double step_ms = 1e3 * bench::median(times[c].step_s);
    const double least_ms = 1e3 * *std::ranges::min_element(times[c].step_s);
    const double exposed_ms = 1e3 * bench::median(times[c].exposed_s);
    const double busy_ms = 1e3 * bench::median(times[c].busy_s);
    const double overlap = busy_ms > 0 ? std::max(0.0, 1 - exposed_ms / busy_ms) : 0;
    std::fputs(fmt::format("{:<15} {:<10} {:9.2f} {:9.2f} {:8.2f} {:9.2f} {:10.3f}\n", o.model,
                           contestants[c]->name(), step_ms, least_ms, exposed_ms, overlap,
                           own_ms / step_ms)
                   .c_str(),
               stdout);
    if (o.json.empty()) continue;
    DIST_TRY(bench::append_line(o.json, {{"record", "libtorch"},
                                         {"kind", "measured"},
                                         {"model", o.model},
                                         {"contestant", contestants[c]->name()},
                                         {"ranks", world.ranks()},
                                         {"transport", world.transport_name()},
                                         {"algorithm", world.options().algorithm},
                                         {"rounds", o.rounds},
                                         {"step_ms_median", step_ms},
                                         {"step_ms_min", least_ms},
                                         {"exposed_ms_median", exposed_ms},
                                         {"busy_ms_median", busy_ms},
                                         {"overlap", overlap},
                                         {"libdist_share", own_ms / step_ms},
                                         {"provenance", provenance}}));
  }
  return {};
}

std::optional<int> parse(int argc, char** argv, BenchOptions& o) {
  CLI::App app(
      "Step times of LibTorch training: distrun -n 2 -- libtorch_bench; options of the "
      "library are --dist-NAME=VALUE or DIST_NAME");
  app.allow_extras();
  app.add_option("--model", o.model, "resnet18 (batch 16 at 64x64) or vgg16-gradient")
      ->check(CLI::IsMember({"resnet18", "vgg16-gradient"}))
      ->capture_default_str();
  app.add_option("--rounds", o.rounds, "steps of each contestant")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--json", o.json, "file that one record a contestant is appended to");
  return bench::parse_command_line(app, argc, argv);
}

Status run(const BenchOptions& o, int argc, char** argv) {
  const auto provenance = bench::provenance(bench::command_line(argc, argv));
  torch::set_num_threads(1);
  auto world = World::from_environment(argc, argv);
  DIST_TRY(world);
  cpu_set_t core;
  CPU_ZERO(&core);
  CPU_SET(world->rank() % bench::usable_cores(), &core);
  if (world->ranks() <= bench::usable_cores()) sched_setaffinity(0, sizeof(core), &core);
  const bench::MakeModel make_model = o.model == "resnet18" ? make<ResnetModel> : make<VggGradient>;
  const auto store = std::filesystem::temp_directory_path() /
                     fmt::format("libtorch-bench-{:x}", world->options().job);
  std::vector<std::unique_ptr<Contestant>> contestants;
  contestants.push_back(std::make_unique<Alone>(make_model()));
  contestants.push_back(std::make_unique<Libdist>(make_model(), *world));
  if (world->ranks() > 1) {
    for (auto& other :
         bench::make_c10d_contestants(make_model, world->rank(), world->ranks(), store.string())) {
      contestants.push_back(std::move(other));
    }
  }
  std::vector<Times> times;
  DIST_TRY(measure(o, *world, contestants, &times));
  for (const auto& contestant : contestants) contestant->end();
  if (world->rank() != 0) return {};
  for (const char* suffix : {".ddp", ".each"}) std::filesystem::remove(store.string() + suffix);
  return report(o, *world, contestants, times, provenance);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run_program("libtorch_bench", argc, argv, parse, run);
}
