// SPDX-License-Identifier: Apache-2.0
// What gpu_check runs, in which order, and until when. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dist::bench::gpu {

/// What train_cnn --describe says about a model; see examples/nn/cost.h for the counts.
struct ModelNode {
  std::string name;
  std::string kind;
  double forward_flop = 0;  ///< this and the next three: one image
  double backward_flop = 0;
  double forward_elements = 0;
  double backward_elements = 0;
  double parameters = 0;
};
struct ModelFacts {
  std::string name;
  double parameters = 0;
  double activation_elements = 0;  ///< one image
  double train_flop = 0;           ///< one image
  std::vector<ModelNode> nodes;
};

/// Which program a run starts.
enum class Program {
  trainer,  ///< train_cnn, under distrun where it has several ranks
  peer,     ///< bench/peers/torch_peer.py
};

struct Run {
  std::string section;
  std::string name;  ///< of its files; unique in a plan
  Program program = Program::trainer;
  std::string model;
  std::string backend = "cudnn";  ///< empty: the trainer's own choice among the host's
  std::string strategy = "ring";
  std::string precision = "f16";
  std::string transport;  ///< section ranks: shm or tcp; empty: the trainer chooses
  std::string mode;       ///< of the peer: eager or compile
  int ranks = 1;
  int batch = 0;
  int steps = 0;
  int warmup = 0;
  bool profile = false;   ///< layer times instead of a rate
  double expected_s = 0;  ///< not started where less than half of it is left
  double limit_s = 0;     ///< longer than that is a hang, whatever the section has left
};

/// The order of the sections; all are in every plan.
const std::vector<std::string>& section_names();

struct Section {
  std::string name;
  double ends_at_s = 0;  ///< since the start of the check
  bool must_finish =
      false;              ///< it proves something: what is cut counts as failed, not as unmeasured
  std::vector<Run> runs;  ///< sections tests and sanitizer find theirs when they begin
};

struct PlanInput {
  std::vector<ModelFacts> models;  ///< in the order in which they matter
  double memory_gib = 0;           ///< of the GPU
  double budget_s = 525;           ///< of everything
  std::vector<std::string> only;   ///< sections; empty: all
};

/// Sections in order with the moment at which each must have ended: the shares of those before it
/// and its own, so that what one leaves over is the next one's. A section that was not asked for
/// has no share. Within a section what decides a goal comes first, since the last runs are cut.
std::vector<Section> make_plan(const PlanInput& input);

/// The largest power of two, at most 256, with which a train step fits into three quarters of the
/// memory: 1.3 times all activations and 16 bytes a parameter; 0 where not even 1 does, and then
/// the plan has no such run.
int batch_for(const ModelFacts& model, const std::string& precision, double memory_gib);

/// What there is to do about a run when its turn comes.
struct Decision {
  bool start = false;
  int timeout_s = 0;  ///< of the child
  bool may_hang =
      false;  ///< the timeout is the run's own limit: reaching it is a failure, not a cut
};
Decision decide(const Run& run, double now_s, double ends_at_s);

}  // namespace dist::bench::gpu
