// SPDX-License-Identifier: Apache-2.0
// Hooks of autograd turned into the verbs of a strategy. Two a parameter: one of the tensor, which
// survives to() and load() and fires before the gradient is accumulated: there a backward pass is
// noticed and everything checked; and one of the tensor's accumulator, which fires when the
// gradient is final.
#include "libdist/libtorch/libtorch.h"

#include <fmt/format.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <functional>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <utility>
#include <vector>

#include "libdist/check.h"
#include "libdist/libtorch/accelerators.h"
#include "libdist/libtorch/archive.h"
#include "libdist/libtorch/compat.h"
#include "libdist/libtorch/lanes.h"
#include "libdist/libtorch/replica.h"

namespace dist::libtorch {
namespace {

enum class Breach : std::uint8_t { hook_lost, moved, dropped, replaced, sparse };
constexpr std::size_t kBreaches = 5;

std::string describe(Breach breach, const std::string& parameter) {
  static constexpr std::array<std::string_view, kBreaches> kWhat = {
      "lost its hook, as to() and load() do; attach after them, or call reattach()",
      "was moved out of the arena, as to(), load() and set_data() do; attach after them, or call "
      "reattach() on every rank",
      "lost its gradient, as zero_grad(true) does; call zero_grad() without it",
      "was given another gradient tensor, as an assignment to grad() or create_graph does; copy_() "
      "into the one that is there",
      "has a sparse gradient, which is exchanged as a dense one; switch it off in the layer"};
  return fmt::format("libtorch: parameter '{}' {}", parameter,
                     kWhat[static_cast<std::size_t>(breach)]);
}

class AfterAccumulation final : public torch::autograd::FunctionPostHook {
 public:
  explicit AfterAccumulation(std::function<void()> call) : call_(std::move(call)) {}
  torch::autograd::variable_list operator()(
      const torch::autograd::variable_list& outputs,
      const torch::autograd::variable_list& /*inputs*/) override {
    call_();
    return outputs;
  }

 private:
  std::function<void()> call_;
};

}  // namespace

struct Parallel::State {
  State(World& of, AttachOptions chosen, std::vector<Entry> found,
        std::vector<torch::Tensor> besides)
      : world(of),
        options(std::move(chosen)),
        updates(updates_parameters(options.update.rule)),
        accelerators(options.accelerator),
        entries(std::move(found)),
        constants(std::move(besides)),
        hooks(entries.size()),
        arrived(entries.size(), false) {}

  ~State() {
    for (std::size_t e = 0; e < entries.size(); ++e) {
      if (hooks[e].accumulator == nullptr) continue;
      hooks[e].accumulator->del_post_hook(hooks[e].after);
      entries[e].tensor.remove_hook(hooks[e].before);
    }
  }

  Status meet();
  Status make_workers_group();
  Status settle(const std::vector<std::size_t>& order);
  Status broadcast_constants();
  void hook_all();
  void hook_accumulator(std::size_t entry);

  void before(std::size_t entry, const torch::TensorBase& gradient);
  void after(std::size_t entry);
  void end_backward();
  void check_all();
  void mend(Breach breach, const Entry& entry);

  Status adopt_arrival_order();
  Status exchange();
  Result<StepReport> step();
  Status join(const std::function<void()>& update);
  Status save(const torch::optim::Optimizer* optimizer);

  World& world;
  const AttachOptions options;
  const bool updates;  // the library, not the program
  Accelerators accelerators;
  std::vector<Entry> entries;
  std::vector<torch::Tensor> constants;

  struct Hooks {
    NodePointer accumulator;   // kept: without it there is no hook
    std::uintptr_t after = 0;  // on the accumulator
    unsigned before = 0;       // on the tensor
  };
  std::vector<Hooks> hooks;  // by entry

  std::unique_ptr<Group> everyone;
  std::unique_ptr<Group> some;  // the workers, where others only serve
  Group* workers = nullptr;     // those that contribute gradients; none on a mere server
  std::unique_ptr<Lanes> lanes;

