// The only owner of large memory in the runtime: one region per lender, sized by the plan,
// bump-allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"

namespace headroom {

// The app's allocation hooks; both null means pages straight from the system.
struct AllocatorHooks {
  void* (*allocate)(void* user_data, size_t bytes, size_t alignment) = nullptr;
  void (*release)(void* user_data, void* memory, size_t bytes) = nullptr;
  void* user_data = nullptr;
};

// A region of exactly `capacity` bytes from which pieces are taken in order and never returned
// singly. Not thread-safe. Move-only.
class Arena {
 public:
  static constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

  Arena() = default;
  Arena(Arena&& other) noexcept { *this = static_cast<Arena&&>(other); }
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  // kOutOfMemory when the lender refuses. Memory is zeroed.
  static Result<Arena> Create(uint64_t capacity_bytes, const AllocatorHooks& hooks);

  // Next `bytes`, aligned to kAlignment. kInternal when the plan was too small: that is our bug,
  // and the arena never grows past its plan to hide it.
  Result<std::span<std::byte>> Take(uint64_t bytes);

  // Gives the physical pages past `bytes` back to the system; used by trim. Not for memory of the
  // app's lender, which takes a region back only whole.
  void ShrinkTo(uint64_t bytes);

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  uint64_t capacity_bytes() const { return capacity_; }
  uint64_t used_bytes() const { return used_; }
  uint64_t peak_bytes() const { return peak_; }

 private:
  void Free();
  std::byte* data_ = nullptr;
  uint64_t capacity_ = 0;
  uint64_t allocated_ = 0;
  uint64_t used_ = 0;
  uint64_t peak_ = 0;
  AllocatorHooks hooks_;
};

}  // namespace headroom
