// An app's allocator for tests, and models opened with it.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <set>
#include <string>

#include "base/math.h"
#include "session/engine.h"

namespace headroom::test {

// Counts, remembers and can refuse.
struct Lender {
  uint64_t calls = 0, live_bytes = 0, peak_bytes = 0;
  uint64_t refuse_at = ~0ull;
  std::set<void*> live;
  AllocatorHooks hooks() {
    AllocatorHooks hooks;
    hooks.user_data = this;
    hooks.allocate = [](void* self, size_t bytes, size_t alignment) -> void* {
      auto& lender = *static_cast<Lender*>(self);
      if (lender.calls++ == lender.refuse_at) return nullptr;
      void* memory = std::aligned_alloc(alignment, RoundUp(bytes, alignment));
      lender.live.insert(memory);
      lender.live_bytes += bytes;
      lender.peak_bytes = std::max(lender.peak_bytes, lender.live_bytes);
      return memory;
    };
    hooks.release = [](void* self, void* memory, size_t bytes) {
      auto& lender = *static_cast<Lender*>(self);
      lender.live.erase(memory);
      lender.live_bytes -= bytes;
      std::free(memory);
    };
    return hooks;
  }
};

inline std::shared_ptr<session::Engine> EngineWith(Lender& lender, const std::string& path,
                                                   const std::string& cache_directory = "") {
  session::EngineOptions options;
  options.cache_directory = cache_directory;
  options.hooks = lender.hooks();
  auto model = model::Model::OpenPath(path.c_str(), {}).Take();
  return session::Engine::Create(std::move(model), options).Take();
}

}  // namespace headroom::test
