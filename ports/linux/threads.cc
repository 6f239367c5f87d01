// Threads made ahead of their work, on Linux and Android.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include <pthread.h>
#include <unistd.h>

#include "base/math.h"
#include "base/platform.h"

namespace headroom::platform {
namespace {

// Kernels keep their data in arenas; what a worker's stack holds is a few frames. The default of 8
// MiB would count against a hard limit on data.
constexpr uint64_t kStackBytes = 256 * 1024;

size_t StackBytes() {
  const long least = sysconf(_SC_THREAD_STACK_MIN);
  return RoundUp(kStackBytes + static_cast<uint64_t>(std::max(least, 0L)), PageBytes());
}

thread_local ReservedThreads* offered = nullptr;

}  // namespace

// A thread that waits for what to do. Guarded by the mutex.
struct ReservedThreads::Thread {
  pthread_t id;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
  enum { kWaiting, kGiven, kUnwanted } state = kWaiting;
  void* (*start)(void*) = nullptr;
  void* argument = nullptr;

  void Change(decltype(state) to) {
    pthread_mutex_lock(&mutex);
    state = to;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
  }

  static void* Main(void* context) {
    auto& self = *static_cast<Thread*>(context);
    pthread_mutex_lock(&self.mutex);
    while (self.state == kWaiting) pthread_cond_wait(&self.changed, &self.mutex);
    const bool wanted = self.state == kGiven;
    pthread_mutex_unlock(&self.mutex);
    return wanted ? self.start(self.argument) : nullptr;
  }
};

ReservedThreads::ReservedThreads() = default;

Status ReservedThreads::Make(uint32_t count) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, StackBytes());
  int error = 0;
  threads_.reserve(threads_.size() + count);
  for (uint32_t i = 0; i < count && error == 0; ++i) {
    auto thread = std::make_unique<Thread>();
    error = pthread_create(&thread->id, &attributes, Thread::Main, thread.get());
    if (error == 0) threads_.push_back(std::move(thread));
  }
  pthread_attr_destroy(&attributes);
  if (error == 0) return {};
  return Status::Make(StatusCode::kOutOfMemory, "the system refused thread %zu of %u: %s",
                      threads_.size() + 1, count, std::strerror(error));
}

ReservedThreads::~ReservedThreads() {
  for (size_t i = given_; i < threads_.size(); ++i) {
    threads_[i]->Change(Thread::kUnwanted);
    pthread_join(threads_[i]->id, nullptr);
  }
}

void ReservedThreads::Offer(bool on) { offered = on ? this : nullptr; }

bool ReservedThreads::Give(void* (*start)(void*), void* argument, unsigned long* id) {
  if (given_ == threads_.size()) return false;
  Thread& thread = *threads_[given_++];
  *id = thread.id;
  thread.start = start;
  thread.argument = argument;
  thread.Change(Thread::kGiven);
  return true;
}

}  // namespace headroom::platform

// pthreadpool is compiled with this name in place of pthread_create, whose refusal it would not
// notice but wait for ever.
extern "C" int headroom_pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                       void* (*start)(void*), void* argument) {
  using headroom::platform::offered;
  static_assert(sizeof(pthread_t) == sizeof(unsigned long));
  unsigned long id = 0;
  if (offered != nullptr && offered->Give(start, argument, &id)) {
    std::memcpy(thread, &id, sizeof(id));
    return 0;
  }
  return pthread_create(thread, attributes, start, argument);
}
