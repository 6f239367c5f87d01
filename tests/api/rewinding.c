/* Going back, branching, shrinking. */
#include "walk.h"

enum { kContext = 48, kPrefix = 12, kTail = 8 };

/* Rewinding and reading the same tokens again gives the same bytes. */
static void rewinding_repeats(hr_model* model) {
  int32_t tokens[kContext];
  const float* logits = NULL;
  size_t count = 0;
  hr_error error;
  hr_session* straight = walk_session(model, kContext);
  hr_session* back = walk_session(model, kContext);
  if (straight == NULL || back == NULL) return;
  walk_tokens(tokens, kContext);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(straight, tokens, kPrefix, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(straight, tokens + kPrefix, kTail, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(back, tokens, kPrefix, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(back, 60, &error)); /* a branch not taken */
  EXPECT_STATUS(HR_OK, &error, hr_session_rewind(back, kPrefix, &error));
  EXPECT(hr_session_position(back) == kPrefix);
  EXPECT_STATUS(HR_WRONG_STATE, &error, hr_session_logits(back, &logits, &count, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(back, tokens + kPrefix, kTail, &error));
  EXPECT(walk_compare_logits(straight, back) == 0);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_rewind(back, kPrefix + kTail + 1, &error));
  EXPECT(hr_session_position(back) == kPrefix + kTail);
  EXPECT_STATUS(HR_OK, &error, hr_session_rewind(back, 0, &error));
  EXPECT(hr_session_position(back) == 0);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_rewind(NULL, 0, &error));
  hr_session_release(straight);
  hr_session_release(back);
}

/* A ring that has moved on cannot go back far; it says so and stays usable. */
static void rings_go_back_only_so_far(hr_model* model) {
  int32_t tokens[kContext];
  hr_session_options options;
  hr_plan_layer layer;
  hr_session* straight = NULL;
  hr_session* session = NULL;
  hr_error error;
  memset(&options, 0, sizeof(options));
  memset(&layer, 0, sizeof(layer));
  options.struct_size = sizeof(options);
  options.context_tokens = kContext;
  options.chunk_tokens = 8; /* a ring holds its window and one chunk */
  options.threads = 1;
  layer.struct_size = sizeof(layer);
  NEED(hr_plan_get_layer(model, &options, 0, &layer, &error));
  EXPECT(layer.window_tokens == 8 && layer.capacity_tokens < kContext);
  NEED(hr_session_create(model, &options, &straight, &error));
  NEED(hr_session_create(model, &options, &session, &error));
  walk_tokens(tokens, kContext);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(straight, tokens, kContext - 1, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(session, tokens, kContext - 1, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_session_rewind(session, 1, &error));
  EXPECT(hr_session_position(session) == kContext - 1);
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(straight, 3, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 3, &error));
  EXPECT(walk_compare_logits(straight, session) == 0);
  EXPECT_STATUS(HR_OK, &error, hr_session_rewind(session, 0, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(session, tokens, kContext - 1, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 3, &error));
  EXPECT(walk_compare_logits(straight, session) == 0);
  hr_session_release(straight);
  hr_session_release(session);
}

/* A fork goes its own way; the first session does not notice. */
static void forks_are_independent(hr_model* model) {
  int32_t tokens[kContext];
  const int32_t* kept = NULL;
  size_t count = 0;
  hr_session* fork = NULL;
  hr_session* twin = walk_session(model, kContext);
  hr_session* session = walk_session(model, kContext);
  hr_error error;
  if (session == NULL || twin == NULL) return;
  walk_tokens(tokens, kContext);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(session, tokens, kPrefix, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(twin, tokens, kPrefix, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_fork(session, &fork, &error));
  if (fork == NULL) return;
  EXPECT(hr_session_position(fork) == kPrefix);
  EXPECT_STATUS(HR_OK, &error, hr_session_tokens(fork, &kept, &count, &error));
  EXPECT(count == kPrefix && memcmp(kept, tokens, sizeof(int32_t) * kPrefix) == 0);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(fork, tokens + 20, 10, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 7, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(twin, 7, &error));
  EXPECT(walk_compare_logits(session, twin) == 0);
  EXPECT(walk_compare_logits(session, fork) != 0);
  hr_session_release(session); /* the fork lives on */
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(fork, 2, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_fork(NULL, &fork, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_fork(fork, NULL, &error));
  hr_session_release(fork);
  hr_session_release(twin);
}

/* Trim gives bytes back, keeps every token, and the session goes on. */
static void trimming_keeps_the_tokens(hr_model* model) {
  int32_t tokens[kContext];
  const int32_t* kept = NULL;
  size_t count = 0;
  uint64_t freed = 12345;
  hr_session_options options;
  hr_plan_report before, after;
  hr_session* session = NULL;
  hr_error error;
  memset(&options, 0, sizeof(options));
  memset(&before, 0, sizeof(before));
  memset(&after, 0, sizeof(after));
  options.struct_size = sizeof(options);
  options.context_tokens = 2048;
  options.kv = HR_KV_F32;
  options.threads = 1;
  before.struct_size = after.struct_size = sizeof(before);
  NEED(hr_session_create(model, &options, &session, &error));
  walk_tokens(tokens, kContext);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(session, tokens, kContext, &error));
  EXPECT_STATUS(HR_OK, NULL, hr_session_get_plan(session, &before));
  EXPECT_STATUS(HR_OK, &error, hr_session_trim(session, before.total_bytes, &freed, &error));
  EXPECT(freed == 0); /* it was small enough */
  EXPECT_STATUS(HR_OVER_BUDGET, &error, hr_session_trim(session, 1, &freed, &error));
  EXPECT_STATUS(HR_OK, NULL, hr_session_get_plan(session, &after));
  EXPECT(freed > 0 && after.state_bytes < before.state_bytes);
  EXPECT(after.total_bytes < before.total_bytes);
  EXPECT_STATUS(HR_OK, &error, hr_session_tokens(session, &kept, &count, &error));
  EXPECT(count == kContext && memcmp(kept, tokens, sizeof(tokens)) == 0);
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 9, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_trim(NULL, 1, &freed, &error));
  hr_session_release(session);
}

void walk_rewinding(const walk_input* input) {
  hr_model* text = walk_open(input->text_path, input->scratch_dir);
  hr_model* window = walk_open(input->window_path, input->scratch_dir);
  if (text != NULL) {
    rewinding_repeats(text);
    forks_are_independent(text);
    trimming_keeps_the_tokens(text);
  }
  if (window != NULL) {
    rings_go_back_only_so_far(window);
    forks_are_independent(window);
  }
  hr_model_release(text);
  hr_model_release(window);
}
