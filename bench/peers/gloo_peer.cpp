// SPDX-License-Identifier: Apache-2.0
// Gloo over TCP: "ring_chunked" and "halving_doubling" (the classes that PyTorch used), "ring" (the
// function that it uses now).
#include <gloo/allreduce.h>
#include <gloo/allreduce_halving_doubling.h>
#include <gloo/allreduce_ring_chunked.h>
#include <gloo/config.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <memory>
#include <stdexcept>

#include "bench/peers/peer.h"

namespace dist::bench {
namespace {

class GlooPeer : public Peer {
 public:
  explicit GlooPeer(const PeerArguments& arguments) : algorithm_(arguments.algorithm) {
    if (algorithm_ != "ring" && algorithm_ != "ring_chunked" && algorithm_ != "halving_doubling") {
      throw std::runtime_error("--algorithm is ring, ring_chunked or halving_doubling");
    }
    auto device = gloo::transport::tcp::CreateDevice(arguments.address.c_str());
    gloo::rendezvous::FileStore store(arguments.control);
    auto context = std::make_shared<gloo::rendezvous::Context>(arguments.rank, arguments.ranks);
    context->connectFullMesh(store, device);
    context_ = context;
  }

  std::string version() const override {
    return "Gloo " + std::to_string(GLOO_VERSION_MAJOR) + "." + std::to_string(GLOO_VERSION_MINOR) +
           "." + std::to_string(GLOO_VERSION_PATCH);
  }

  float* allocate(std::uint64_t elems) override {
    float* data = Peer::allocate(elems);
    const auto count = static_cast<int>(elems);
    if (algorithm_ == "ring_chunked") {
      method_ = std::make_unique<gloo::AllreduceRingChunked<float>>(
          context_, std::vector<float*>{data}, count);
    } else if (algorithm_ == "halving_doubling") {
      method_ = std::make_unique<gloo::AllreduceHalvingDoubling<float>>(
          context_, std::vector<float*>{data}, count);
    } else {
      options_ = std::make_unique<gloo::AllreduceOptions>(context_);
      options_->setOutput(data, elems);
      options_->setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
      options_->setReduceFunction([](void* out, const void* a, const void* b, std::size_t n) {
        gloo::sum<float>(out, a, b, n);
      });
    }
    return data;
  }

  void release() override {
    method_.reset();
    options_.reset();
    Peer::release();
  }

  void all_reduce(float* /*data*/, std::uint64_t /*elems*/) override {
    if (method_) {
      method_->run();
    } else {
      gloo::allreduce(*options_);
    }
  }

  // The flags that follow are enough: Gloo's own thread completes what is under way. Its barrier
  // before each call costs up to 4 ms of the call (two threads on one core), which nobody deserves.
  void barrier() override {}

 private:
  std::string algorithm_;
  std::shared_ptr<gloo::Context> context_;
  std::unique_ptr<gloo::Algorithm> method_;
  std::unique_ptr<gloo::AllreduceOptions> options_;
};

int body(const PeerArguments& arguments) {
  GlooPeer peer(arguments);
  return serve(peer, arguments);
}

}  // namespace
}  // namespace dist::bench

int main(int argc, char** argv) { return dist::bench::run_peer(argc, argv, dist::bench::body); }
