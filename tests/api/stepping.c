/* Prefill, decode, logits: the same result by every route, and the wrong order refused. */
#include <math.h>
#include <stdlib.h>

#include "walk.h"

enum { kTokens = 24 };

static void nothing_before_the_first_token(hr_session* session) {
  const float* logits = NULL;
  const int32_t* tokens = NULL;
  size_t count = 7;
  int32_t token = -1;
  hr_generate_options options;
  hr_error error;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.max_tokens = 1;
  EXPECT(hr_session_position(session) == 0);
  EXPECT_STATUS(HR_WRONG_STATE, &error, hr_session_logits(session, &logits, &count, &error));
  EXPECT_STATUS(HR_WRONG_STATE, &error, hr_session_sample(session, NULL, &token, &error));
  EXPECT_STATUS(HR_WRONG_STATE, &error, hr_session_generate(session, &options, NULL, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_tokens(session, &tokens, &count, &error));
  EXPECT(count == 0);
}

/* Failing calls leave the position and the logits as they were. */
static void bad_tokens_change_nothing(hr_session* session, uint32_t vocabulary) {
  int32_t tokens[3] = {1, 2, 3};
  const uint32_t position = hr_session_position(session);
  hr_error error;
  tokens[1] = (int32_t)vocabulary;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_prefill(session, tokens, 3, &error));
  tokens[1] = -1;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_prefill(session, tokens, 3, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_decode(session, -1, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_session_decode(session, (int32_t)vocabulary, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_prefill(session, NULL, 3, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_prefill(NULL, tokens, 1, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_decode(NULL, 1, &error));
  EXPECT(hr_session_position(session) == position);
  EXPECT(hr_session_position(NULL) == 0);
}

/* Logits of all tokens at once, of one prefill, and of single steps: equal up to rounding. */
static void routes_agree(hr_model* model, uint32_t vocabulary) {
  int32_t tokens[kTokens];
  hr_session* whole = walk_session(model, kTokens);
  hr_session* steps = walk_session(model, kTokens);
  hr_session* rows = walk_session(model, kTokens);
  float* all = (float*)malloc(sizeof(float) * kTokens * vocabulary);
  const float* last = NULL;
  const float* stepped = NULL;
  size_t count = 0, i;
  float largest = 0, difference = 0;
  hr_error error;
  walk_tokens(tokens, kTokens);
  if (whole != NULL && steps != NULL && rows != NULL && all != NULL) {
    EXPECT_STATUS(HR_OK, &error, hr_session_prefill(whole, tokens, kTokens, &error));
    for (i = 0; i < kTokens; ++i) {
      EXPECT_STATUS(HR_OK, &error, hr_session_decode(steps, tokens[i], &error));
    }
    EXPECT_STATUS(HR_BUFFER_TOO_SMALL, &error,
                  hr_session_prefill_logits(rows, tokens, kTokens, all,
                                            (size_t)kTokens * vocabulary - 1, &error));
    EXPECT(hr_session_position(rows) == 0);
    EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                  hr_session_prefill_logits(rows, tokens, kTokens, NULL,
                                            (size_t)kTokens * vocabulary, &error));
    EXPECT_STATUS(HR_OK, &error,
                  hr_session_prefill_logits(rows, tokens, kTokens, all,
                                            (size_t)kTokens * vocabulary, &error));
    EXPECT_STATUS(HR_OK, &error, hr_session_logits(whole, &last, &count, &error));
    EXPECT(count == vocabulary);
    EXPECT_STATUS(HR_OK, &error, hr_session_logits(steps, &stepped, &count, &error));
    for (i = 0; i < vocabulary; ++i) {
      const float row = all[(kTokens - 1) * (size_t)vocabulary + i];
      EXPECT(isfinite(last[i]));
      largest = fmaxf(largest, fabsf(last[i]));
      difference = fmaxf(difference, fmaxf(fabsf(row - last[i]), fabsf(stepped[i] - last[i])));
    }
    EXPECT(largest > 0);
    EXPECT(difference <= 1e-4f * largest);
  }
  free(all);
  hr_session_release(whole);
  hr_session_release(steps);
  hr_session_release(rows);
}

static void the_context_has_an_end(hr_model* model) {
  int32_t tokens[9];
  const int32_t* kept = NULL;
  size_t count = 0;
  hr_error error;
  hr_session* session = walk_session(model, 8);
  if (session == NULL) return;
  walk_tokens(tokens, 9);
  EXPECT_STATUS(HR_CONTEXT_FULL, &error, hr_session_prefill(session, tokens, 9, &error));
  EXPECT(hr_session_position(session) == 0);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(session, tokens, 8, &error));
  EXPECT_STATUS(HR_CONTEXT_FULL, &error, hr_session_decode(session, 1, &error));
  EXPECT(hr_session_position(session) == 8);
  EXPECT_STATUS(HR_OK, &error, hr_session_tokens(session, &kept, &count, &error));
  EXPECT(count == 8 && memcmp(kept, tokens, sizeof(int32_t) * 8) == 0);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_tokens(session, NULL, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_logits(session, NULL, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_logits(NULL, NULL, NULL, &error));
  hr_session_release(session);
}

static void stepping_on(hr_model* model) {
  hr_model_facts facts;
  hr_session_stats first, last;
  hr_session* session = walk_session(model, 32);
  hr_error error;
  int i;
  memset(&facts, 0, sizeof(facts));
  memset(&first, 0, sizeof(first));
  memset(&last, 0, sizeof(last));
  facts.struct_size = sizeof(facts);
  first.struct_size = last.struct_size = sizeof(first);
  if (session == NULL) return;
  EXPECT_STATUS(HR_OK, NULL, hr_model_get_facts(model, &facts));
  nothing_before_the_first_token(session);
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 5, &error));
  bad_tokens_change_nothing(session, facts.vocabulary);
  EXPECT_STATUS(HR_OK, NULL, hr_session_get_stats(session, &first));
  for (i = 0; i < 20; ++i) EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, i, &error));
  EXPECT_STATUS(HR_OK, NULL, hr_session_get_stats(session, &last));
  EXPECT(last.decode_tokens == first.decode_tokens + 20);
  hr_session_release(session);
  routes_agree(model, facts.vocabulary);
  the_context_has_an_end(model);
}

