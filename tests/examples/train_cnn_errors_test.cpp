// SPDX-License-Identifier: Apache-2.0
// Whatever a user can get wrong: one clear message that names what is valid, exit code 1, and no
// rank that hangs.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "libdist/memory/device.h"
#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

struct Case {
  std::string arguments;
  std::vector<std::string> said;
  std::vector<std::string> environment = {};
};

int errors_in(const std::string& text) {
  int count = 0;
  for (auto at = text.find("train_cnn: error: "); at != text.npos;
       at = text.find("train_cnn: error: ", at + 1)) {
    ++count;
  }
  return count;
}

void expect_refusal(int ranks, const Case& c) {
  const auto done = run_program(train_command(ranks, c.arguments), c.environment, 60);
  INFO(ranks << " ranks, " << c.arguments << "\n" << done.out << done.err);
  CHECK(done.exit_code == 1);
  CHECK(errors_in(done.err) == 1);
  CHECK(done.err.find("terminate") == std::string::npos);
  for (const std::string& words : c.said) {
    INFO(words);
    CHECK(done.err.find(words) != std::string::npos);
  }
}

// A loopback port that somebody else listens on.
class TakenPort {
 public:
  TakenPort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(socket_, generic, length) != 0 || ::listen(socket_, 8) != 0 ||
        ::getsockname(socket_, generic, &length) != 0) {
      throw std::runtime_error("no port to take");
    }
    port_ = ntohs(address.sin_port);
  }
  ~TakenPort() { ::close(socket_); }
  TakenPort(const TakenPort&) = delete;
  TakenPort& operator=(const TakenPort&) = delete;
  int port() const { return port_; }

 private:
  int socket_;
  int port_ = 0;
};

}  // namespace

TEST_CASE("what all ranks get wrong alike is told once") {
  const std::vector<Case> cases = {
      {"--model alexnet", {"alexnet", "vgg16, vgg19, resnet50"}},
      {"--strategy rings", {"rings", "ring, sync-ps, async-ps, none"}},
      {"--transport pigeon", {"pigeon", "auto, shm, tcp, mpi, nccl"}},
      {"--backend torch", {"torch", "ref, onednn, cudnn, replay"}},
      {"--optimizer adamax", {"adamax", "sgd, momentum"}},
      {"--schedule cosine --rate-warmup 105", {"schedule cosine", "105"}},
      {"--schedule linear", {"--schedule", "constant"}},
      {"--clip-norm -1", {"--clip-norm"}},
      {"--data imagenet", {"imagenet", "random", "learnable"}},
      {"--precision f16", {"--precision", "f16", "f32", "f64"}},
      {"--batch -3", {"--batch", "-3"}},
      {"--batch 0", {"--batch", "1 to"}},
      {"--batch many", {"--batch", "many"}},
      {"--steps 0", {"--steps", "1 to"}},
      {"--warmup -1", {"--warmup", "0 to"}},
      {"--image 5 --model vgg16", {"vgg16", "at least 32"}},
      {"--image -1", {"image", "-1"}},
      {"--learning-rate fast", {"--learning-rate", "fast"}},
      {"--learning-rate -1", {"--learning-rate"}},
      {"--servers 99 --strategy sync-ps", {"99 servers", "at most"}},
      {"--staleness some --strategy async-ps", {"--staleness", "unlimited"}},
      {"--placement apart", {"--placement", "colocated, dedicated"}},
      {"--timeout 0", {"--timeout"}},
      {"--no-such-flag", {"--no-such-flag", "--help"}},
      {"--dist-bucket-bites=3", {"bucket-bites", "bucket-bytes"}},
      {"--deterministic --dist-algorithm=native", {"native", "ring"}},
      {"--rendezvous nowhere", {"nowhere", "tcp:HOST:PORT"}},
      {"", {"DIST_BUCKET_BITES", "bucket-bytes"}, {"DIST_BUCKET_BITES=3"}},
      {"--backend replay --replay-profile /no/such/profile", {"/no/such/profile"}},
      {"--json /no/such/directory/runs.jsonl", {"--json", "/no/such/directory/runs.jsonl"}},
      {"--json /proc/runs.jsonl", {"--json: cannot write /proc/runs.jsonl"}},
      {"--trace /proc/trace.json", {"--trace: cannot write /proc/trace.json"}},
      {"--profile /proc/profile.json", {"--profile: cannot write"}},
      {"--save-parameters /proc/values", {"--save-parameters: cannot write"}},
  };
  for (const Case& c : cases) {
    const bool bad_environment = !c.environment.empty();  // then a rank does not know its number
    for (const int ranks : bad_environment ? std::vector{1} : std::vector{1, 2}) {
      expect_refusal(ranks, c);
    }
  }
}

TEST_CASE("a batch that does not fit in memory") {
  expect_refusal(1, {"--model vgg16 --batch 100000 --backend ref", {"MiB available", "--batch"}});
  expect_refusal(2, {"--model vgg16 --batch 100000 --backend ref", {"MiB available", "--batch"}});
}

TEST_CASE("mpi without mpirun") {
  expect_refusal(2, {"--transport mpi", {"mpi"}});  // names mpirun, or the missing library
}

TEST_CASE("a part that this build or this backend lacks") {
  if (std::string(DIST_TEST_ONEDNN) == "OFF") {
    expect_refusal(2, {"--backend onednn", {"onednn", "libdnnl-dev"}});
  } else {
    expect_refusal(2, {"--backend onednn --precision f64", {"f64"}});
  }
}

TEST_CASE("precisions that a backend does not have") {
  for (const std::string precision : {"tf32", "f16", "bf16"}) {
    expect_refusal(1, {"--backend ref --precision " + precision,
                       {"--precision " + precision + " is for --backend cudnn"}});
  }
  expect_refusal(2, {"--precision f16", {"--precision f16 is for --backend cudnn"}});
  expect_refusal(1, {"--backend cudnn --precision f64", {"f64 is for --backend ref"}});
  expect_refusal(1, {"--precision f8", {"f8", "tf32"}});
}

TEST_CASE("no GPU: what to install, or which backend to take instead") {
  const Status usable = device_available();
  if (usable.ok()) {
    WARN("skipped: this machine has a GPU");
    return;
  }
  for (const int ranks : {1, 2}) {
    expect_refusal(ranks, {"--backend cudnn",
                           {"--backend cudnn: " + usable.message(), "choose --backend onednn"}});
  }
}

TEST_CASE("a port in use") {
  const TakenPort taken;
  const auto done =
      run_program(train_command(2, fmt::format("--steps 1 --batch 1 --transport tcp --rendezvous "
                                               "tcp:127.0.0.1:{} --dist-connect-timeout-s=3",
                                               taken.port())));
  INFO(done.err);
  CHECK(done.exit_code == 1);
  CHECK(done.err.find("train_cnn: error: rank 0") != std::string::npos);
  CHECK(done.err.find(std::to_string(taken.port())) != std::string::npos);
  CHECK(done.err.find("in use") != std::string::npos);
}

TEST_CASE("--help is no error and is printed once") {
  const auto done = run_program(train_command(2, "--help"));
  CHECK(done.exit_code == 0);
  CHECK(done.out.find("[0]   --model") != std::string::npos);
  CHECK(done.out.find("[1]") == std::string::npos);
}

}  // namespace dist::test
