// ThreadPool on pthreadpool.
#include <pthreadpool.h>

#include "backends/xnnpack/dense.h"

namespace headroom::xnnpack {

Result<std::unique_ptr<ThreadPool>> ThreadPool::Create(uint32_t threads) {
  if (threads == 0 || threads > 1024) {
    return Status::Make(StatusCode::kInvalidArgument, "threads %u is not in [1, 1024]", threads);
  }
  // A pool of one would still take its lock and write its barrier on every call.
  pthreadpool* pool = threads == 1 ? nullptr : pthreadpool_create(threads);
  if (threads > 1 && pool == nullptr) {
    return Status::Make(StatusCode::kOutOfMemory, "the system refused %u threads", threads);
  }
  return std::unique_ptr<ThreadPool>(new ThreadPool(pool, threads));
}

ThreadPool::~ThreadPool() { pthreadpool_destroy(pool_); }  // null is allowed

void ThreadPool::ParallelFor(uint32_t count, void (*task)(void* context, size_t index),
                             void* context) {
  if (pool_ == nullptr || count <= 1) {
    for (uint32_t i = 0; i < count; ++i) task(context, i);
    return;
  }
  pthreadpool_parallelize_1d(pool_, task, context, count, /*flags=*/0);
}

void ThreadPool::ParallelForWorker(uint32_t count,
                                   void (*task)(void* context, size_t worker, size_t index),
                                   void* context) {
  if (pool_ == nullptr || count <= 1) {
    for (uint32_t i = 0; i < count; ++i) task(context, 0, i);
    return;
  }
  pthreadpool_parallelize_1d_with_thread(pool_, task, context, count, /*flags=*/0);
}

void ThreadPool::Rest() {
  if (pool_ == nullptr) return;
  // The flag takes effect when the command that carries it ends, so an empty command is needed; a
  // range of 1 would run on the caller alone and never reach the workers.
  pthreadpool_parallelize_1d(
      pool_, [](void*, size_t) {}, nullptr, threads_, PTHREADPOOL_FLAG_YIELD_WORKERS);
}

}  // namespace headroom::xnnpack
