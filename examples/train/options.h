// SPDX-License-Identifier: Apache-2.0
// What a user may ask of train_cnn: its command line as one struct.
#pragma once

#include <dist/dist.h>

#include <cstdint>
#include <optional>
#include <string>

namespace train {

struct TrainOptions {
  std::string model = "small_cnn";
  std::string strategy = "ring";
  std::string backend;                 ///< empty: onednn where it is built in, else ref
  std::string precision = "f32";       ///< f32 or f64 (ref only)
  std::string data = "random";         ///< random or learnable
  std::string optimizer = "momentum";  ///< of dist::update_rule_names()
  double learning_rate = 0.01;         ///< not given: the optimizer's own
  double weight_decay = 0;             ///< of weights; not given: the optimizer's own
  double clip_norm = 0;                ///< of the mean gradient; 0: off
  std::string schedule = "constant";   ///< of the learning rate: constant, step or cosine
  std::int64_t rate_warmup = 0;        ///< steps in which the learning rate grows to its full value
  std::int64_t rate_interval = 0;      ///< schedule step: steps after which it is cut to a tenth
  std::int64_t batch = 32;             ///< images a worker and step
  std::int64_t steps = 100;            ///< timed steps
  std::int64_t warmup = 5;             ///< steps before them, trained but not timed
  std::int64_t image = 0;              ///< height and width; 0: the model's own
  std::uint64_t seed = 1;
  int threads = 0;  ///< of one rank's arithmetic; 0: cores / ranks on this host
  bool deterministic = false;
  bool describe = false;
  bool progress = false;
  std::string json;                   ///< the record is appended here
  std::string profile;                ///< layer times of this run are written here
  std::string save_parameters;        ///< rank 0's parameters are written here after the last step
  std::string checkpoint;             ///< directory of checkpoints; empty: none
  std::int64_t checkpoint_every = 0;  ///< steps; 0: at the end and at SIGTERM alone
  int checkpoint_keep = 2;            ///< complete ones that stay
  bool resume = false;                ///< go on from the newest
  std::string replay_profile;         ///< layer times that the backend replay plays
  double replay_step_ms = 0;          ///< forward + backward of the replay; 0: as in its profile

  dist::Options world;       ///< the environment, overlaid by the command line
  std::string command_line;  ///< as typed, for the record

  bool replays() const { return backend == "replay"; }
  bool on_gpu() const { return backend == "cudnn"; }
  dist::DType dtype() const { return precision == "f64" ? dist::DType::f64 : dist::DType::f32; }
};

/// The update that the options ask for. In async-ps, where every gradient is an update, the
/// schedule counts as many steps for one of the trainer as there are workers. Errors name what is
/// valid.
dist::Result<dist::Update> make_update(const TrainOptions& options);

/// Reads the command line. Nothing when the user asked for --help, which is then printed (by rank 0
/// alone). Errors name what is valid; names of models and backends are checked where they are used.
dist::Result<std::optional<TrainOptions>> parse_options(int argc, const char* const* argv);

}  // namespace train
