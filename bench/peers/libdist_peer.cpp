// SPDX-License-Identifier: Apache-2.0
// libdist's own all-reduce as a peer among the others; the launcher's variables tell it its rank.
#include <dist/dist.h>

#include <memory>
#include <stdexcept>

#include "bench/peers/peer.h"

namespace dist::bench {
namespace {

class LibdistPeer : public Peer {
 public:
  explicit LibdistPeer(bool shared) : world_(World::from_environment().value()), shared_(shared) {}

  std::string version() const override { return "libdist " + std::string(dist::version()); }

  // Memory of a group lives as long as the group: a new one for each buffer.
  float* allocate(std::uint64_t elems) override {
    group_ = make_group(world_).value();
    if (!shared_) return Peer::allocate(elems);
    return reinterpret_cast<float*>(
        group_->allocate(bytes_of(Elems(elems), DType::f32)).value().data());
  }

  void release() override {
    if (group_) group_->barrier().value();
    group_.reset();
    if (!shared_) Peer::release();
  }

  void all_reduce(float* data, std::uint64_t elems) override {
    group_->all_reduce(std::span(data, elems)).value();
  }
  void barrier() override { group_->barrier().value(); }

 private:
  World world_;
  bool shared_;
  std::unique_ptr<Group> group_;
};

int body(const PeerArguments& arguments) {
  if (arguments.buffers != "shared" && arguments.buffers != "private") {
    throw std::runtime_error("--buffers is shared or private");
  }
  LibdistPeer peer(arguments.buffers == "shared");
  return serve(peer, arguments);
}

}  // namespace
}  // namespace dist::bench

int main(int argc, char** argv) { return dist::bench::run_peer(argc, argv, dist::bench::body); }
