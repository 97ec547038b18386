// SPDX-License-Identifier: Apache-2.0
// A file system in memory that knows what a loss of power would leave: data counts when its file
// was synced, a name when its directory was. It can fail at any one of its operations.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "libdist/checkpoint/file_system.h"

namespace dist::test {

enum class Fault {
  none,
  crash,        ///< half of a write happens, then nothing any more
  full,         ///< from then on nothing new finds room; half of a write still does
  short_write,  ///< a write takes half of what it is given
  sync_error,   ///< a sync fails, and what it should have kept is never safe
};

class FaultFiles final : public checkpoint::FileSystem {
 public:
  /// The operation number `at` (from 0, counted from now on) fails.
  void fail(Fault fault, std::size_t at) {
    fault_ = fault;
    at_ = at;
    operations_ = 0;
  }
  void heal() { fail(Fault::none, 0); }
  std::size_t operations() const { return operations_; }
  bool struck() const { return fault_ != Fault::none && operations_ > at_; }

  /// What is there after a loss of power: all that was synced; of the rest every name and every
  /// file's data is there, not there, or there in half, as the seed chooses; seed 0: none of it,
  /// seed 1: all of it.
  void lose_power(unsigned seed) {
    std::mt19937 random(seed);
    recover(*root_, seed, random);
    heal();
  }

  Result<std::unique_ptr<checkpoint::File>> create(const std::string& path) override {
    DIST_TRY(operate(true));
    const auto [folder, name] = split(path);
    if (!folder) return missing(path);
    auto& node = folder->names[name];
    if (!node) node = std::make_shared<Node>(false);
    node->data.clear();
    return std::unique_ptr<checkpoint::File>(std::make_unique<Open>(*this, node));
  }
  Result<std::unique_ptr<checkpoint::File>> open(const std::string& path) override {
    if (crashed()) return Status::resource("crashed");
    const auto node = find(path);
    if (!node || node->directory) return missing(path);
    return std::unique_ptr<checkpoint::File>(std::make_unique<Open>(*this, node));
  }
  Result<std::vector<std::string>> list(const std::string& directory) override {
    if (crashed()) return Status::resource("crashed");
    std::vector<std::string> names;
    if (const auto node = find(directory)) {
      for (const auto& [name, child] : node->names) names.push_back(name);
    }
    return names;
  }
  Status make_directory(const std::string& path) override {
    DIST_TRY(operate(true));
    const auto [folder, name] = split(path);
    if (!folder) return missing(path);
    auto& node = folder->names[name];
    if (!node) node = std::make_shared<Node>(true);
    return {};
  }
  Status sync_directory(const std::string& path) override {
    DIST_TRY(operate(false));
    const auto node = find(path);
    if (!node) return missing(path);
    if (strikes(Fault::sync_error)) return Status::resource("sync failed");
    node->safe_names = node->names;
    return {};
  }
  Status rename(const std::string& from, const std::string& to) override {
    DIST_TRY(operate(false));
    const auto [old_folder, old_name] = split(from);
    const auto [new_folder, new_name] = split(to);
    const auto node = find(from);
    if (!node || !new_folder) return missing(from);
    const auto there = find(to);
    if (there && there->directory && !there->names.empty()) return Status::resource("not empty");
    old_folder->names.erase(old_name);
    new_folder->names[new_name] = node;
    return {};
  }
  Status remove_file(const std::string& path) override { return remove(path); }
  Status remove_directory(const std::string& path) override { return remove(path); }

  /// Changes one byte of a file, as a bad disk would.
  void damage(const std::string& path, std::size_t at) { find(path)->data.at(at) ^= std::byte{1}; }

 private:
  struct Node {
    explicit Node(bool is_directory) : directory(is_directory) {}

    const bool directory;
    std::vector<std::byte> data;
    std::vector<std::byte> safe_data;
    bool spoilt = false;  // a sync has failed: its data will never be safe
    std::map<std::string, std::shared_ptr<Node>> names;
    std::map<std::string, std::shared_ptr<Node>> safe_names;
  };

