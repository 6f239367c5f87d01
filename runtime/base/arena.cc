#include "base/arena.h"

#include <cassert>
#include <cstring>
#include <utility>

#include "base/math.h"
#include "base/platform.h"

namespace headroom {

Arena& Arena::operator=(Arena&& other) noexcept {
  if (this == &other) return *this;
  Free();
  data_ = std::exchange(other.data_, nullptr);
  capacity_ = std::exchange(other.capacity_, 0);
  allocated_ = std::exchange(other.allocated_, 0);
  used_ = std::exchange(other.used_, 0);
  peak_ = std::exchange(other.peak_, 0);
  hooks_ = other.hooks_;
  return *this;
}

Arena::~Arena() { Free(); }

void Arena::Free() {
  if (data_ == nullptr) return;
  if (hooks_.release != nullptr) {
    hooks_.release(hooks_.user_data, data_, allocated_);
  } else {
    platform::FreePages(data_, allocated_);
  }
  data_ = nullptr;
}

Result<Arena> Arena::Create(uint64_t capacity_bytes, const AllocatorHooks& hooks) {
  Arena arena;
  arena.hooks_ = hooks;
  arena.capacity_ = capacity_bytes;
  if (capacity_bytes == 0) return arena;
  if (hooks.allocate != nullptr) {
    void* memory = hooks.allocate(hooks.user_data, capacity_bytes, kAlignment);
    if (memory == nullptr) {
      return Status::Make(StatusCode::kOutOfMemory, "the app's allocator refused %llu bytes",
                          static_cast<unsigned long long>(capacity_bytes));
    }
    std::memset(memory, 0, capacity_bytes);
    arena.data_ = static_cast<std::byte*>(memory);
    arena.allocated_ = capacity_bytes;
    return arena;
  }
  arena.allocated_ = RoundUp(capacity_bytes, platform::PageBytes());
  HR_ASSIGN_OR_RETURN(void* pages, platform::AllocatePages(arena.allocated_));
  arena.data_ = static_cast<std::byte*>(pages);
  return arena;
}

Result<std::span<std::byte>> Arena::Take(uint64_t bytes) {
  const uint64_t begin = RoundUp(used_, kAlignment);
  uint64_t end = 0;
  if (!CheckedAdd(begin, bytes, &end) || end > capacity_) {
    return Status::Make(StatusCode::kInternal, "arena: %llu bytes asked, %llu of %llu used",
                        static_cast<unsigned long long>(bytes),
                        static_cast<unsigned long long>(used_),
                        static_cast<unsigned long long>(capacity_));
  }
  used_ = end;
  if (used_ > peak_) peak_ = used_;
  return std::span<std::byte>(data_ + begin, bytes);
}

void Arena::ShrinkTo(uint64_t bytes) {
  assert(hooks_.release == nullptr);
  if (bytes >= capacity_) return;
  capacity_ = bytes;
  if (used_ > bytes) used_ = bytes;
  const uint64_t keep = RoundUp(bytes, platform::PageBytes());
  if (keep < allocated_) platform::DiscardPages(data_ + keep, allocated_ - keep);
}

}  // namespace headroom
