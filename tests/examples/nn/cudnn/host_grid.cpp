// SPDX-License-Identifier: Apache-2.0
#include "tests/examples/nn/cudnn/host_grid.h"

#include <ucontext.h>

#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/fake_device.h"

namespace host_grid {
namespace {

constexpr std::size_t kStackBytes = 64 * 1024;

struct Coroutine {
  ucontext_t context{};
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  bool ended = false;
};

// One at a time: streams take turns.
std::mutex one_kernel;
Position now;
ucontext_t scheduler;
Coroutine* running = nullptr;
const std::function<void()>* body_now = nullptr;

thread_local std::vector<Work>* recorded = nullptr;

void start() {
  (*body_now)();
  running->ended = true;
  swapcontext(&running->context, &scheduler);
}

void run_block(std::span<Coroutine> coroutines) {
  for (Coroutine& coroutine : coroutines) {
    coroutine.ended = false;
    getcontext(&coroutine.context);
    coroutine.context.uc_stack.ss_sp = coroutine.stack.get();
    coroutine.context.uc_stack.ss_size = kStackBytes;
    coroutine.context.uc_link = nullptr;
    makecontext(&coroutine.context, start, 0);
  }
  for (bool any = true; any;) {
    any = false;
    for (std::size_t i = 0; i < coroutines.size(); ++i) {
      if (coroutines[i].ended) continue;
      any = true;
      running = &coroutines[i];
      now.thread = {static_cast<unsigned>(i), 0, 0};
      swapcontext(&scheduler, &coroutines[i].context);
    }
  }
}

}  // namespace

const Position& position() { return now; }

void synchronize_threads() { swapcontext(&running->context, &scheduler); }

void submit(dist::Stream stream, Work work) {
  if (recorded != nullptr) {
    recorded->push_back(std::move(work));
  } else {
    dist::test::FakeDevice::enqueue(stream, std::move(work));
  }
}

void begin_recording() { recorded = new std::vector<Work>; }

std::vector<Work> end_recording() {
  const std::unique_ptr<std::vector<Work>> all(std::exchange(recorded, nullptr));
  return std::move(*all);
}

void enqueue(const cudaLaunchConfig_t& config, std::function<void()> body) {
  submit({config.stream}, [=] {
    const std::lock_guard lock(one_kernel);
    body_now = &body;
    now.threads = config.blockDim;
    now.blocks = config.gridDim;
    static std::vector<Coroutine> stacks;  // of the largest block so far
    if (stacks.size() < config.blockDim.x) stacks.resize(config.blockDim.x);
    const std::span<Coroutine> coroutines(stacks.data(), config.blockDim.x);
    for (unsigned y = 0; y < config.gridDim.y; ++y) {
      for (unsigned x = 0; x < config.gridDim.x; ++x) {
        now.block = {x, y, 0};
        run_block(coroutines);
      }
    }
  });
}

}  // namespace host_grid
