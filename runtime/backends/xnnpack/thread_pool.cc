// ThreadPool on pthreadpool.
#include <pthreadpool.h>

#include "backends/xnnpack/dense.h"
#include "base/platform.h"

namespace headroom::xnnpack {

Result<std::unique_ptr<ThreadPool>> ThreadPool::Create(uint32_t threads) {
  if (threads == 0 || threads > 1024) {
    return Status::Make(StatusCode::kInvalidArgument, "threads %u is not in [1, 1024]", threads);
  }
  std::unique_ptr<ThreadPool> pool(new ThreadPool(threads));
  HR_RETURN_IF_ERROR(pool->reserved_.Make(threads - 1));
  // A pool of one would still take its lock and write its barrier on every call.
  if (threads == 1) return pool;
  pool->reserved_.Offer(true);
  pool->pool_ = pthreadpool_create(threads);
  pool->reserved_.Offer(false);
  if (pool->pool_ == nullptr) {
    return Status::Make(StatusCode::kOutOfMemory, "no memory for a pool of %u threads", threads);
  }
  return pool;
}

ThreadPool::~ThreadPool() { pthreadpool_destroy(pool_); }  // joins its threads; null is allowed

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

void ThreadPool::ParallelForFlushed(uint32_t count, uint64_t operations,
                                    void (*task)(void* context, size_t worker, size_t index),
                                    void* context) {
  pthreadpool_parallelize_1d_with_thread(HandleFor(operations), task, context, count,
                                         PTHREADPOOL_FLAG_DISABLE_DENORMALS);
}

void ThreadPool::Rest() {
  if (pool_ == nullptr) return;
  // The flag takes effect when the command that carries it ends, so an empty command is needed; a
  // range of 1 would run on the caller alone and never reach the workers.
  pthreadpool_parallelize_1d(
      pool_, [](void*, size_t) {}, nullptr, threads_, PTHREADPOOL_FLAG_YIELD_WORKERS);
}

}  // namespace headroom::xnnpack
