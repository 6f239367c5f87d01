#include "base/arena.h"

#include <cstdlib>
#include <cstring>

#include <catch2/catch_test_macros.hpp>

namespace headroom {
namespace {

struct CountingLender {
  size_t lent = 0, returned = 0;
  bool refuse = false;
  AllocatorHooks hooks() {
    AllocatorHooks hooks;
    hooks.user_data = this;
    hooks.allocate = [](void* self, size_t bytes, size_t alignment) -> void* {
      auto& lender = *static_cast<CountingLender*>(self);
      if (lender.refuse) return nullptr;
      lender.lent += bytes;
      void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
      std::memset(memory, 0xa5, bytes);
      return memory;
    };
    hooks.release = [](void* self, void* memory, size_t bytes) {
      static_cast<CountingLender*>(self)->returned += bytes;
      std::free(memory);
    };
    return hooks;
  }
};

TEST_CASE("an arena lends aligned zeroed pieces and never more than its plan", "[base][arena]") {
  auto arena = Arena::Create(1000, {}).Take();
  const auto first = arena.Take(100).Take();
  const auto second = arena.Take(300).Take();
  CHECK(reinterpret_cast<uintptr_t>(second.data()) % Arena::kAlignment == 0);
  CHECK(second.data() - first.data() == 128);
  for (std::byte b : second) REQUIRE(b == std::byte{0});
  CHECK(arena.peak_bytes() == 428);
  const auto refused = arena.Take(553);  // 448 + 553 = 1001
  CHECK(refused.status().code() == StatusCode::kInternal);
  CHECK(arena.used_bytes() == 428);
  CHECK(arena.Take(552).ok());
  CHECK_FALSE(arena.Take(~uint64_t{0}).ok());
}

TEST_CASE("an arena takes from the app's lender and returns the same bytes", "[base][arena]") {
  CountingLender lender;
  {
    auto arena = Arena::Create(4096, lender.hooks()).Take();
    const auto piece = arena.Take(4096).Take();
    for (std::byte b : piece) REQUIRE(b == std::byte{0});  // the lender's memory was dirty
    Arena moved = std::move(arena);
    CHECK(lender.returned == 0);
  }
  CHECK(lender.lent == 4096);
  CHECK(lender.returned == 4096);
  lender.refuse = true;
  CHECK(Arena::Create(4096, lender.hooks()).status().code() == StatusCode::kOutOfMemory);
}

TEST_CASE("shrinking an arena keeps what stays and forgets the rest", "[base][arena]") {
  auto arena = Arena::Create(1 << 20, {}).Take();
  const auto piece = arena.Take(1 << 20).Take();
  std::memset(piece.data(), 0x5a, piece.size());
  arena.ShrinkTo(4096);
  CHECK(arena.capacity_bytes() == 4096);
  CHECK(piece[4095] == std::byte{0x5a});
  CHECK(piece[(1 << 20) - 1] == std::byte{0});  // given back: reads as fresh pages
}

}  // namespace
}  // namespace headroom
