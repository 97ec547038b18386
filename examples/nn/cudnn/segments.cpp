// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/segments.h"

#include <fmt/format.h>

namespace nn::cudnn {

// Marks: forward before each group and after the last, then the same backward.
Segments::Segments(Library& library, dist::Stream stream, Ranges ranges,
                   const NetworkOptions& options)
    : library_(library),
      stream_(stream),
      ranges_(std::move(ranges)),
      groups_(ranges_.back().second),
      capture_(options.capture && !options.timing && stream.handle != nullptr),
      forward_(ranges_.size()),
      backward_(ranges_.size()) {
  if (!capture_) {
    why_not_ = !options.capture ? "switched off"
               : options.timing ? "layers are timed"
                                : "the default stream cannot be recorded";
  }
  if (options.timing) stopwatch_ = library.stopwatch(2 * (groups_ + 1));
}

void Segments::mark(std::size_t index) {
  if (stopwatch_) stopwatch_->mark(stream_, index);
}

void Segments::forward(bool train, const OfIndex& await, const OfIndex& begin, const OfIndex& run) {
  for (std::size_t k = 0; k < ranges_.size(); ++k) {
    const auto first = ranges_[k].first;
    const auto last = ranges_[k].second;
    for (std::size_t g = first; g < last; ++g) await(g);
    const auto work = [&] {
      begin(k);
      for (std::size_t g = first; g < last; ++g) {
        if (train) mark(g);
        run(g);
      }
    };
    if (train) {
      enqueue(forward_[k], work);
    } else {
      work();
    }
  }
  if (train) mark(groups_);
}

void Segments::backward(const OfIndex& run, const OfIndex& end, const OfIndex& ready) {
  for (std::size_t k = ranges_.size(); k-- > 0;) {
    const auto first = ranges_[k].first;
    const auto last = ranges_[k].second;
    enqueue(backward_[k], [&] {
      for (std::size_t g = last; g-- > first;) {
        mark(groups_ + 1 + (groups_ - 1 - g));
        run(g);
      }
      end(k);
    });
    for (std::size_t g = last; g-- > first;) ready(g);
  }
  mark(2 * groups_ + 1);
}

void Segments::enqueue(Piece& piece, const std::function<void()>& work) {
  if (capture_ && piece.runs++ > 0) {
    if (!piece.recording) piece.recording = library_.record(stream_, work, &why_not_);
    if (piece.recording) {
      piece.recording->launch(stream_);
      return;
    }
    capture_ = false;
  }
  work();
}

double Segments::forward_ns(std::size_t group) const {
  return stopwatch_ ? stopwatch_->nanoseconds(group, group + 1) : 0;
}

double Segments::backward_ns(std::size_t group) const {
  if (!stopwatch_) return 0;
  const std::size_t mark = groups_ + 1 + (groups_ - 1 - group);
  return stopwatch_->nanoseconds(mark, mark + 1);
}

std::string Segments::note() const {
  if (capture_) return fmt::format("passes: {} pieces each, recorded", ranges_.size());
  return fmt::format("passes: {} pieces each, not recorded: {}", ranges_.size(), why_not_);
}

}  // namespace nn::cudnn
