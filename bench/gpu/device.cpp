// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/device.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace dist::bench::gpu {
namespace {

constexpr std::array<const char*, 5> kFields = {"driver", "memory_mib", "power_limit_w",
                                                "sm_clock_max_mhz", "memory_clock_max_mhz"};
constexpr const char* kQuery =
    "nvidia-smi --query-gpu=driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.mem "
    "--format=csv,noheader,nounits";

// The first line that a command prints; "" where it fails.
std::string first_line(const std::string& command) {
  FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return "";
  std::array<char, 256> line = {};
  const bool read = std::fgets(line.data(), line.size(), pipe) != nullptr;
  const bool well = pclose(pipe) == 0;
  return read && well ? line.data() : "";
}

// nvidia-smi counts all GPUs, CUDA those that this process may see.
std::string visible_device() {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const std::string list = visible == nullptr ? "0" : visible;
  const std::string first = list.substr(0, list.find(','));
  const bool plain = !first.empty() &&
                     first.find_first_not_of("0123456789abcdefABCDEFGPUMIG-") == std::string::npos;
  return plain ? first : "0";
}

nlohmann::json version(const char* text) {
  return *text == '\0' ? nlohmann::json() : nlohmann::json(text);
}

}  // namespace

nlohmann::json built_with() {
  return {{"cuda", version(DIST_CUDA_VERSION)},
          {"cudnn", version(DIST_CUDNN_VERSION)},
          {"nccl", version(DIST_NCCL_VERSION)}};
}

nlohmann::json parse_smi(const std::string& line) {
  std::istringstream text(line);
  std::vector<std::string> words;
  for (std::string word; std::getline(text, word, ',');) {
    const auto begin = word.find_first_not_of(" \n");
    const auto end = word.find_last_not_of(" \n");
    if (begin == std::string::npos) return nlohmann::json::object();
    words.push_back(word.substr(begin, end - begin + 1));
  }
  nlohmann::json fields = nlohmann::json::object();
  if (words.size() != kFields.size()) return fields;
  fields[kFields[0]] = words[0];
  for (std::size_t i = 1; i < words.size(); ++i) {
    char* end = nullptr;
    const double value = std::strtod(words[i].c_str(), &end);
    fields[kFields[i]] = *end == '\0' ? nlohmann::json(value) : nlohmann::json();  // "[N/A]"
  }
  return fields;
}

Result<double> copy_bandwidth(Device& device, Bytes bytes, int rounds) {
  auto from = device.allocate(bytes, MemoryKind::device);
  DIST_TRY(from);
  auto to = device.allocate(bytes, MemoryKind::device);
  DIST_TRY(to);
  const auto stream = device.make_stream(StreamPriority::normal);
  DIST_TRY(stream);
  DIST_TRY(device.copy(*stream, to->bytes(), from->bytes()));  // the first one is slower
  DIST_TRY(device.synchronize(*stream));
  const auto begin = Clock::now();
  for (int round = 0; round < rounds; ++round) {
    DIST_TRY(device.copy(*stream, to->bytes(), from->bytes()));
  }
  DIST_TRY(device.synchronize(*stream));
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return 2 * static_cast<double>(bytes.value) * rounds / seconds;
}

Result<FoundDevice> find_device() {
  DIST_TRY(device_available());
  auto device = open_device(0);
  DIST_TRY(device);
  FoundDevice found;
  found.name = std::string((*device)->name());
  found.provenance = parse_smi(first_line(std::string(kQuery) + " -i " + visible_device()));
  found.provenance["device"] = found.name;
  found.provenance["uuid"] = std::string((*device)->uuid());
  found.provenance["built_with"] = built_with();
  found.memory_gib = found.provenance.value("memory_mib", 0.0) / 1024;
  const auto bandwidth = copy_bandwidth(**device, 512_MiB, 20);
  DIST_TRY(bandwidth);
  found.copy_gb_per_s = *bandwidth / 1e9;
  return found;
}

}  // namespace dist::bench::gpu
