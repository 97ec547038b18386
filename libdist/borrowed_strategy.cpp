// SPDX-License-Identifier: Apache-2.0
#include "libdist/borrowed_strategy.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace dist {
namespace {

void copy_to(std::span<std::byte> arena, const void* own) {
  if (own == nullptr) return;
  const auto* const begin = static_cast<const std::byte*>(own);
  std::copy(begin, begin + arena.size(), arena.begin());
}

void copy_from(std::span<const std::byte> arena, void* own) {
  if (own != nullptr) std::copy(arena.begin(), arena.end(), static_cast<std::byte*>(own));
}

class BorrowedStrategy final : public Strategy {
 public:
  BorrowedStrategy(std::unique_ptr<Strategy> inner, Arena& arena, bool updates)
      : arena_(arena),
        updates_(updates),
        inner_(std::move(inner)),
        returned_(arena.parameter_count(), false) {}

  std::string_view name() const override { return inner_->name(); }
  int workers() const override { return inner_->workers(); }
  int worker() const override { return inner_->worker(); }
  std::uint64_t next_step() const override { return inner_->next_step(); }

  Status begin() override {
    gather_parameters();
    inner_->use_checkpoints(checkpoint_sink_, checkpoint_source_);
    DIST_TRY(inner_->begin());
    for (std::size_t p = 0; p < arena_.parameter_count(); ++p) {
      copy_from(arena_.parameters(arena_.range(p)), arena_.parameter(p).own_parameters);
    }
    return {};
  }

  void ready(std::size_t index) override {
    copy_to(arena_.gradients(arena_.range(index)), arena_.parameter(index).own_gradients);
    inner_->ready(index);
  }

  Status await(std::size_t index) override {
    DIST_TRY(inner_->await(index));
    give_back(index);
    return {};
  }

  Result<StepReport> finish_step() override {
    auto report = inner_->finish_step();
    DIST_TRY(report);
    give_back_all();
    return report;
  }

  Status join(const std::function<void()>& update) override {
    const auto after_step = [&] {
      give_back_all();
      update();
    };
    DIST_TRY(inner_->join(update ? after_step : update));
    if (updates_) give_back_all();
    return {};
  }

  Result<bool> stand_by() override {
    auto others = inner_->stand_by();
    if (others.ok() && (*others || updates_)) give_back_all();
    return others;
  }

  Status end() override { return inner_->end(); }

  ServerReport server_report() const override { return inner_->server_report(); }

  // Of parameters that the program updates the arena has only what they were at begin().
  Result<Saving> save() override {
    if (!updates_) gather_parameters();
    return inner_->save();
  }

 private:
  void gather_parameters() {
    for (std::size_t p = 0; p < arena_.parameter_count(); ++p) {
      copy_to(arena_.parameters(arena_.range(p)), arena_.parameter(p).own_parameters);
    }
  }

  // The step is over.
  void give_back_all() {
    for (std::size_t p = 0; p < returned_.size(); ++p) give_back(p);
    returned_.assign(returned_.size(), false);
  }

  // Once a step: the program may go on with what it was given.
  void give_back(std::size_t index) {
    if (returned_[index]) return;
    returned_[index] = true;
    const Range range = arena_.range(index);
    if (updates_) {
      copy_from(arena_.parameters(range), arena_.parameter(index).own_parameters);
    } else {
      copy_from(arena_.gradients(range), arena_.parameter(index).own_gradients);
    }
  }

  Arena& arena_;
  const bool updates_;
  std::unique_ptr<Strategy> inner_;
  std::vector<bool> returned_;  // this step, by parameter
};

}  // namespace

bool borrows(const Arena& arena) {
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    if (arena.parameter(p).borrowed()) return true;
  }
  return false;
}

std::unique_ptr<Strategy> make_borrowed_strategy(std::unique_ptr<Strategy> inner, Arena& arena,
                                                 bool updates) {
  return std::make_unique<BorrowedStrategy>(std::move(inner), arena, updates);
}

}  // namespace dist
