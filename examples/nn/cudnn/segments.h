// SPDX-License-Identifier: Apache-2.0
// A train step as pieces that are enqueued in one go. A piece runs plainly the first time
// (libraries load their code then), is recorded the second time, and is launched from the recording
// from then on; where recording fails it stays plain, and note() says why. Evaluation and timing
// are plain.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "examples/nn/cudnn/library.h"
#include "examples/nn/network.h"

namespace nn::cudnn {

class Segments {
 public:
  using Ranges = std::vector<std::pair<std::size_t, std::size_t>>;
  using OfIndex = std::function<void(std::size_t)>;

  Segments(Library& library, dist::Stream stream, Ranges ranges, const NetworkOptions& options);

  const Ranges& ranges() const { return ranges_; }

  /// For each segment: await(group) for its groups; then, recorded, begin(segment) and run(group)
  /// for each, ascending.
  void forward(bool train, const OfIndex& await, const OfIndex& begin, const OfIndex& run);
  /// For each segment from the last one: recorded, run(group) descending and end(segment); then
  /// ready(group) for each, descending.
  void backward(const OfIndex& run, const OfIndex& end, const OfIndex& ready);

  /// With options.timing, of the last train step; else 0.
  double forward_ns(std::size_t group) const;
  double backward_ns(std::size_t group) const;

  /// "passes: 2 pieces, recorded".
  std::string note() const;

 private:
  struct Piece {
    int runs = 0;
    std::unique_ptr<Recording> recording;
  };

  void enqueue(Piece& piece, const std::function<void()>& work);
  void mark(std::size_t index);

  Library& library_;
  dist::Stream stream_;
  Ranges ranges_;
  std::size_t groups_;
  bool capture_;
  std::string why_not_;
  std::vector<Piece> forward_, backward_;
  std::unique_ptr<Stopwatch> stopwatch_;  // null without timing
};

}  // namespace nn::cudnn
