// SPDX-License-Identifier: Apache-2.0
// Model names, their defaults, and the message for an image that is too small.
#include "examples/models/models.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "examples/models/architectures.h"

namespace nn::models {
namespace {

struct Entry {
  std::string_view name;
  std::int64_t image;
  std::int64_t classes;
  double dropout;
  dist::Result<Graph> (*make)(const ModelOptions&);
};

constexpr std::array<Entry, 6> kModels{{
    {"vgg16", 224, 1000, 0.5, [](const ModelOptions& o) { return make_vgg(16, o); }},
    {"vgg19", 224, 1000, 0.5, [](const ModelOptions& o) { return make_vgg(19, o); }},
    {"resnet50", 224, 1000, 0.0, [](const ModelOptions& o) { return make_resnet(50, o); }},
    {"resnet152", 224, 1000, 0.0, [](const ModelOptions& o) { return make_resnet(152, o); }},
    {"inception_v4", 299, 1000, 0.2, make_inception_v4},
    {"small_cnn", 32, 10, 0.0, make_small_cnn},
}};
constexpr std::int64_t kLargestImage = 4096;

const Entry* find(std::string_view name) {
  const auto* entry = std::find_if(kModels.begin(), kModels.end(),
                                   [&](const Entry& candidate) { return candidate.name == name; });
  return entry == kModels.end() ? nullptr : entry;
}

// The smallest image that the layers of this model leave something of; 0 when there is none.
std::int64_t smallest_image(const Entry& entry, ModelOptions options) {
  for (options.image = 1; options.image <= entry.image; ++options.image) {
    if (entry.make(options).ok()) return options.image;
  }
  return 0;
}

}  // namespace

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    list.reserve(kModels.size());
    for (const Entry& entry : kModels) list.emplace_back(entry.name);
    return list;
  }();
  return names;
}

std::int64_t native_image(std::string_view name) {
  const Entry* entry = find(name);
  return entry == nullptr ? 0 : entry->image;
}

dist::Result<Graph> make_model(std::string_view name, const ModelOptions& options) {
  const Entry* entry = find(name);
  if (entry == nullptr) {
    return dist::Status::invalid_argument(
        fmt::format("unknown model '{}'; valid: {}", name, fmt::join(model_names(), ", ")));
  }
  if (options.image < 0 || options.image > kLargestImage) {
    return dist::Status::invalid_argument(
        fmt::format("image is {}; it must be in [1, {}], or 0 for the native {} of {}",
                    options.image, kLargestImage, entry->image, name));
  }
  if (options.classes < 0) {
    return dist::Status::invalid_argument(
        fmt::format("classes is {}; it must be positive, or 0 for the model's own {}",
                    options.classes, entry->classes));
  }
  ModelOptions filled = options;
  if (filled.image == 0) filled.image = entry->image;
  if (filled.dropout < 0) filled.dropout = entry->dropout;
  if (filled.classes == 0) filled.classes = entry->classes;
  auto graph = entry->make(filled);
  if (graph.ok()) return graph;
  const std::int64_t smallest = smallest_image(*entry, filled);
  if (smallest == 0 || filled.image >= smallest) return graph.status();
  return graph.status().because(fmt::format("{} needs an image of at least {}", name, smallest));
}

}  // namespace nn::models
