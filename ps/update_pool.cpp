// SPDX-License-Identifier: Apache-2.0
#include "ps/update_pool.h"

#include <pthread.h>

#include <utility>

namespace dist::ps {

UpdatePool::UpdatePool(Store& store, int threads) : store_(store) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { work(); });
    pthread_setname_np(threads_.back().native_handle(), "dist-server");
  }
}

UpdatePool::~UpdatePool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  signal_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void UpdatePool::start(Store::Update update, Transport& transport) {
  ++started_;
  if (threads_.empty()) {
    store_.run(update);
    finished_.push_back(std::move(update));
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(update), &transport});
  }
  signal_.notify_one();
}

std::vector<Store::Update> UpdatePool::take_finished() {
  if (started_ == 0) return {};
  const std::lock_guard lock(mutex_);
  started_ -= finished_.size();
  return std::exchange(finished_, {});
}

void UpdatePool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    signal_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Job job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    store_.run(job.update);
    lock.lock();
    finished_.push_back(std::move(job.update));
    job.transport->wake();
  }
}

}  // namespace dist::ps
