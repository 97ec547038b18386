// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_device.h"

#include <fmt/format.h>
#include <semaphore.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <random>
#include <thread>

#include "libdist/check.h"

namespace dist::test {

// Set by the stream's thread; whoever sees it set sees all that the stream did before.
struct FakeDevice::Mark {
  std::uint64_t number = 0;
  TimePoint time;  // written before `passed`
  std::atomic<bool> passed = false;
  std::mutex mutex;
  std::condition_variable changed;

  void pass() {
    time = Clock::now();
    const std::lock_guard lock(mutex);
    passed.store(true, std::memory_order_release);
    changed.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return passed.load(std::memory_order_acquire); });
  }
};

struct FakeDevice::FakeEvent {
  std::shared_ptr<Mark> mark;
};

// A list that the thread takes from without a lock: a lock would order what the thread did with
// whoever appends next, and hide a missing event from the thread sanitizer.
class FakeDevice::Queue final : public FakeStream {
 public:
  Queue(FakeDevice& device, int number, StreamPriority priority)
      : device_(device), number_(number), priority_(priority) {
    DIST_ASSERT(sem_init(&ready_, 0, 0) == 0, "sem_init");
    thread_ = std::thread([this] { work(); });
  }
  ~Queue() override {
    hold(false);
    append(nullptr);
    thread_.join();
    delete first_;
    sem_destroy(&ready_);
  }

  int number() const { return number_; }
  StreamPriority priority() const { return priority_; }

  void push(std::string_view name, std::function<void()> work) override {
    {
      const std::lock_guard lock(device_.mutex_);
      device_.calls_.push_back({std::string(name), number_});
    }
    append(std::move(work));
  }

  void append(std::function<void()> work) {
    auto* const node = new Node;
    node->work = std::move(work);
    const std::lock_guard lock(append_mutex_);
    last_->next.store(node, std::memory_order_release);
    last_ = node;
    sem_post(&ready_);
  }

  void hold(bool held) {
    const std::lock_guard lock(hold_mutex_);
    held_ = held;
    hold_changed_.notify_all();
  }

 private:
  struct Node {
    std::function<void()> work;
    std::atomic<Node*> next = nullptr;
  };

  void work() {
    std::mt19937 random(device_.options_.seed + static_cast<unsigned>(number_));
    std::uniform_int_distribution<std::int64_t> delay(0, device_.options_.most_delay.count());
    for (;;) {
      while (sem_wait(&ready_) != 0) continue;  // a signal
      Node* const next = first_->next.load(std::memory_order_acquire);
      delete std::exchange(first_, next);
      if (!next->work) return;
      if (device_.options_.most_delay.count() > 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(delay(random)));
      }
      {
        std::unique_lock lock(hold_mutex_);
        hold_changed_.wait(lock, [&] { return !held_; });
      }
      std::exchange(next->work, nullptr)();
    }
  }

  FakeDevice& device_;
  int number_;
  StreamPriority priority_;
  sem_t ready_;
  Node* first_ = new Node;  // done already; of the thread
  std::mutex append_mutex_;
  Node* last_ = first_;  // of whoever appends
  std::mutex hold_mutex_;
  std::condition_variable hold_changed_;
  bool held_ = false;
  std::thread thread_;
};

FakeDevice::FakeDevice(FakeDeviceOptions options)
    : options_(std::move(options)), name_(fmt::format("fake:{}", options_.index)) {
  queues_.push_back(std::make_unique<Queue>(*this, 0, StreamPriority::normal));
  default_queue_ = queues_.front().get();
}

FakeDevice::~FakeDevice() {
  queues_.clear();
  DIST_ASSERT(memory_.empty() && attached_.empty(), "the device ends before memory of it");
}

FakeDevice::Queue& FakeDevice::queue(Stream stream) const {
  if (stream.handle == nullptr) return *default_queue_;
  return *static_cast<Queue*>(static_cast<FakeStream*>(stream.handle));
}

void FakeDevice::enqueue(Stream stream, std::function<void()> work) {
  DIST_ASSERT(stream.handle != nullptr, "which device's default stream?");
  static_cast<FakeStream*>(stream.handle)->push("enqueue", std::move(work));
}

