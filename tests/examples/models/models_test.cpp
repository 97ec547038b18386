// SPDX-License-Identifier: Apache-2.0
// The published parameter counts and work, sizes other than the native one, and refusals.
#include "examples/models/models.h"

#include "tests/support/catch.h"

using namespace nn;
using models::make_model;

namespace {

struct Published {
  const char* name;
  std::int64_t image;
  std::uint64_t parameters;
  double gflop;  // forward, one image, 2 per multiply-add
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("parameter counts and work of the published models") {
  const Published expected = GENERATE(
      Published{"vgg16", 0, 138'357'544, 30.94}, Published{"vgg19", 0, 143'667'240, 39.26},
      Published{"resnet50", 0, 25'557'032, 8.18}, Published{"resnet152", 0, 60'192'808, 23.03},
      Published{"inception_v4", 0, 42'679'816, 24.51}, Published{"vgg16", 256, 169'814'824, 40.40},
      Published{"vgg19", 256, 175'124'520, 51.27}, Published{"resnet50", 256, 25'557'032, 10.68},
      Published{"resnet152", 256, 60'192'808, 30.08},
      Published{"inception_v4", 256, 42'679'816, 16.60});
  const auto graph = make_model(expected.name, {.image = expected.image});
  REQUIRE_OK(graph);
  INFO(expected.name << " at " << expected.image);
  CHECK(graph->parameter_elements() == expected.parameters);
  CHECK(static_cast<double>(graph->forward_flop()) / 1e9 ==
        dist::test::Approx(expected.gflop).margin(0.006));
  CHECK(graph->classes() == 1000);
}

TEST_CASE("every name makes a model of its native size") {
  REQUIRE(models::model_names().size() == 6);
  for (const std::string& name : models::model_names()) {
    const auto graph = make_model(name);
    REQUIRE_OK(graph);
    CHECK(graph->name == name);
    CHECK(graph->input_shape() == Shape{3, models::native_image(name), models::native_image(name)});
  }
  CHECK(models::native_image("vgg16") == 224);
  CHECK(models::native_image("inception_v4") == 299);
  CHECK(models::native_image("small_cnn") == 32);
  CHECK(models::native_image("lenet") == 0);
}

TEST_CASE("small_cnn has neither batch norm nor dropout") {
  const auto graph = make_model("small_cnn");
  REQUIRE_OK(graph);
  CHECK(graph->classes() == 10);
  CHECK(graph->parameter_elements() == 89'834);
  for (const Node& node : graph->nodes) {
    CHECK_FALSE(std::holds_alternative<BatchNorm>(node.layer));
    CHECK_FALSE(std::holds_alternative<Dropout>(node.layer));
  }
}

TEST_CASE("dropout: the papers' rates, or the one asked for") {
  const auto rates = [](const char* name, double rate) {
    std::vector<double> found;
    const auto graph = make_model(name, {.dropout = rate});
    REQUIRE_OK(graph);
    for (const Node& node : graph->nodes) {
      if (const auto* drop = std::get_if<Dropout>(&node.layer)) found.push_back(drop->rate);
    }
    return found;
  };
  CHECK(rates("vgg16", -1) == std::vector<double>{0.5, 0.5});
  CHECK(rates("inception_v4", -1) == std::vector<double>{0.2});
  CHECK(rates("resnet50", -1).empty());
  CHECK(rates("vgg19", 0) == std::vector<double>{0.0, 0.0});
}

TEST_CASE("resnet is v1.5: the stride is in the 3x3 convolution") {
  const auto graph = make_model("resnet50");
  REQUIRE_OK(graph);
  CHECK(has(graph->notes, "v1.5"));
  for (const Node& node : graph->nodes) {
    const auto* conv = std::get_if<Conv>(&node.layer);
    if (conv == nullptr) continue;
    if (node.name == "stage2.0.conv1") CHECK(conv->window.stride == 1);
    if (node.name == "stage2.0.conv2") CHECK(conv->window.stride == 2);
    if (node.name == "stage2.0.conv_shortcut") CHECK(conv->window.stride == 2);
  }
}

TEST_CASE("an image that is too small is told with the smallest that fits, which does") {
  for (const char* name : {"vgg16", "vgg19", "inception_v4", "small_cnn"}) {
    const auto tiny = make_model(name, {.image = 3});
    REQUIRE_FALSE(tiny.ok());
    const std::string message = tiny.status().message();
    INFO(message);
    const std::size_t at = message.find("at least ");
    REQUIRE(at != std::string::npos);
    const std::int64_t smallest = std::stoll(message.substr(at + 9));
    CHECK(make_model(name, {.image = smallest}).ok());
    CHECK_FALSE(make_model(name, {.image = smallest - 1}).ok());
  }
}

TEST_CASE("wrong names and numbers are told") {
  const auto unknown = make_model("lenet");
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.status().code() == dist::ErrorCode::invalid_argument);
  CHECK(has(unknown.status().message(), "lenet"));
  CHECK(has(unknown.status().message(),
            "vgg16, vgg19, resnet50, resnet152, inception_v4, small_cnn"));
  CHECK_FALSE(make_model("vgg16", {.image = -1}).ok());
  CHECK_FALSE(make_model("vgg16", {.image = 100'000}).ok());
  CHECK_FALSE(make_model("vgg16", {.classes = -5}).ok());
  CHECK_FALSE(make_model("vgg16", {.dropout = 1.5}).ok());
}

TEST_CASE("describe prints layers, shapes and totals") {
  const auto graph = make_model("vgg16");
  REQUIRE_OK(graph);
  const std::string text = models::describe(*graph);
  CHECK(has(text, "vgg16, input 3x224x224, 1000 classes"));
  CHECK(has(text, "Glorot"));
  CHECK(has(text, "64x224x224"));
  CHECK(has(text, "102764544"));  // fc6
  CHECK(has(text, "138357544 parameters in 32 tensors"));
  CHECK(has(text, "30.941 GFLOP"));
  CHECK(has(models::describe(make_model("resnet50").value()), "v1.5"));
}
