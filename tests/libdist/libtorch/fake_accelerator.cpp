// SPDX-License-Identifier: Apache-2.0
#include "tests/libdist/libtorch/fake_accelerator.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/version.h>

#if __has_include(<ATen/detail/HPUHooksInterface.h>)
#include <ATen/detail/HPUHooksInterface.h>
#endif

#include <array>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

namespace dist::test {
namespace {

// Devices whose tensors can stand for those of the host, which to() needs, and that builds for CPUs
// know nothing else of.
// other.
constexpr auto kFake = TORCH_VERSION_MAJOR >= 2 ? c10::kHPU : c10::kXPU;
constexpr auto kFakeKey = TORCH_VERSION_MAJOR >= 2 ? c10::DispatchKey::HPU : c10::DispatchKey::XPU;

std::array<std::weak_ptr<FakeDevice>, kFakeAccelerators> devices;
std::array<std::atomic<int>, kFakeAccelerators> streams;
thread_local int current = 0;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream default_stream(c10::Device device) {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }

  c10::DeviceType type() const override { return kFake; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return fake_place(std::exchange(current, device.index()));
  }
  c10::Device getDevice() const override { return fake_place(current); }
  void setDevice(c10::Device device) const override { current = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::Stream getStream(c10::Device device) const noexcept override {
    const int stream = streams[static_cast<std::size_t>(device.index())];
    return c10::Stream(c10::Stream::UNSAFE, device, stream);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    return default_stream(stream.device());
  }
  c10::DeviceIndex deviceCount() const noexcept override { return kFakeAccelerators; }

  // Between devices; work is done when it was asked for.
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
};

// Operations have the device's default stream for theirs.
void come_to_turn(c10::Device device) {
  const auto fake = devices[static_cast<std::size_t>(device.index())].lock();
  if (fake != nullptr) fake->synchronize({}).value();
}

// The same memory as the host sees it.
at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.device().type() != kFake) return tensor;
  come_to_turn(tensor.device());
  return at::for_blob(tensor.data_ptr(), tensor.sizes())
      .strides(tensor.strides())
      .options(tensor.options().device(at::kCPU))
      .make_tensor();
}

at::Tensor on_device(const at::Tensor& tensor, c10::Device device) {
  return at::for_blob(tensor.data_ptr(), tensor.sizes())
      .strides(tensor.strides())
      .options(tensor.options().device(device))
      .target_device(device)
      .deleter([tensor](void*) {})
      .make_tensor();
}

// The host's operation, in place.
void run_on_host(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  const auto arguments = operation.schema().arguments().size();
  c10::optional<c10::Device> device;
  std::vector<std::pair<at::Tensor, at::Tensor>> lent;  // the host's, the device's
  const auto lend = [&](const at::Tensor& tensor) {
    auto host = on_host(tensor);
    if (tensor.defined() && tensor.device().type() == kFake) {
      device = tensor.device();
      lent.emplace_back(host, tensor);
    }
    return host;
  };
  for (auto& value : torch::jit::last(*stack, arguments)) {
    auto& argument = const_cast<c10::IValue&>(value);
    if (value.isTensor()) argument = lend(value.toTensor());
    if (value.isTensorList()) {
      std::vector<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(lend(tensor));
      argument = list;
    }
    if (value.isDevice()) {
      device = value.toDevice();
      argument = c10::Device(at::kCPU);
    }
  }
  operation.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  const auto returns = operation.schema().returns().size();
  for (auto& value : torch::jit::last(*stack, returns)) {
    if (!value.isTensor() || !value.toTensor().defined()) continue;
    const at::Tensor result = value.toTensor();
    auto mine = on_device(result, *device);
    for (const auto& [host, original] : lent) {
      if (host.is_same(result)) mine = original;
    }
    const_cast<c10::IValue&>(value) = mine;
  }
}

at::Tensor empty(at::IntArrayRef sizes, c10::optional<at::ScalarType> type,
                 c10::optional<at::Layout>, c10::optional<at::Device> device, c10::optional<bool>,
                 c10::optional<at::MemoryFormat> format) {
  return on_device(at::empty(sizes, at::TensorOptions(type.value_or(at::kFloat)), format), *device);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         c10::optional<at::ScalarType> type, c10::optional<at::Layout>,
                         c10::optional<at::Device> device, c10::optional<bool>) {
  return on_device(at::empty_strided(sizes, strides, at::TensorOptions(type.value_or(at::kFloat))),
                   *device);
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  on_host(to).copy_(on_host(from));
  return to;
}

// Of the whole program, from its start.
struct Registration {
  Registration() {
    fallback.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
    aten.impl("empty.memory_format", empty);
    aten.impl("empty_strided", empty_strided);
    aten.impl("_copy_from", copy_from);
    aten.impl("as_strided", at::native::as_strided_tensorimpl);
    aten.impl("view", at::native::view);
    aten.impl("_reshape_alias", at::native::_reshape_alias);
    aten.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  }

  c10::impl::DeviceGuardImplRegistrar guard{kFake, new Guard};  // LibTorch keeps it
  torch::Library fallback{torch::Library::IMPL, "_", kFakeKey, __FILE__, __LINE__};
  torch::Library aten{torch::Library::IMPL, "aten", kFakeKey, __FILE__, __LINE__};
};

const Registration registration;

// Newer versions ask before they compute on several threads.
#if __has_include(<ATen/detail/HPUHooksInterface.h>)
struct Hooks final : at::HPUHooksInterface {
  explicit Hooks(at::HPUHooksArgs) {}
  void init() const override {}
  bool hasHPU() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kFakeAccelerators; }
};
const at::RegistererHPUHooksRegistry hooks("HPUHooks", at::HPUHooksRegistry(),
                                           at::RegistererHPUHooksRegistry::DefaultCreator<Hooks>);
#endif

}  // namespace

torch::Device fake_place(int index) { return {kFake, static_cast<c10::DeviceIndex>(index)}; }

FakeAccelerators make_fake_accelerators() {
  FakeAccelerators made;
  for (int index = 0; index < kFakeAccelerators; ++index) {
    FakeDeviceOptions options;
    options.index = index;
    options.uuid = "fake-" + std::to_string(index);
    options.seed = static_cast<unsigned>(index) + 1;
    options.most_delay = std::chrono::microseconds(100);
    const auto i = static_cast<std::size_t>(index);
    devices[i] = made[i] = std::make_shared<FakeDevice>(options);
  }
  return made;
}

Result<libtorch::Accelerator> find_fake_accelerator(torch::Device place) {
  current = place.index();
  return libtorch::Accelerator{devices[static_cast<std::size_t>(place.index())].lock(), {}};
}

int current_fake() { return current; }
void set_current_fake_stream(int index, int stream) {
  streams[static_cast<std::size_t>(index)] = stream;
}

}  // namespace dist::test