typedef struct seen_inputs {
  size_t calls, rows, head_rows, attention_rows, bad;
} seen_inputs;

static void see_input(void* user_data, const char* tensor, size_t tensor_bytes, const float* x,
                      size_t rows, size_t columns) {
  seen_inputs* seen = (seen_inputs*)user_data;
  size_t i;
  if (tensor_bytes >= 10 && memcmp(tensor, "attention.", 10) == 0) {
    seen->attention_rows += rows; /* queries, keys and values, a call for each token */
  } else {
    ++seen->calls;
    seen->rows += rows;
  }
  if (tensor_bytes >= 4 && memcmp(tensor + tensor_bytes - 4, "head", 4) == 0)
    seen->head_rows += rows;
  if (tensor_bytes == 0 || columns == 0) ++seen->bad;
  for (i = 0; i < rows * columns; ++i) seen->bad += x[i] - x[i] == 0.0f ? 0 : 1; /* finite */
}

/* Who looks sees every row of every dense layer and what attention makes of it, and changes
 * nothing. */
static void inputs_are_seen(hr_model* model) {
  int32_t tokens[8];
  seen_inputs seen;
  size_t calls, attention_rows;
  hr_error error;
  hr_session* plain = walk_session(model, 16);
  hr_session* seen_session = walk_session(model, 16);
  if (plain == NULL || seen_session == NULL) return;
  memset(&seen, 0, sizeof(seen));
  walk_tokens(tokens, 8);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_session_observe_inputs(NULL, see_input, &seen, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_observe_inputs(seen_session, see_input, &seen, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(plain, tokens, 8, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(seen_session, tokens, 8, &error));
  EXPECT(walk_compare_logits(plain, seen_session) == 0);
  EXPECT(seen.calls >= 4 && seen.rows > 8 && seen.bad == 0);
  EXPECT(seen.head_rows <= 1); /* only the last token's logits are computed */
  EXPECT(seen.attention_rows > 0 && seen.attention_rows % 8 == 0);
  calls = seen.calls;
  attention_rows = seen.attention_rows / 8;
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(seen_session, 3, &error));
  EXPECT(seen.calls == 2 * calls);
  EXPECT(seen.attention_rows == 9 * attention_rows);
  EXPECT_STATUS(HR_OK, &error, hr_session_observe_inputs(seen_session, NULL, NULL, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(seen_session, 3, &error));
  EXPECT(seen.calls == 2 * calls);
  EXPECT(seen.attention_rows == 9 * attention_rows);
  hr_session_release(plain);
  hr_session_release(seen_session);
}

void walk_stepping(const walk_input* input) {
  const char* paths[2];
  int i;
  paths[0] = input->text_path;
  paths[1] = input->window_path;
  for (i = 0; i < 2; ++i) {
    hr_model* model = walk_open(paths[i], input->scratch_dir);
    if (model == NULL) continue;
    stepping_on(model);
    inputs_are_seen(model);
    hr_model_release(model);
  }
}