  class Open final : public checkpoint::File {
   public:
    Open(FaultFiles& files, std::shared_ptr<Node> node) : files_(files), node_(std::move(node)) {}
    Result<std::size_t> write(std::span<const std::byte> bytes) override {
      const bool halved = files_.operations_ == files_.at_ && files_.fault_ != Fault::none &&
                          files_.fault_ != Fault::sync_error && bytes.size() > 1;
      const Status outcome = files_.operate(true);
      const auto taken = halved ? bytes.size() / 2 : bytes.size();
      if (outcome.ok() || halved) {
        node_->data.insert(node_->data.end(), bytes.begin(),
                           bytes.begin() + static_cast<std::ptrdiff_t>(taken));
      }
      DIST_TRY(outcome);
      return taken;
    }
    Result<std::size_t> read(std::uint64_t at, std::span<std::byte> into) override {
      if (at >= node_->data.size()) return std::size_t{0};
      const auto taken = std::min<std::size_t>(into.size(), node_->data.size() - at);
      std::copy_n(node_->data.begin() + static_cast<std::ptrdiff_t>(at), taken, into.begin());
      return taken;
    }
    Result<std::uint64_t> size() override { return std::uint64_t{node_->data.size()}; }
    Status sync() override {
      DIST_TRY(files_.operate(false));
      if (files_.strikes(Fault::sync_error)) {
        node_->spoilt = true;
        return Status::resource("sync failed");
      }
      if (!node_->spoilt) node_->safe_data = node_->data;
      return {};
    }

   private:
    FaultFiles& files_;
    const std::shared_ptr<Node> node_;
  };

  static Status missing(const std::string& path) { return Status::resource("no " + path); }
  bool crashed() const { return fault_ == Fault::crash && operations_ > at_; }
  // The operation that was just counted is the one that fails.
  bool strikes(Fault fault) const { return fault_ == fault && operations_ == at_ + 1; }

  Status operate(bool needs_room) {
    ++operations_;
    if (crashed()) return Status::resource("crashed");
    if (needs_room && fault_ == Fault::full && operations_ > at_) {
      return Status::resource("no space left on device");
    }
    return {};
  }

  std::shared_ptr<Node> find(const std::string& path) const {
    auto node = root_;
    for (std::size_t at = path == "." ? 1 : 0; at < path.size() && node;) {
      const auto end = std::min(path.find('/', at), path.size());
      const auto child = node->names.find(path.substr(at, end - at));
      node = child == node->names.end() ? nullptr : child->second;
      at = end + 1;
    }
    return node;
  }
  std::pair<std::shared_ptr<Node>, std::string> split(const std::string& path) const {
    const auto slash = path.rfind('/');
    if (slash == path.npos) return {root_, path};
    return {find(path.substr(0, slash)), path.substr(slash + 1)};
  }
  Status remove(const std::string& path) {
    DIST_TRY(operate(false));
    const auto [folder, name] = split(path);
    const auto node = find(path);
    if (!node) return missing(path);
    if (!node->names.empty()) return Status::resource("not empty");
    folder->names.erase(name);
    return {};
  }

  static void recover(Node& node, unsigned seed, std::mt19937& random) {
    const auto choice = [&](unsigned choices) { return seed < 2 ? seed : random() % choices; };
    if (!node.directory) {
      const auto kept = choice(3);
      if (kept == 0) node.data = node.safe_data;
      if (kept == 2 && node.data.size() > node.safe_data.size()) {
        const auto torn = (node.data.size() + node.safe_data.size()) / 2;
        std::fill(node.data.begin() + static_cast<std::ptrdiff_t>(torn), node.data.end(),
                  std::byte{0});
      }
      node.safe_data = node.data;
      return;
    }
    auto all = node.safe_names;
    all.insert(node.names.begin(), node.names.end());
    std::map<std::string, std::shared_ptr<Node>> left;
    for (const auto& [name, child] : all) {
      const auto& side = choice(2) == 1 ? node.names : node.safe_names;
      if (const auto found = side.find(name); found != side.end()) left.emplace(*found);
    }
    node.names = node.safe_names = left;
    for (const auto& [name, child] : left) recover(*child, seed, random);
  }

  std::shared_ptr<Node> root_ = std::make_shared<Node>(true);
  Fault fault_ = Fault::none;
  std::size_t at_ = 0;
  std::size_t operations_ = 0;
};

}  // namespace dist::test