  std::mutex hooking;  // a backward pass has a thread for each GPU
  bool in_backward = false;
  bool exchanging = false;                // this backward pass does
  int accumulations = 0;                  // Accumulation objects that live
  std::vector<bool> arrived;              // by entry, in this backward pass
  std::optional<ArrivalOrder> recording;  // until the first exchange
  std::optional<StepReport> exchanged;    // since the last step()
  std::uint64_t repairs = 0;
  std::array<bool, kBreaches> warned{};
};

// Everything of attach() that talks to others.
Status Parallel::State::meet() {
  std::vector<std::size_t> reversed(entries.size());
  std::iota(reversed.rbegin(), reversed.rend(), std::size_t{0});
  auto group = make_group(world);
  DIST_TRY_BECAUSE(group, "libtorch");
  everyone = *std::move(group);
  DIST_TRY(settle(reversed));
  DIST_TRY(make_workers_group());
  if (options.arrival_order && world.ranks() > 1 && workers != nullptr &&
      workers->ranks() == world.ranks()) {
    recording.emplace(entries.size());
  }
  const Checkpoints* const from = lanes->checkpoints();
  if (world.rank() == 0 && from != nullptr && !from->resumed_from().empty()) {
    DIST_TRY(unpack_tensors(from->resumed_from(), constants));
  }
  return broadcast_constants();
}

Status Parallel::State::make_workers_group() {
  std::vector<std::int32_t> is_worker(static_cast<std::size_t>(world.ranks()), 0);
  is_worker[static_cast<std::size_t>(world.rank())] = lanes->worker() >= 0 ? 1 : 0;
  DIST_TRY_BECAUSE(everyone->all_reduce(is_worker), "libtorch: meeting");
  std::vector<Rank> members;
  for (Rank r = 0; r < world.ranks(); ++r) {
    if (is_worker[static_cast<std::size_t>(r)] != 0) members.push_back(r);
  }
  if (members.size() == is_worker.size()) {
    workers = everyone.get();
  } else if (lanes->worker() >= 0) {
    auto made = make_group(world, std::move(members));
    DIST_TRY_BECAUSE(made, "libtorch");
    some = *std::move(made);
    workers = some.get();
  }
  return {};
}

// New arenas in this order and strategies on them; all replicas become rank 0's.
Status Parallel::State::settle(const std::vector<std::size_t>& order) {
  lanes.reset();
  auto opened = Lanes::open(world, *everyone, options, accelerators, entries, order);
  DIST_TRY(opened);
  lanes = *std::move(opened);
  return {};
}

// All in one message: they are many and small.
Status Parallel::State::broadcast_constants() {
  if (workers == nullptr || options.buffers == Buffers::keep) return {};
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> dense;
  std::vector<std::uint8_t> bytes;
  for (const auto& tensor : constants) {
    dense.push_back(tensor.to(torch::kCPU).contiguous());
    const auto* const data = static_cast<const std::uint8_t*>(dense.back().data_ptr());
    bytes.insert(bytes.end(), data, data + dense.back().nbytes());
  }
  if (bytes.empty()) return {};
  DIST_TRY_BECAUSE(workers->broadcast(bytes), "libtorch: buffers");
  std::size_t at = 0;
  for (std::size_t t = 0; t < dense.size(); ++t) {
    const auto theirs = torch::from_blob(bytes.data() + at, dense[t].sizes(), dense[t].options());
    constants[t].copy_(theirs);
    at += dense[t].nbytes();
  }
  return {};
}

void Parallel::State::hook_all() {
  for (std::size_t e = 0; e < entries.size(); ++e) {
    hook_accumulator(e);
    hooks[e].before = entries[e].tensor.register_hook(
        [this, e](const torch::TensorBase& gradient) { before(e, gradient); });
  }
}

void Parallel::State::hook_accumulator(std::size_t entry) {
  hooks[entry].accumulator = torch::autograd::impl::grad_accumulator(entries[entry].tensor);
  DIST_ASSERT(hooks[entry].accumulator != nullptr, "libtorch: a parameter without accumulator");
  hooks[entry].after = hooks[entry].accumulator->add_post_hook(
      std::make_unique<AfterAccumulation>([this, entry] { after(entry); }));
}

// The first gradient of a backward pass finds everything as it must be before it is accumulated.
void Parallel::State::before(std::size_t entry, const torch::TensorBase& gradient) {
  const std::lock_guard lock(hooking);
  if (!in_backward) {
    check_all();
    exchanging = accumulations == 0;
    torch::autograd::Engine::get_default_engine().queue_callback([this] { end_backward(); });
    in_backward = true;
  }
  if (gradient.is_sparse()) mend(Breach::sparse, entries[entry]);
}

void Parallel::State::after(std::size_t entry) {
  const std::lock_guard lock(hooking);
  if (!gradient_in_place(entries[entry])) {
    mend(Breach::replaced, entries[entry]);
    realias_gradient(entries[entry]);
  }
  if (!exchanging) return;
  if (arrived[entry]) {
    throw std::runtime_error(
        fmt::format("libtorch: the gradient of '{}' came twice in one backward pass, as nested "
                    "backward passes (checkpointing) do; use accumulate() around them",
                    entries[entry].name));
  }
  arrived[entry] = true;
  if (recording) {
    recording->note(entry);
  } else {
    lanes->ready(entry);
  }
}

void Parallel::State::end_backward() {
  in_backward = false;
  if (exchanging) exchange().value();
}

void Parallel::State::check_all() {
  for (std::size_t e = 0; e < entries.size(); ++e) {
    Entry& entry = entries[e];
    if (!parameter_in_place(entry)) {
      if (!fits(entry)) {
        throw std::runtime_error(
            fmt::format("libtorch: parameter '{}' has another type, device or shape than at "
                        "attach(); after to(), call reattach() on every rank",
                        entry.name));
      }
      mend(Breach::moved, entry);
      realias_parameter(entry);
    }
    if (torch::autograd::impl::try_get_grad_accumulator(entry.tensor) != hooks[e].accumulator) {
      mend(Breach::hook_lost, entry);
      hook_accumulator(e);
    }
    if (gradient_in_place(entry)) continue;
    const bool dropped = !entry.tensor.grad().defined();
    if (!dropped || !kZeroGradDrops) mend(dropped ? Breach::dropped : Breach::replaced, entry);
    realias_gradient(entry);
  }
}

// Strict: throws. Else the caller repairs; the first time of each kind is told.
void Parallel::State::mend(Breach breach, const Entry& entry) {
  const auto story = describe(breach, entry.name);
  if (options.strict) throw std::runtime_error(story);
  ++repairs;
  if (std::exchange(warned[static_cast<std::size_t>(breach)], true)) return;
  world.log().warning(story + "; repaired, and not told again");
}

// Nothing unless this is the first exchange.
Status Parallel::State::adopt_arrival_order() {
  if (!recording) return {};
  auto order = recording->agree(*workers);
  DIST_TRY_BECAUSE(order, "libtorch");
  recording.reset();
  arrived.assign(arrived.size(), false);
  if (lanes->keeps(*order)) return {};
  DIST_TRY(lanes->end());
  return settle(*order);
}

// The rest of the backward pass' gradients are what lies in the arena: zeros, if nothing did.
Status Parallel::State::exchange() {
  DIST_TRY(accelerators.check_streams());
  DIST_TRY(adopt_arrival_order());
  arrived.assign(arrived.size(), false);
  auto report = lanes->finish_step();
  DIST_TRY(report);
  exchanged = *std::move(report);
  return updates ? lanes->zero_gradients() : Status();
}

Result<StepReport> Parallel::State::step() {
  DIST_ASSERT(accumulations == 0, "libtorch: step() while gradients accumulate");
  if (in_backward) {
    return Status::cancelled(
        "libtorch: the last backward pass ended with an exception, half exchanged");
  }
  if (!exchanged) {
    check_all();
    DIST_TRY(exchange());
  }
  const StepReport report = *exchanged;
  exchanged.reset();
  return report;
}

Status Parallel::State::join(const std::function<void()>& update) {
  DIST_TRY(adopt_arrival_order());
  for (Entry& entry : entries) realias_gradient(entry);
  return lanes->join(update);
}

Status Parallel::State::save(const torch::optim::Optimizer* optimizer) {
  DIST_ASSERT(lanes->checkpoints() != nullptr, "libtorch: save() needs AttachOptions::checkpoints");
  std::vector<CheckpointFile> files;
  if (world.rank() == 0) {
    files.push_back(pack_tensors(constants));
    if (optimizer != nullptr) files.push_back(pack_optimizer(*optimizer));
  }
  return lanes->save(std::move(files));
}

Parallel::Parallel(std::unique_ptr<State> state) : state_(std::move(state)) {}
Parallel::Parallel(Parallel&&) noexcept = default;
Parallel& Parallel::operator=(Parallel&&) noexcept = default;
Parallel::~Parallel() = default;

Result<StepReport> Parallel::step(torch::optim::Optimizer& optimizer) {
  auto report = state_->step();
  if (report.ok() && !state_->updates) optimizer.step();
  return report;
}

Result<StepReport> Parallel::step() {
  DIST_ASSERT(state_->updates, "libtorch: step() needs an optimizer where the program updates");
  return state_->step();
}

Status Parallel::join(torch::optim::Optimizer& optimizer) {
  return state_->join([&] { optimizer.step(); });
}

Status Parallel::join() {
  DIST_ASSERT(state_->updates, "libtorch: join() needs an optimizer where the program updates");
  return state_->join({});
}

Parallel::Accumulation Parallel::accumulate() { return Accumulation(&state_->accumulations); }

Status Parallel::synchronize_buffers() { return state_->broadcast_constants(); }

Status Parallel::save(const torch::optim::Optimizer& optimizer) { return state_->save(&optimizer); }

Status Parallel::save() { return state_->save(nullptr); }

std::uint64_t Parallel::first_step() const {
  const Checkpoints* const from = state_->lanes->checkpoints();
  return from != nullptr ? from->first_step() : 0;
}

Status Parallel::restore(torch::optim::Optimizer& optimizer) const {
  const Checkpoints* const from = state_->lanes->checkpoints();
  if (state_->updates || from == nullptr || from->resumed_from().empty()) return {};
  return unpack_optimizer(from->resumed_from(), optimizer, state_->entries.front().tensor.device());
}

Status Parallel::reattach() {
  if (state_->options.checkpoints) {
    return Status::invalid_argument(
        "libtorch: reattach() would begin another job in the directory of the checkpoints; "
        "attach() anew without them, or with another directory");
  }
  DIST_TRY(state_->lanes->end());
  state_->exchanged.reset();
  for (const Entry& entry : state_->entries) {
    DIST_TRY(check_parameter(entry.name, entry.tensor));
  }
  DIST_TRY(state_->settle(state_->lanes->order()));
  for (std::size_t e = 0; e < state_->entries.size(); ++e) {
    auto& hooks = state_->hooks[e];
    if (torch::autograd::impl::try_get_grad_accumulator(state_->entries[e].tensor) !=
        hooks.accumulator) {
      state_->hook_accumulator(e);
    }
  }
  return state_->broadcast_constants();
}

Status Parallel::end() {
  DIST_TRY(state_->lanes->end());
  return state_->lanes->wait_for_checkpoints();
}

int Parallel::workers() const { return state_->lanes->workers(); }
int Parallel::worker() const { return state_->lanes->worker(); }
std::uint64_t Parallel::repairs() const { return state_->repairs; }

Result<Parallel> attach(torch::nn::Module& module, World& world, AttachOptions options) {
  auto entries = find_parameters(module);
  DIST_TRY(entries);
  auto state = std::make_unique<Parallel::State>(world, std::move(options), *std::move(entries),
                                                 find_constants(module));
  DIST_TRY(state->meet());
  state->hook_all();
  return Parallel(std::move(state));
}

}  // namespace dist::libtorch
