// Pages, mappings and files on Linux and Android.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "base/platform.h"

namespace headroom::platform {
namespace {

Status ErrnoStatus(StatusCode code, const char* what, const char* path) {
  return Status::Make(code, "%s %s: %s", what, path, std::strerror(errno));
}

// posix_fallocate, and where the C library or the file system has none, zeros written out. False
// with errno set.
bool ReserveBlocks(int fd, uint64_t bytes) {
  errno = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (errno == 0) return true;
  if (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS) return false;
  static constexpr char kZeros[64 * 1024] = {};
  for (uint64_t offset = 0; offset < bytes;) {
    const ssize_t written = pwrite(fd, kZeros, std::min<uint64_t>(sizeof(kZeros), bytes - offset),
                                   static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    offset += static_cast<uint64_t>(written);
  }
  return true;
}

// A new file beside `path`, with the rights that the process gives to new files, which mkostemp
// does not ask for. -1 with errno set.
int CreateBeside(std::string& path) {
  const std::string stem = path + "." + std::to_string(getpid()) + ".";
  for (int attempt = 0; attempt < 1000; ++attempt) {
    path = stem + std::to_string(attempt);
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

}  // namespace

uint64_t PageBytes() {
  static const uint64_t bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

Result<void*> AllocatePages(uint64_t bytes) {
  void* pages = mmap(nullptr, RoundUp(bytes, PageBytes()), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    return Status::Make(StatusCode::kOutOfMemory, "the system refused %llu bytes: %s",
                        static_cast<unsigned long long>(bytes), std::strerror(errno));
  }
  return pages;
}

void FreePages(void* pages, uint64_t bytes) { munmap(pages, RoundUp(bytes, PageBytes())); }

void DiscardPages(void* pages, uint64_t bytes) { Advise(pages, bytes, Advice::kRelease); }

uint64_t TouchedBytes(const void* pages, uint64_t bytes) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(pages) / PageBytes() * PageBytes();
  const uintptr_t end = RoundUp(reinterpret_cast<uintptr_t>(pages) + bytes, PageBytes());
  uint64_t touched = 0;
  for (uintptr_t at = begin; at < end;) {
    unsigned char present[1024];
    const uint64_t count = std::min<uint64_t>((end - at) / PageBytes(), sizeof(present));
    if (mincore(reinterpret_cast<void*>(at), count * PageBytes(), present) != 0) return 0;
    touched += static_cast<uint64_t>(
        std::count_if(present, present + count, [](unsigned char p) { return (p & 1) != 0; }));
    at += count * PageBytes();
  }
  return touched * PageBytes();
}

void Advise(const void* address, uint64_t bytes, Advice advice) {
  // Only whole pages inside the range: a neighbour on the same page keeps its data in reach.
  const uintptr_t begin = RoundUp(reinterpret_cast<uintptr_t>(address), PageBytes());
  const uintptr_t end = (reinterpret_cast<uintptr_t>(address) + bytes) / PageBytes() * PageBytes();
  if (begin >= end) return;
  madvise(reinterpret_cast<void*>(begin), end - begin,
          advice == Advice::kRelease ? MADV_DONTNEED : MADV_WILLNEED);
}

FileMapping& FileMapping::operator=(FileMapping&& other) noexcept {
  if (this == &other) return *this;
  if (base_ != nullptr) munmap(base_, mapped_bytes_);
  base_ = std::exchange(other.base_, nullptr);
  mapped_bytes_ = std::exchange(other.mapped_bytes_, 0);
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

FileMapping::~FileMapping() {
  if (base_ != nullptr) munmap(base_, mapped_bytes_);
}

Result<FileMapping> FileMapping::OpenPath(const char* path) {
  // Not blocking, or a FIFO nobody writes to would keep us here before we can refuse it.
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return ErrnoStatus(errno == ENOENT ? StatusCode::kNotFound : StatusCode::kIo, "open", path);
  Result<FileMapping> mapping = OpenFd(fd, 0, 0);
  close(fd);
  if (!mapping.ok()) {
    return Status::Make(mapping.status().code(), "%s: %s", path, mapping.status().message());
  }
  return mapping;
}

Result<FileMapping> FileMapping::OpenFd(int fd, uint64_t offset, uint64_t length) {
  struct stat facts;
  if (fstat(fd, &facts) != 0) return ErrnoStatus(StatusCode::kIo, "stat", "of descriptor");
  // Anything else can change size or block under a mapping.
  if (!S_ISREG(facts.st_mode)) return Status::Make(StatusCode::kIo, "not a regular file");
  const uint64_t file_bytes = static_cast<uint64_t>(facts.st_size);
  if (file_bytes == 0) return Status::Make(StatusCode::kCorrupt, "the file is empty");
  uint64_t end = 0;
  if (length == 0 && offset < file_bytes) length = file_bytes - offset;
  if (length == 0 || !CheckedAdd(offset, length, &end) || end > file_bytes) {
    return Status::Make(
        StatusCode::kInvalidArgument, "window %llu + %llu leaves the file of %llu bytes",
        static_cast<unsigned long long>(offset), static_cast<unsigned long long>(length),
        static_cast<unsigned long long>(file_bytes));
  }
  const uint64_t map_begin = offset / PageBytes() * PageBytes();
  FileMapping mapping;
  mapping.mapped_bytes_ = end - map_begin;
  void* base = mmap(nullptr, mapping.mapped_bytes_, PROT_READ, MAP_PRIVATE, fd,
                    static_cast<off_t>(map_begin));
  if (base == MAP_FAILED) return ErrnoStatus(StatusCode::kIo, "map", "of descriptor");
  mapping.base_ = base;
  mapping.data_ = static_cast<const std::byte*>(base) + (offset - map_begin);
  mapping.bytes_ = length;
  return mapping;
}

FileBuilder& FileBuilder::operator=(FileBuilder&& other) noexcept {
  if (this == &other) return *this;
  Discard();
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  fd_ = std::exchange(other.fd_, -1);
  flushing_ = other.flushing_;
  flushing_bytes_ = other.flushing_bytes_;
  final_path_ = std::move(other.final_path_);
  temporary_path_ = std::move(other.temporary_path_);
  other.temporary_path_.clear();
  return *this;
}

FileBuilder::~FileBuilder() { Discard(); }

void FileBuilder::Discard() {
  if (data_ != nullptr) munmap(data_, bytes_);
  if (fd_ >= 0) close(fd_);
  if (!temporary_path_.empty()) unlink(temporary_path_.c_str());
  data_ = nullptr;
  fd_ = -1;
  temporary_path_.clear();
}

Result<FileBuilder> FileBuilder::Create(const char* final_path, uint64_t bytes) {
  // Committing renames over the path, and would replace a device or a FIFO by a file.
  struct stat facts;
  if (stat(final_path, &facts) == 0 && !S_ISREG(facts.st_mode)) {
    return Status::Make(StatusCode::kIo, "%s is not a regular file", final_path);
  }
  FileBuilder builder;
  builder.final_path_ = final_path;
  std::string temporary = builder.final_path_;
  builder.fd_ = CreateBeside(temporary);
  if (builder.fd_ < 0) return ErrnoStatus(StatusCode::kIo, "create", final_path);
  builder.temporary_path_ = temporary;
  builder.bytes_ = bytes;
  // Reserve the blocks now: a full disk must be an error here, not a SIGBUS in a store later.
  if (!ReserveBlocks(builder.fd_, bytes)) {
    return ErrnoStatus(StatusCode::kIo, "reserve space for", final_path);
  }
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, builder.fd_, 0);
  if (base == MAP_FAILED) return ErrnoStatus(StatusCode::kIo, "map", final_path);
  builder.data_ = static_cast<std::byte*>(base);
  return builder;
}

Status FileBuilder::Flush(uint64_t offset, uint64_t bytes) {
  // The disk writes one range while the next one is made; only the one before is waited for.
  const auto start = static_cast<off64_t>(offset / PageBytes() * PageBytes());
  const auto count = static_cast<off64_t>(bytes + offset % PageBytes());
  Advise(data_ + offset, bytes, Advice::kRelease);
  constexpr unsigned kWait =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  const bool waited =
      flushing_bytes_ == 0 || sync_file_range(fd_, flushing_, flushing_bytes_, kWait) == 0;
  if (!waited || sync_file_range(fd_, start, count, SYNC_FILE_RANGE_WRITE) != 0) {
    return ErrnoStatus(StatusCode::kIo, "write back", final_path_.c_str());
  }
  flushing_ = start;
  flushing_bytes_ = count;
  return {};
}

Status FileBuilder::Commit() {
  if (msync(data_, bytes_, MS_SYNC) != 0 || fsync(fd_) != 0) {
    return ErrnoStatus(StatusCode::kIo, "write back", final_path_.c_str());
  }
  if (rename(temporary_path_.c_str(), final_path_.c_str()) != 0) {
    return ErrnoStatus(StatusCode::kIo, "rename to", final_path_.c_str());
  }
  temporary_path_.clear();
  Discard();
  return {};
}

Status MakeDirectories(const char* path) {
  std::string prefix;
  for (const char* c = path;; ++c) {
    if ((*c == '/' || *c == '\0') && !prefix.empty() && prefix != "/") {
      if (mkdir(prefix.c_str(), 0755) != 0 && errno != EEXIST) {
        return ErrnoStatus(StatusCode::kIo, "make directory", prefix.c_str());
      }
    }
    if (*c == '\0') return {};
    prefix.push_back(*c);
  }
}

Status RemoveFile(const char* path) {
  if (unlink(path) == 0) return {};
  return ErrnoStatus(errno == ENOENT ? StatusCode::kNotFound : StatusCode::kIo, "remove", path);
}

}  // namespace headroom::platform
