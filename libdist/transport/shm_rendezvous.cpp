// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/shm_rendezvous.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>

#include "libdist/transport/file_descriptor.h"

namespace dist {
namespace {

constexpr const char* kDirectory = "/dev/shm";
constexpr mode_t kOwnerOnly = 0600;
constexpr Duration kPollEvery = std::chrono::microseconds(500);
constexpr Duration kCheckAliveEvery = std::chrono::milliseconds(20);

std::string name_prefix() { return fmt::format("libdist-{}-", ::geteuid()); }

Status failed(std::string_view what, const std::string& path, int error) {
  return Status::resource(fmt::format("shm: cannot {} {}: {}", what, path, std::strerror(error)));
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::shared_ptr<ShmSegment> own_mapping(void* base, const SegmentLayout& layout) {
  return std::make_shared<ShmSegment>(
      static_cast<std::byte*>(base), layout,
      [bytes = layout.segment_bytes()](std::byte* memory) { ::munmap(memory, bytes); });
}

std::optional<SegmentIdentity> read_identity(const FileDescriptor& file) {
  SegmentIdentity identity;
  const bool whole = ::pread(file.number(), &identity, sizeof identity, 0) == sizeof identity;
  return whole && identity.magic == kSegmentMagic ? std::optional(identity) : std::nullopt;
}

// Removes the name of a segment whose maker is gone, if it is still the file that was looked at.
void remove_if_stale(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return;
  const auto identity = read_identity(file);
  if (!identity || is_alive(identity->creator)) return;
  struct stat opened {};
  struct stat named {};
  if (::fstat(file.number(), &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
      opened.st_ino == named.st_ino) {
    ::unlink(path.c_str());
  }
}

// What killed jobs of this user left, whatever their ids.
void remove_stale_segments() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(kDirectory, error)) {
    if (entry.path().filename().string().starts_with(name_prefix())) {
      remove_if_stale(entry.path().string());
    }
  }
}

// Takes the rank's place in the segment and leaves it again unless the meeting succeeds.
class Place {
 public:
  Place(std::shared_ptr<ShmSegment> segment, Rank rank)
      : segment_(std::move(segment)), slot_(segment_->slot(rank)) {}
  ~Place() {
    if (!taken_) return;
    slot_.closed.store(1);
    slot_.attachment.store(Attachment::none);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  bool take() {
    auto expected = Attachment::none;
    taken_ = slot_.attachment.compare_exchange_strong(expected, Attachment::claimed);
    if (!taken_) return false;
    slot_.process = this_process();
    slot_.closed.store(0);
    slot_.attachment.store(Attachment::attached);
    return true;
  }

  std::shared_ptr<ShmSegment> keep() {
    taken_ = false;
    return std::move(segment_);
  }

 private:
  std::shared_ptr<ShmSegment> segment_;
  RankSlot& slot_;
  bool taken_ = false;
};

class Meeting {
 public:
  explicit Meeting(const Options& options)
      : options_(options),
        path_(segment_path(options.job)),
        start_(Clock::now()),
        deadline_(start_ + options.connect_timeout) {}

  // Rank 0.
  Result<std::shared_ptr<ShmSegment>> host() {
    remove_stale_segments();
    auto made = make();
    DIST_TRY(made);
    Place place(*made, options_.rank);
    place.take();
    const auto gathered = gather(**made);
    ::unlink(path_.c_str());
    (*made)->header().state.store(gathered.ok() ? SegmentState::ready : SegmentState::failed);
    DIST_TRY(gathered);
    return place.keep();
  }

  // All others.
  Result<std::shared_ptr<ShmSegment>> join() {
    auto found = find();
    DIST_TRY(found);
    Place place(*found, options_.rank);
    if (!place.take()) {
      return Status::invalid_argument(fmt::format(
          "shm: rank {} of job {:x} has already come (pid {}); does another job with the same id "
          "run?",
          options_.rank, options_.job, (*found)->slot(options_.rank).process.pid));
    }
    DIST_TRY(await_ready(**found));
    return place.keep();
  }

