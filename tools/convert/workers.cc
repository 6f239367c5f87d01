#include "convert/workers.h"

#include <mutex>

#include <pthreadpool.h>

namespace headroom::convert {
namespace {

struct Round {
  const std::function<Status(size_t)>& task;
  std::mutex mutex;
  size_t failed_at = SIZE_MAX;
  Status failure;
};

void RunOne(void* context, size_t index) {
  Round& round = *static_cast<Round*>(context);
  const Status status = round.task(index);
  if (status.ok()) return;
  const std::lock_guard lock(round.mutex);
  if (index > round.failed_at) return;
  round.failed_at = index;
  round.failure = status;
}

}  // namespace

Workers::~Workers() { pthreadpool_destroy(pool_); }  // null is allowed

Result<std::unique_ptr<Workers>> Workers::Start(uint32_t threads) {
  if (threads == 0) threads = platform::FastCoreCount();
  std::unique_ptr<Workers> workers(new Workers);
  HR_RETURN_IF_ERROR(workers->reserved_.Make(threads - 1));
  workers->reserved_.Offer(true);
  workers->pool_ = pthreadpool_create(threads);
  workers->reserved_.Offer(false);
  if (workers->pool_) return workers;
  return Status::Make(StatusCode::kOutOfMemory, "no memory for a pool of %u threads", threads);
}

Status Workers::Run(size_t count, const std::function<Status(size_t)>& task) const {
  Round round{task, {}, SIZE_MAX, {}};
  // Between two rounds the caller writes to the disk: the others sleep.
  pthreadpool_parallelize_1d(pool_, &RunOne, &round, count, PTHREADPOOL_FLAG_YIELD_WORKERS);
  return round.failure;
}

}  // namespace headroom::convert
