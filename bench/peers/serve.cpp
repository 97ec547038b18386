// SPDX-License-Identifier: Apache-2.0
// The rank's side of the control protocol: buffers, the timed calls, the check.
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "bench/peers/peer.h"

namespace dist::bench {
namespace {

// A rank that spins for another one that is gone would do so for ever.
constexpr unsigned kLongestRequestSeconds = 600;

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

// Lines from and to two FIFOs.
class Control {
 public:
  Control(const std::string& directory, int rank)
      : in_(open((directory + "/to_" + std::to_string(rank)).c_str(), O_RDONLY | O_CLOEXEC)),
        out_(open((directory + "/from_" + std::to_string(rank)).c_str(), O_WRONLY | O_CLOEXEC)) {
    if (in_ < 0 || out_ < 0) throw std::runtime_error("cannot open the FIFOs in " + directory);
  }
  ~Control() {
    close(in_);
    close(out_);
  }
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  /// False when the starter has gone.
  bool next(std::string* line) {
    for (;;) {
      if (const auto end = text_.find('\n'); end != std::string::npos) {
        *line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return true;
      }
      char piece[512];
      const auto got = read(in_, piece, sizeof piece);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      text_.append(piece, static_cast<std::size_t>(got));
    }
  }

  void reply(std::string line) {
    line += '\n';
    for (std::size_t at = 0; at < line.size();) {
      const auto wrote = write(out_, line.data() + at, line.size() - at);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) throw std::runtime_error("the starter has gone");
      at += static_cast<std::size_t>(wrote);
    }
  }

 private:
  int in_;
  int out_;
  std::string text_;
};

class Server {
 public:
  Server(Peer& peer, const PeerArguments& arguments)
      : peer_(peer), arguments_(arguments), flags_(arguments, "flags"), pattern_(kSamplePeriod) {
    for (std::uint64_t i = 0; i < kSamplePeriod; ++i) {
      pattern_[i] = sample(i) * static_cast<float>(arguments.rank + 1);
    }
  }

  /// The reply to one request.
  std::string obey(const std::string& request) {
    std::istringstream words(request);
    std::string verb;
    words >> verb;
    if (verb == "allocate") return allocate(words);
    if (verb == "release") return release();
    if (data_ == nullptr) throw std::runtime_error("'" + request + "' before 'allocate BYTES'");
    if (verb == "run") return run(words);
    if (verb == "check") return check();
    throw std::runtime_error("unknown request '" + request + "'");
  }

 private:
  std::string allocate(std::istringstream& words) {
    std::uint64_t bytes = 0;
    if (!(words >> bytes) || bytes < sizeof(float) || bytes % sizeof(float) != 0) {
      throw std::runtime_error("allocate wants a multiple of 4 bytes");
    }
    if (data_ != nullptr) release();
    elems_ = bytes / sizeof(float);
    data_ = peer_.allocate(elems_);
    clear();
    return "ok";
  }

  std::string release() {
    if (data_ != nullptr) peer_.release();
    data_ = nullptr;
    malloc_trim(0);  // a tuned heap keeps its scratch otherwise, for ever
    return "ok";
  }

  // The library's own barrier completes what is under way; the flags start all ranks at one time.
  void align() {
    peer_.barrier();
    flags_.meet();
  }

  // As a backward pass does it: every rank writes its own buffer, by ordinary stores.
  void touch() {
    for (std::uint64_t at = 0; at < elems_; at += kSamplePeriod) {
      const auto count = std::min(kSamplePeriod, elems_ - at);
      std::memcpy(data_ + at, pattern_.data(), count * sizeof(float));
    }
    cleared_ = false;
  }

  // Zeros stay zeros however often they are summed.
  void clear() {
    std::fill_n(data_, elems_, 0.0F);
    cleared_ = true;
  }

  std::int64_t timed_call(bool touched) {
    if (touched) {
      touch();
      align();
    }
    const auto start = now_ns();
    peer_.all_reduce(data_, elems_);
    return now_ns() - start;
  }

  std::string run(std::istringstream& words) {
    int warmups = 0;
    int calls = 0;
    bool touched = false;
    if (!(words >> warmups >> calls >> touched)) {
      throw std::runtime_error("run wants WARMUPS CALLS TOUCHED");
    }
    if (!touched && !cleared_) clear();
    std::vector<std::int64_t> times(static_cast<std::size_t>(std::max(calls, 0)));
    align();
    for (int i = 0; i < warmups; ++i) timed_call(touched);
    align();
    for (auto& time : times) time = timed_call(touched);
    peer_.barrier();
    std::string reply = "times";
    for (const auto time : times) reply.append(1, ' ').append(std::to_string(time));
    return reply;
  }

  std::string check() {
    touch();
    align();
    peer_.all_reduce(data_, elems_);
    const float factor = peer_.outcome_factor(arguments_.rank, arguments_.ranks);
    const float* outcome = peer_.outcome(data_);
    std::string reply = "correct";
    for (std::uint64_t i = 0; i < elems_; ++i) {
      if (outcome[i] == factor * sample(i)) continue;
      reply = "wrong element " + std::to_string(i) + " is " + std::to_string(outcome[i]) +
              " instead of " + std::to_string(factor * sample(i));
      break;
    }
    peer_.barrier();
    return reply;
  }

  Peer& peer_;
  const PeerArguments& arguments_;
  SharedFlags flags_;
  std::vector<float> pattern_;
  float* data_ = nullptr;
  std::uint64_t elems_ = 0;
  bool cleared_ = false;
};

}  // namespace

int serve(Peer& peer, const PeerArguments& arguments) {
  Control control(arguments.control, arguments.rank);
  try {
    Server server(peer, arguments);
    control.reply("ready " + std::to_string(arguments.rank) + " " + peer.version());
    for (std::string request; control.next(&request) && request != "quit";) {
      alarm(kLongestRequestSeconds);
      const std::string reply = server.obey(request);
      alarm(0);
      control.reply(reply);
    }
    return 0;
  } catch (const std::exception& error) {
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    control.reply("error " + text);
    return 1;
  }
}

}  // namespace dist::bench
