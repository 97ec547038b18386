// SPDX-License-Identifier: Apache-2.0
#include "bench/all_reduce/wire.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>

#include "bench/process.h"

namespace dist::bench {
namespace {

constexpr std::chrono::seconds kScriptTime{30};

std::string address_of(int rank) { return fmt::format("10.213.0.{}", rank + 1); }

// A signal that came meanwhile waits in line again for whoever asks for it.
ProcessResult shell(const std::string& script, const std::string& log_path) {
  const auto result = run_process({"sh", "-ec", script}, log_path, kScriptTime, nullptr);
  if (result.interrupted_by != 0) kill(getpid(), result.interrupted_by);
  return result;
}

}  // namespace

std::string wire_script(const std::string& rate, int ranks, const std::string& prefix) {
  std::string script = fmt::format(
      "ip netns add {0}-hub\n"
      "ip -n {0}-hub link add bridge0 type bridge\n"
      "ip -n {0}-hub link set bridge0 up\n",
      prefix);
  for (int r = 0; r < ranks; ++r) {
    script += fmt::format(
        "ip netns add {0}-{1}\n"
        "ip link add port{1} netns {0}-hub type veth peer name eth0 netns {0}-{1}\n"
        "ip -n {0}-hub link set port{1} master bridge0 up\n"
        "ip -n {0}-{1} address add {2}/24 dev eth0\n"
        "ip -n {0}-{1} link set eth0 up\n"
        "ip -n {0}-{1} link set lo up\n"
        "tc -n {0}-{1} qdisc add dev eth0 root tbf rate {3} burst 256kb limit 4mb\n",
        prefix, r, address_of(r), rate);
  }
  return script;
}

Result<std::unique_ptr<Wire>> Wire::make(const std::string& rate, int ranks,
                                         const std::string& prefix, const std::string& log_path) {
  if (geteuid() != 0) {
    return Status::unavailable("--wire makes network namespaces and therefore must run as root");
  }
  std::unique_ptr<Wire> wire(new Wire(rate, ranks, prefix, log_path));
  if (shell(wire_script(rate, ranks, prefix), log_path).exit_code != 0) {
    return Status::unavailable(
        fmt::format("cannot make network namespaces with a rate limit (needs iproute2, veth, "
                    "bridge and tbf): {}",
                    tail_of(log_path, 3, "")));
  }
  return wire;
}

Wire::~Wire() {
  std::string script = fmt::format("ip netns delete {}-hub || true\n", prefix_);
  for (int r = 0; r < ranks_; ++r) {
    script += fmt::format("ip netns delete {}-{} || true\n", prefix_, r);
  }
  shell(script, log_path_);
}

Network Wire::network() const {
  Network network;
  network.contest = rate_;
  for (int r = 0; r < ranks_; ++r) {
    network.addresses.push_back(address_of(r));
    network.enter.push_back({"ip", "netns", "exec", fmt::format("{}-{}", prefix_, r)});
  }
  return network;
}

}  // namespace dist::bench
