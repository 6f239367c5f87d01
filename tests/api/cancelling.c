/* Stopping work from another thread, and many threads on one model. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "walk.h"

enum { kThreads = 3 };

typedef struct canceller {
  hr_session* session;
  volatile int stop;
} canceller;

static void* cancel_until_stopped(void* argument) {
  canceller* self = (canceller*)argument;
  const struct timespec pause = {0, 200000};
  while (!__atomic_load_n(&self->stop, __ATOMIC_ACQUIRE)) {
    hr_session_cancel(self->session);
    nanosleep(&pause, NULL);
  }
  return NULL;
}

/* Cancelled prefills keep whole chunks; afterwards the session works as if nothing had been. */
static void cancel_from_a_thread(hr_model* model) {
  enum { kContext = 2048 };
  static int32_t tokens[kContext];
  const int32_t* kept = NULL;
  size_t count = 0;
  hr_session_options options;
  canceller other;
  pthread_t thread;
  hr_error error;
  hr_status status;
  uint32_t position;
  int cancelled = 0, attempt;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.context_tokens = kContext;
  options.chunk_tokens = 16;
  options.threads = 1;
  memset(&other, 0, sizeof(other));
  NEED(hr_session_create(model, &options, &other.session, &error));
  walk_tokens(tokens, kContext);
  hr_session_cancel(NULL);
  hr_session_cancel(other.session); /* nothing runs: no effect */
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(other.session, tokens[0], &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_rewind(other.session, 0, &error));

  EXPECT(pthread_create(&thread, NULL, cancel_until_stopped, &other) == 0);
  for (attempt = 0; attempt < 20 && cancelled == 0; ++attempt) {
    status = hr_session_prefill(other.session, tokens, kContext, &error);
    EXPECT(status == HR_OK || status == HR_CANCELLED);
    cancelled += status == HR_CANCELLED;
    position = hr_session_position(other.session);
    EXPECT(status == HR_OK ? position == kContext : position % 16 == 0 && position < kContext);
    EXPECT_STATUS(HR_OK, &error, hr_session_tokens(other.session, &kept, &count, &error));
    EXPECT(count == position && memcmp(kept, tokens, count * sizeof(int32_t)) == 0);
    if (cancelled == 0) {
      EXPECT_STATUS(HR_OK, &error, hr_session_rewind(other.session, 0, &error));
    }
  }
  __atomic_store_n(&other.stop, 1, __ATOMIC_RELEASE);
  pthread_join(thread, NULL);
  EXPECT(cancelled > 0);

  position = hr_session_position(other.session);
  status = hr_session_prefill(other.session, tokens + position, 64, &error);
  EXPECT(status == HR_OK); /* an old request does not reach new work */
  {
    hr_session* straight = NULL;
    EXPECT_STATUS(HR_OK, &error, hr_session_create(model, &options, &straight, &error));
    if (straight != NULL) {
      EXPECT_STATUS(HR_OK, &error, hr_session_prefill(straight, tokens, position + 64, &error));
      EXPECT(walk_compare_logits(straight, other.session) == 0);
      hr_session_release(straight);
    }
  }
  hr_session_release(other.session);
}

typedef struct worker {
  hr_model* model;
  hr_status status;
  float first_logit;
} worker;

static void* work_alone(void* argument) {
  worker* self = (worker*)argument;
  int32_t tokens[20];
  const float* logits = NULL;
  size_t count = 0;
  hr_session_options options;
  hr_session* session = NULL;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.context_tokens = 32;
  options.threads = 1;
  walk_tokens(tokens, 20);
  self->status = hr_session_create(self->model, &options, &session, NULL);
  if (self->status == HR_OK) self->status = hr_session_prefill(session, tokens, 20, NULL);
  if (self->status == HR_OK) self->status = hr_session_logits(session, &logits, &count, NULL);
  if (self->status == HR_OK) self->first_logit = logits[0];
  hr_session_release(session);
  return NULL;
}

static void sessions_side_by_side(hr_model* model) {
  worker workers[kThreads];
  pthread_t threads[kThreads];
  int i;
  memset(workers, 0, sizeof(workers));
  for (i = 0; i < kThreads; ++i) {
    workers[i].model = model;
    EXPECT(pthread_create(&threads[i], NULL, work_alone, &workers[i]) == 0);
  }
  for (i = 0; i < kThreads; ++i) {
    pthread_join(threads[i], NULL);
    EXPECT(workers[i].status == HR_OK);
    EXPECT(workers[i].first_logit == workers[0].first_logit);
  }
}

void walk_cancelling(const walk_input* input) {
  hr_model* model = walk_open(input->text_path, input->scratch_dir);
  if (model == NULL) return;
  cancel_from_a_thread(model);
  sessions_side_by_side(model);
  hr_model_release(model);
}
