// SPDX-License-Identifier: Apache-2.0
// In place of native_mpi.cpp where MPI is not part of the build.
#include "allreduce/all_reduce.h"

namespace dist::allreduce {
namespace {

class Unavailable final : public Task {
 public:
  explicit Unavailable(std::string label) : label_(std::move(label)) {}

  Result<Advance> advance(Transport&) override {
    return Status::unavailable(
               "MPI_Iallreduce is not part of this build; configure with -DDIST_WITH_MPI=ON or "
               "choose algorithm ring")
        .because(label_);
  }
  std::string waits_for() const override { return label_; }

 private:
  std::string label_;
};

}  // namespace

std::unique_ptr<Task> make_native_all_reduce(AllReduceOptions options, Trace&) {
  return std::make_unique<Unavailable>(std::move(options.label));
}

bool native_available(const Transport&) { return false; }

}  // namespace dist::allreduce
