// The threads that share a conversion's work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/platform.h"
#include "base/status.h"

struct pthreadpool;

namespace headroom::convert {

class Workers {
 public:
  // 0: one for each fast core. kOutOfMemory when they cannot be started.
  static Result<std::unique_ptr<Workers>> Start(uint32_t threads);
  ~Workers();

  // Calls task(0) .. task(count - 1), on all threads and in no order; returns the failure with the
  // smallest index, which is the same whatever the number of threads.
  Status Run(size_t count, const std::function<Status(size_t)>& task) const;

 private:
  Workers() = default;

  platform::ReservedThreads reserved_;  // the pool's, which joins them
  pthreadpool* pool_ = nullptr;
};

}  // namespace headroom::convert
