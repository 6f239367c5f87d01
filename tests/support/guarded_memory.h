// Memory that ends where a forbidden page begins, so that reading or writing past it is a crash and
// not luck.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>

namespace headroom::test {

// `bytes` bytes ending at the forbidden page, as far as `alignment` of the start allows. Zeroed.
class GuardedMemory {
 public:
  explicit GuardedMemory(size_t bytes = 0, size_t alignment = 1) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t padded = (bytes + alignment - 1) / alignment * alignment;
    const size_t body = (padded + page - 1) / page * page;
    mapped_bytes_ = body + page;
    void* base =
        mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::runtime_error("mmap");
    base_ = static_cast<std::byte*>(base);
    mprotect(base_ + body, page, PROT_NONE);
    data_ = base_ + body - padded;
    bytes_ = bytes;
  }
  GuardedMemory(GuardedMemory&& other) noexcept { *this = std::move(other); }
  GuardedMemory& operator=(GuardedMemory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    return *this;
  }
  ~GuardedMemory() {
    if (base_ != nullptr) munmap(base_, mapped_bytes_);
  }

  // From now on any access at all is a crash.
  void Forbid() { mprotect(base_, mapped_bytes_, PROT_NONE); }

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* base_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  size_t mapped_bytes_ = 0;
};

}  // namespace headroom::test