void FakeDevice::hold(Stream stream) { queue(stream).hold(true); }
void FakeDevice::let_go(Stream stream) { queue(stream).hold(false); }

void FakeDevice::fail(std::string_view operation, Status status, int skipped) {
  const std::lock_guard lock(mutex_);
  failures_.push_back({std::string(operation), std::move(status), skipped});
}

void FakeDevice::break_down(Stream stream, const Status& status) {
  {
    const std::lock_guard lock(mutex_);
    broken_because_ = status;
  }
  queue(stream).append([this] { broken_.store(true); });
}

std::vector<FakeCall> FakeDevice::calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

void FakeDevice::forget_calls() {
  const std::lock_guard lock(mutex_);
  calls_.clear();
}

std::size_t FakeDevice::allocations() const {
  const std::lock_guard lock(mutex_);
  return memory_.size();
}

Bytes FakeDevice::allocated() const {
  const std::lock_guard lock(mutex_);
  return allocated_;
}

std::size_t FakeDevice::events_out() const {
  const std::lock_guard lock(mutex_);
  return events_.size();
}

StreamPriority FakeDevice::priority(Stream stream) const { return queue(stream).priority(); }

Status FakeDevice::enter(FakeCall call) {
  const std::lock_guard lock(mutex_);
  if (broken_.load()) return broken_because_.because(call.operation);
  for (auto failure = failures_.begin(); failure != failures_.end(); ++failure) {
    if (failure->operation != call.operation || failure->skipped-- > 0) continue;
    const Status status = failure->status.because(call.operation);
    failures_.erase(failure);
    return status;
  }
  calls_.push_back(std::move(call));
  return {};
}

Status FakeDevice::run(std::string_view operation, Stream stream, std::span<const std::byte> writes,
                       std::function<void()> work) {
  Queue& to = queue(stream);
  DIST_TRY(enter({std::string(operation), to.number(), 0, writes.data(), writes.size()}));
  to.append(std::move(work));
  return {};
}

Result<DeviceMemory> FakeDevice::allocate(Bytes bytes, MemoryKind kind) {
  DIST_TRY(enter({.operation = "allocate", .bytes = bytes.value}));
  const std::lock_guard lock(mutex_);
  if (bytes.value > options_.memory.value - allocated_.value) {
    return Status::resource(fmt::format("{}: no {} bytes left", name_, bytes.value));
  }
  auto mapped = Mapping::map_shareable(bytes.value == 0 ? 1_B : bytes);
  DIST_TRY(mapped);
  const auto span = mapped->bytes().first(bytes.value);
  allocated_ += bytes;
  memory_[span.data()] = *std::move(mapped);
  return DeviceMemory(this, span, kind, false);
}

Result<DeviceMemory> FakeDevice::pin(std::span<std::byte> host) {
  DIST_TRY(enter({.operation = "pin", .memory = host.data(), .bytes = host.size()}));
  return DeviceMemory(this, host, MemoryKind::pinned, true);
}

Result<DeviceAddress> FakeDevice::address(const DeviceMemory& memory) {
  DIST_TRY(enter({"address"}));
  const std::lock_guard lock(mutex_);
  const auto at = memory_.find(memory.bytes().data());
  DIST_ASSERT(at != memory_.end() && memory.kind() == MemoryKind::device,
              "address: not memory of allocate(device)");
  const MappingAddress mapping = at->second.address();
  DeviceAddress address;
  static_assert(sizeof(mapping) <= sizeof(address.handle));
  std::memcpy(address.handle.data(), &mapping, sizeof(mapping));
  address.process = static_cast<std::uint64_t>(getpid());
  address.pointer = reinterpret_cast<std::uintptr_t>(memory.bytes().data());
  address.bytes = memory.bytes().size();
  return address;
}

Result<DeviceMemory> FakeDevice::attach(const DeviceAddress& address) {
  DIST_TRY(enter({"attach"}));
  if (address.process == static_cast<std::uint64_t>(getpid()) && !options_.attach_anew) {
    auto* const here = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(address.pointer));
    return DeviceMemory(this, {here, address.bytes}, MemoryKind::device, true);
  }
  MappingAddress mapping;
  std::memcpy(&mapping, address.handle.data(), sizeof(mapping));
  auto mapped = Mapping::attach(mapping);
  DIST_TRY(mapped);
  const auto span = mapped->bytes().subspan(address.offset, address.bytes);
  const std::lock_guard lock(mutex_);
  attached_[span.data()] = *std::move(mapped);
  return DeviceMemory(this, span, MemoryKind::device, true);
}

