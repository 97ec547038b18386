// SPDX-License-Identifier: Apache-2.0
#include "allreduce/contributors.h"

#include <algorithm>

#include "allreduce/doubling_plan.h"
#include "allreduce/step_tasks.h"

namespace dist::allreduce {
namespace {

template <typename T>
void fill_with_minus_zero(std::span<std::byte> memory) {
  std::fill_n(reinterpret_cast<T*>(memory.data()), memory.size() / sizeof(T), T(-0.0));
}

}  // namespace

Contributors::~Contributors() {
  if (!counting_ || ticket_.finished()) return;
  give_up_step(context_);
}

void Contributors::count(AllReduceOptions options, std::vector<Ticket> after) {
  if (options.ranks == 1) return;
  bytes_sent_ = {};
  for (const Round& round : doubling_all_reduce_plan(options.rank, options.ranks, 1).rounds) {
    bytes_sent_ += Bytes(sizeof word_ * round.send.elems());
  }
  options.data = std::as_writable_bytes(std::span(&word_, 1));
  options.dtype = DType::u64;
  options.channel = Channel::control;
  ticket_ = context_.progress.submit(
      make_all_reduce(Algorithm::doubling, std::move(options), context_.trace), std::move(after));
  counting_ = true;
}

Status Contributors::wait(StepReport* report) {
  if (counting_) {
    DIST_TRY(wait_exposed(context_, "wait for the count of contributors", report,
                          [&] { return ticket_.wait(); }));
  }
  counting_ = false;
  report->contributors = static_cast<int>(word_);
  return {};
}

void contribute_nothing(const Arena& arena) {
  const auto memory = arena.gradients({0, arena.elems().value});
  arena.dtype() == DType::f64 ? fill_with_minus_zero<double>(memory)
                              : fill_with_minus_zero<float>(memory);
}

}  // namespace dist::allreduce
