// SPDX-License-Identifier: Apache-2.0
// The trainer with --backend cudnn from beginning to end, without a GPU: train_cnn linked with a
// FakeDevice and the backend's kernels on the host.
#include <cstring>
#include <filesystem>

#include "tests/examples/train_run.h"
#include "tests/support/catch.h"

namespace dist::test {
namespace {

const std::string kRun =
    "--model small_cnn --batch 4 --steps 4 --warmup 2 --threads 1 --data learnable ";

Trained train_on(const std::string& program, int ranks, const std::string& arguments) {
  const ScratchDirectory scratch;
  auto command = train_command(ranks, kRun + arguments);
  for (std::string& word : command) {
    if (word == built("train_cnn")) word = program;
  }
  command.insert(command.end(),
                 {"--json", scratch.path("runs"), "--save-parameters", scratch.path("parameters")});
  Trained trained;
  trained.process = run_program(command, {}, 300);
  INFO(arguments << "\n" << trained.process.out << trained.process.err);
  REQUIRE(trained.process.exit_code == 0);
  trained.record = last_record(scratch.path("runs"));
  const std::string bytes = read_text(scratch.path("parameters"));
  trained.parameters.resize(bytes.size() / sizeof(double));
  std::memcpy(trained.parameters.data(), bytes.data(), bytes.size());
  return trained;
}

Trained on_gpu(int ranks, const std::string& arguments) {
  return train_on(DIST_TEST_TRAIN_ON_FAKE_GPU, ranks, "--backend cudnn " + arguments);
}
Trained on_host(int ranks, const std::string& arguments) {
  return train_on(built("train_cnn"), ranks, "--backend ref " + arguments);
}

}  // namespace

TEST_CASE("one rank trains on a GPU as on the host, and says so") {
  const auto host = on_host(1, "");
  const auto gpu = on_gpu(1, "");
  CHECK(close_to(gpu.parameters, host.parameters, 1e-3));
  CHECK(gpu.record["backend"] == "cudnn");
  CHECK(gpu.record["precision"] == "f32");
  CHECK(gpu.record["device"].get<std::string>().find("fake") != std::string::npos);
  CHECK(gpu.record["images_per_second"].get<double>() > 0);
  for (const char* loss : {"loss_first", "loss_last"}) {
    CHECK(gpu.record[loss].get<double>() == Approx(host.record[loss].get<double>()).epsilon(1e-3));
  }
}

TEST_CASE("low precision trains, with the loss that f32 has") {
  const double wanted = on_gpu(1, "").record["loss_last"].get<double>();
  for (const char* precision : {"tf32", "f16", "bf16"}) {
    const auto run = on_gpu(1, std::string("--precision ") + precision);
    INFO(precision);
    CHECK(run.record["precision"] == precision);
    // The first steps in f16 may overflow, and are left out then.
    const double tolerance = run.record["precision"] == "f16" ? 0.1 : 0.02;
    CHECK(run.record["loss_last"].get<double>() == Approx(wanted).epsilon(tolerance));
  }
}

TEST_CASE("two ranks on a GPU train as two on the host") {
  const std::pair<std::string, std::string> cases[] = {{"ring", "device sweep"},
                                                       {"sync-ps", "staged"}};
  for (const auto& [strategy, algorithm] : cases) {
    const std::string arguments = "--transport shm --strategy " + strategy;
    const auto host = on_host(2, arguments);
    const auto gpu = on_gpu(2, arguments);
    INFO(strategy);
    CHECK(gpu.record["replicas_equal"] == true);
    CHECK(close_to(gpu.parameters, host.parameters, 1e-3));
    CHECK(gpu.record["algorithm"].get<std::string>().starts_with(algorithm));
  }
}

TEST_CASE("a checkpoint of a GPU resumes to the same bits, weights too") {
  namespace fs = std::filesystem;
  const ScratchDirectory scratch;
  const std::string saving =
      "--optimizer adam --checkpoint-every 3 --checkpoint " + scratch.path("c") + " ";
  const std::string newest = scratch.path("c/step-000006");
  const auto whole = on_gpu(1, saving);
  REQUIRE(fs::exists(newest));
  const std::string weights = read_text(newest + "/weights.safetensors");
  CHECK(weights.size() > 4 * whole.parameters.size());
  fs::remove_all(newest);
  const auto resumed = on_gpu(1, saving + "--resume");
  CHECK(resumed.parameters == whole.parameters);
  CHECK(read_text(newest + "/weights.safetensors") == weights);
}

}  // namespace dist::test