void FakeDevice::release(std::span<std::byte> bytes, MemoryKind kind, bool attached) {
  drain();  // as cudaFree() does
  const std::lock_guard lock(mutex_);
  if (attached) {
    attached_.erase(bytes.data());
    return;
  }
  DIST_ASSERT(memory_.erase(bytes.data()) == 1, "memory is released twice");
  allocated_ -= Bytes(bytes.size());
  static_cast<void>(kind);
}

void FakeDevice::drain() {
  std::vector<std::shared_ptr<Mark>> marks;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& queue : queues_) {
      marks.push_back(std::make_shared<Mark>());
      queue->append([mark = marks.back()] { mark->pass(); });
    }
  }
  for (const auto& mark : marks) mark->wait();
}

Result<Stream> FakeDevice::make_stream(StreamPriority priority) {
  DIST_TRY(enter({"make_stream"}));
  const std::lock_guard lock(mutex_);
  queues_.push_back(std::make_unique<Queue>(*this, static_cast<int>(queues_.size()), priority));
  return Stream{static_cast<FakeStream*>(queues_.back().get())};
}

Result<Event> FakeDevice::record(Stream stream) {
  auto mark = std::make_shared<Mark>();
  Queue& to = queue(stream);
  FakeEvent* handle = nullptr;
  {
    const std::lock_guard lock(mutex_);
    mark->number = next_mark_++;
  }
  DIST_TRY(enter({"record", to.number(), mark->number}));
  {
    const std::lock_guard lock(mutex_);
    auto event =
        spare_events_.empty() ? std::make_unique<FakeEvent>() : std::move(spare_events_.back());
    if (!spare_events_.empty()) spare_events_.pop_back();
    event->mark = mark;
    handle = event.get();
    events_[handle] = std::move(event);
  }
  to.append([mark] { mark->pass(); });
  return Event{handle};
}

void FakeDevice::release_event(Event event) {
  const std::lock_guard lock(mutex_);
  const auto at = events_.find(static_cast<FakeEvent*>(event.handle));
  DIST_ASSERT(at != events_.end(), "an event is released twice");
  spare_events_.push_back(std::move(at->second));
  events_.erase(at);
}

std::shared_ptr<FakeDevice::Mark> FakeDevice::mark_of(Event event) const {
  const std::lock_guard lock(mutex_);
  const auto at = events_.find(static_cast<FakeEvent*>(event.handle));
  // Another device's: the handle alone is known.
  if (at == events_.end()) return static_cast<FakeEvent*>(event.handle)->mark;
  return at->second->mark;
}

Result<bool> FakeDevice::passed(Event event) {
  DIST_TRY(enter({"passed"}));
  DIST_ASSERT(!capturing_, "a mark in a capture cannot be asked");
  return mark_of(event)->passed.load(std::memory_order_acquire);
}

Status FakeDevice::wait(Stream stream, Event event) {
  auto mark = mark_of(event);
  Queue& to = queue(stream);
  DIST_TRY(enter({"wait", to.number(), mark->number}));
  to.append([mark] { mark->wait(); });
  return {};
}

Result<Duration> FakeDevice::elapsed(Event from, Event to) {
  DIST_TRY(enter({"elapsed"}));
  const auto begin = mark_of(from);
  const auto end = mark_of(to);
  DIST_ASSERT(begin->passed.load() && end->passed.load(), "elapsed: a mark has not passed");
  return Duration(end->time - begin->time);
}

Result<bool> FakeDevice::capturing(Stream) {
  DIST_TRY(enter({"capturing"}));
  return capturing_.load();
}

Status FakeDevice::synchronize(Stream stream) {
  auto mark = std::make_shared<Mark>();
  Queue& to = queue(stream);
  DIST_TRY(enter({"synchronize", to.number()}));
  to.append([mark] { mark->pass(); });
  mark->wait();
  const std::lock_guard lock(mutex_);
  return broken_.load() ? broken_because_.because("synchronize") : Status();
}

}  // namespace dist::test
