// What the runtime needs from an operating system. Implemented once per port (ports/<name>/); OS
// #ifdefs live there and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace headroom::platform {

// Sizes are 64 bits everywhere and cross to the system as size_t.
static_assert(sizeof(size_t) == 8, "32-bit systems are not supported");

// Monotonic clock, nanoseconds since an arbitrary start.
uint64_t NowNs();

// Granularity of mappings, bytes; a power of two.
uint64_t PageBytes();

// Cores worth running dense algebra on: the fast cluster of a big.LITTLE chip, or the physical
// cores available to this process; at least 1. Never counts cores that affinity or a cgroup denies.
uint32_t FastCoreCount();

// Threads that exist before there is work for them, with small stacks. pthreadpool does not notice
// that the system refused it a thread; given only threads that exist, it cannot be refused.
class ReservedThreads {
 public:
  ReservedThreads();
  // Those not given away end; those given away must have ended (their taker has joined them).
  ~ReservedThreads();
  ReservedThreads(const ReservedThreads&) = delete;
  ReservedThreads& operator=(const ReservedThreads&) = delete;

  // kOutOfMemory: which one of how many, and why.
  Status Make(uint32_t count);
  // While on, pthreadpool takes its threads from here when called from the calling thread.
  void Offer(bool on);
  // The next thread runs start(argument). False when none is left.
  bool Give(void* (*start)(void*), void* argument, unsigned long* id);

 private:
  struct Thread;
  std::vector<std::unique_ptr<Thread>> threads_;
  size_t given_ = 0;
};

// Anonymous zeroed memory, page-aligned, a region of its own so that giving it back really returns
// it to the system. `bytes` is rounded up to pages.
Result<void*> AllocatePages(uint64_t bytes);
void FreePages(void* pages, uint64_t bytes);
// Returns the physical pages wholly inside [pages, pages+bytes) to the system; contents become
// zero.
void DiscardPages(void* pages, uint64_t bytes);

// How much of [pages, pages + bytes) is in physical memory. 0 where the system does not tell.
uint64_t TouchedBytes(const void* pages, uint64_t bytes);

// Hints about the pages wholly inside a range of a file mapping.
enum class Advice { kWillNeed, kRelease };
void Advise(const void* address, uint64_t bytes, Advice advice);

// A file, or a window of one, mapped. Move-only; unmaps when destroyed.
class FileMapping {
 public:
  FileMapping() = default;
  FileMapping(FileMapping&& other) noexcept { *this = static_cast<FileMapping&&>(other); }
  FileMapping& operator=(FileMapping&& other) noexcept;
  ~FileMapping();

  // Read-only, private. Errors: kNotFound, kIo (not a regular file, empty, cannot be mapped).
  static Result<FileMapping> OpenPath(const char* path);
  // Maps [offset, offset + length) of `fd`, which is borrowed for the call only; `offset` needs no
  // alignment; length 0 means to the end. kInvalidArgument when the window leaves the file.
  static Result<FileMapping> OpenFd(int fd, uint64_t offset, uint64_t length);

  const std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  void* base_ = nullptr;  // what was mapped: page-aligned
  uint64_t mapped_bytes_ = 0;
  const std::byte* data_ = nullptr;  // what was asked for
  uint64_t bytes_ = 0;
};

// A file being made: written through a shared mapping under a temporary name, given its real name
// only by Commit, so a reader never sees a half-written file. Dropped without Commit, it
// disappears.
class FileBuilder {
 public:
  FileBuilder() = default;
  FileBuilder(FileBuilder&& other) noexcept { *this = static_cast<FileBuilder&&>(other); }
  FileBuilder& operator=(FileBuilder&& other) noexcept;
  ~FileBuilder();

  static Result<FileBuilder> Create(const char* final_path, uint64_t bytes);

  std::byte* data() { return data_; }
  uint64_t bytes() const { return bytes_; }
  // Drops the pages of [offset, offset+bytes), so that a long build stays small, and begins to
  // write them back once those of the call before are on the disk.
  Status Flush(uint64_t offset, uint64_t bytes);
  // Writes everything back, renames to the final path, unmaps.
  Status Commit();

 private:
  void Discard();
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  int fd_ = -1;
  int64_t flushing_ = 0, flushing_bytes_ = 0;
  std::string final_path_;
  std::string temporary_path_;
};

// Whole-file helpers for small or streamed files. Errors: kNotFound, kIo.
Status MakeDirectories(const char* path);
Status RemoveFile(const char* path);

// The kernel's own accounting of this process, bytes. Zero where the system does not tell.
struct ProcessMemory {
  uint64_t resident_bytes = 0;
  uint64_t private_dirty_bytes = 0;  // cannot be taken back by the system
  uint64_t peak_resident_bytes = 0;
};
ProcessMemory ReadProcessMemory();

// One line naming the processor, for reports ("AMD EPYC 9B45, 2 cores").
std::string DeviceDescription();

}  // namespace headroom::platform