 private:
  Result<std::shared_ptr<ShmSegment>> make() {
    const SegmentLayout layout(options_.ranks);
    const FileDescriptor file(::open(kDirectory, O_TMPFILE | O_RDWR | O_CLOEXEC, kOwnerOnly));
    if (!file.valid()) return failed("make a file in", kDirectory, errno);
    const auto bytes = static_cast<off_t>(layout.segment_bytes());
    int error = EINTR;
    while (error == EINTR) error = ::posix_fallocate(file.number(), 0, bytes);
    if (error != 0) {
      return Status::resource(
          fmt::format("shm: {} has no room for the {} bytes that {} ranks need: {}; enlarge it "
                      "(docker: --shm-size) or choose the transport tcp",
                      kDirectory, bytes, options_.ranks, std::strerror(error)));
    }
    void* base = ::mmap(nullptr, layout.segment_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED,
                        file.number(), 0);
    if (base == MAP_FAILED) return failed("map a segment of", kDirectory, errno);
    auto segment = own_mapping(base, layout);
    ShmSegment::construct(static_cast<std::byte*>(base), layout, options_.job, this_process());
    DIST_TRY(publish(file));
    return segment;
  }

  Status publish(const FileDescriptor& file) {
    const auto unnamed = fmt::format("/proc/self/fd/{}", file.number());
    while (::linkat(AT_FDCWD, unnamed.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0) {
      if (errno == EINTR) continue;
      if (errno != EEXIST) return failed("name the segment", path_, errno);
      remove_if_stale(path_);
      if (Clock::now() >= deadline_) {
        return Status::resource(fmt::format(
            "shm: rank 0 waited {:.1f} s for {} to go away: another job with the id {:x} is "
            "starting, or the file is not ours (then remove it)",
            elapsed(), path_, options_.job));
      }
      std::this_thread::sleep_for(kPollEvery);
    }
    return {};
  }

  Status gather(const ShmSegment& segment) {
    for (auto check_at = start_;;) {
      const auto missing = absent(segment);
      if (missing.empty()) return {};
      const auto now = Clock::now();
      if (now >= check_at) {
        check_at = now + kCheckAliveEvery;
        DIST_TRY(all_alive(segment));
      }
      if (now >= deadline_) return nobody_came(missing);
      std::this_thread::sleep_for(kPollEvery);
    }
  }

  Result<std::shared_ptr<ShmSegment>> find() {
    while (Clock::now() < deadline_) {
      const FileDescriptor file(::open(path_.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
      if (!file.valid() && errno != ENOENT && errno != EINTR) return failed("open", path_, errno);
      if (file.valid()) {
        const auto identity = read_identity(file);
        if (!identity) return not_ours("is no segment of libdist");
        if (is_alive(identity->creator)) {
          DIST_TRY(check(*identity, file));
          auto mapped = map(file);
          if (!mapped.ok() || (*mapped)->header().state.load() == SegmentState::gathering) {
            return mapped;
          }
        } else {
          remove_if_stale(path_);
        }
      }
      std::this_thread::sleep_for(kPollEvery);
    }
    return Status::timed_out(
        fmt::format("shm: rank {} waited {:.1f} s for rank 0 to make {}: was rank 0 started on "
                    "this host with the same job id?",
                    options_.rank, elapsed(), path_));
  }

  Status check(const SegmentIdentity& identity, const FileDescriptor& file) const {
    struct stat information {};
    if (::fstat(file.number(), &information) != 0) return failed("examine", path_, errno);
    if (information.st_uid != ::geteuid() || (information.st_mode & 0077) != 0) {
      return not_ours("is open to other users");
    }
    if (identity.version != kSegmentVersion) {
      return not_ours(fmt::format("has layout version {}, this build has {}", identity.version,
                                  kSegmentVersion));
    }
    if (identity.job != options_.job || identity.ranks != options_.ranks) {
      return not_ours(
          fmt::format("is of job {:x} with {} ranks, this is rank {} of job {:x} with "
                      "{} ranks",
                      identity.job, identity.ranks, options_.rank, options_.job, options_.ranks));
    }
    const auto expected_bytes = SegmentLayout(options_.ranks).segment_bytes();
    if (identity.segment_bytes != expected_bytes ||
        static_cast<std::uint64_t>(information.st_size) < expected_bytes) {
      return not_ours(
          fmt::format("has {} bytes instead of {}", identity.segment_bytes, expected_bytes));
    }
    if (identity.creator.pid_namespace != this_process().pid_namespace) {
      return not_ours(
          "was made in another container (pid namespace), whose ranks this one could "
          "not see die; choose the transport tcp");
    }
    return {};
  }

  Result<std::shared_ptr<ShmSegment>> map(const FileDescriptor& file) const {
    const SegmentLayout layout(options_.ranks);
    void* base = ::mmap(nullptr, layout.segment_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED,
                        file.number(), 0);
    if (base == MAP_FAILED) return failed("map", path_, errno);
    return own_mapping(base, layout);
  }

  Status await_ready(const ShmSegment& segment) {
    for (auto check_at = start_;;) {
      const auto state = segment.header().state.load();
      if (state == SegmentState::ready) return {};
      if (state == SegmentState::failed) {
        DIST_TRY(all_alive(segment));
        auto missing = absent(segment);
        std::erase(missing, 0);  // it has left already
        return Status::timed_out(
            fmt::format("shm: rank 0 gave up waiting for {}", rank_list(missing)));
      }
      const auto now = Clock::now();
      if (now >= check_at) {
        check_at = now + kCheckAliveEvery;
        if (auto alive = all_alive(segment); !alive.ok()) {
          remove_if_stale(path_);
          return alive;
        }
      }
      if (now >= deadline_) return nobody_came(absent(segment));
      std::this_thread::sleep_for(kPollEvery);
    }
  }

  std::vector<Rank> absent(const ShmSegment& segment) const {
    std::vector<Rank> missing;
    for (Rank rank = 0; rank < options_.ranks; ++rank) {
      if (segment.slot(rank).attachment.load() != Attachment::attached) missing.push_back(rank);
    }
    return missing;
  }

  Status all_alive(const ShmSegment& segment) const {
    for (Rank rank = 0; rank < options_.ranks; ++rank) {
      const RankSlot& slot = segment.slot(rank);
      if (slot.attachment.load() == Attachment::attached && !is_alive(slot.process)) {
        return Status::peer_lost(
            fmt::format("shm: rank {} (pid {}) died while rank {} waited for "
                        "all ranks to come",
                        rank, slot.process.pid, options_.rank));
      }
    }
    return {};
  }

  Status nobody_came(const std::vector<Rank>& missing) const {
    return Status::timed_out(
        fmt::format("shm: rank {} waited {:.1f} s for {} of {} to attach to {}", options_.rank,
                    elapsed(), rank_list(missing), options_.ranks, path_));
  }

  static std::string rank_list(const std::vector<Rank>& ranks) {
    return fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(ranks, ", "));
  }

  Status not_ours(std::string_view what) const {
    return Status::invalid_argument(fmt::format("shm: {} {}", path_, what));
  }

  double elapsed() const { return seconds(Clock::now() - start_); }

  const Options& options_;
  std::string path_;
  TimePoint start_;
  TimePoint deadline_;
};

}  // namespace

std::string segment_path(std::uint64_t job) {
  return fmt::format("{}/{}{:x}", kDirectory, name_prefix(), job);
}

Result<std::shared_ptr<ShmSegment>> meet_in_segment(const Options& options) {
  DIST_ASSERT(options.ranks >= 2 && options.rank >= 0 && options.rank < options.ranks,
              "a meeting needs two ranks and a place among them");
  Meeting meeting(options);
  return options.rank == 0 ? meeting.host() : meeting.join();
}

}  // namespace dist
