/* Tokens, sampling, generation. */
#include <stdlib.h>

#include "walk.h"

static const char kPrompt[] = "The red lantern stands near the old harbour.";

typedef struct collected {
  char text[4096];
  size_t bytes;
  int calls;
  int stop_after; /* calls; 0: never */
} collected;

static bool collect(void* user_data, const char* text, size_t bytes, int32_t token) {
  collected* into = (collected*)user_data;
  (void)token;
  if (into->bytes + bytes < sizeof(into->text)) {
    memcpy(into->text + into->bytes, text, bytes);
    into->bytes += bytes;
    into->text[into->bytes] = '\0';
  }
  ++into->calls;
  return into->stop_after == 0 || into->calls < into->stop_after;
}

static void tokens_go_both_ways(hr_model* model) {
  int32_t tokens[256];
  char text[512];
  size_t count = 0, needed = 0, bytes = 0;
  hr_error error;
  EXPECT_STATUS(
      HR_BUFFER_TOO_SMALL, &error,
      hr_tokenize(model, kPrompt, strlen(kPrompt), HR_TOKENIZE_NO_BEGIN, NULL, 0, &needed, &error));
  EXPECT(needed > 0 && needed <= strlen(kPrompt));
  EXPECT_STATUS(HR_BUFFER_TOO_SMALL, &error,
                hr_tokenize(model, kPrompt, strlen(kPrompt), HR_TOKENIZE_NO_BEGIN, tokens,
                            needed - 1, &count, &error));
  EXPECT(count == needed);
  EXPECT_STATUS(HR_OK, &error,
                hr_tokenize(model, kPrompt, strlen(kPrompt), HR_TOKENIZE_NO_BEGIN, tokens, 256,
                            &count, &error));
  EXPECT(count == needed);
  EXPECT_STATUS(HR_BUFFER_TOO_SMALL, &error,
                hr_detokenize(model, tokens, count, text, 3, &bytes, &error));
  EXPECT(bytes == strlen(kPrompt));
  EXPECT_STATUS(HR_OK, &error,
                hr_detokenize(model, tokens, count, text, sizeof(text), &bytes, &error));
  EXPECT(bytes == strlen(kPrompt) && memcmp(text, kPrompt, bytes) == 0);
  EXPECT_STATUS(HR_OK, &error,
                hr_tokenize(model, "", 0, HR_TOKENIZE_NO_BEGIN, tokens, 256, &count, &error));
  EXPECT(count == 0);
}

static void bad_text_calls(hr_model* model, uint32_t vocabulary) {
  int32_t token = (int32_t)vocabulary;
  char text[16];
  size_t count = 0;
  hr_error error;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_tokenize(NULL, "a", 1, 0, NULL, 0, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_tokenize(model, NULL, 1, 0, NULL, 0, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_tokenize(model, "a", 1, 0, NULL, 0, NULL, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_detokenize(model, &token, 1, text, sizeof(text), &count, &error));
  token = -1;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_detokenize(model, &token, 1, text, sizeof(text), &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_detokenize(model, NULL, 1, text, sizeof(text), &count, &error));
  EXPECT(!hr_is_end_token(model, -1));
  EXPECT(!hr_is_end_token(model, (int32_t)vocabulary));
  EXPECT(!hr_is_end_token(NULL, 0));
}

static void no_tokenizer_says_so(hr_model* model) {
  int32_t tokens[4] = {1, 2, 3, 4};
  char text[16];
  size_t count = 0;
  hr_error error;
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_tokenize(model, "a", 1, 0, tokens, 4, &count, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error,
                hr_detokenize(model, tokens, 4, text, sizeof(text), &count, &error));
}

/* A session that has read the prompt. */
static hr_session* prompted(hr_model* model) {
  int32_t tokens[256];
  size_t count = 0;
  hr_error error;
  hr_session* session = walk_session(model, 256);
  if (session == NULL) return NULL;
  EXPECT_STATUS(HR_OK, &error,
                hr_tokenize(model, kPrompt, strlen(kPrompt), 0, tokens, 256, &count, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(session, tokens, count, &error));
  return session;
}

static void sampling_follows_its_options(hr_model* model) {
  hr_sampler_options options;
  const float* logits = NULL;
  size_t count = 0, i, best = 0;
  int32_t token = -1, again = -1, seen = -1;
  int differences = 0;
  hr_error error;
  hr_session* session = prompted(model);
  if (session == NULL) return;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  EXPECT_STATUS(HR_OK, &error, hr_session_logits(session, &logits, &count, &error));
  for (i = 1; i < count; ++i) best = logits[i] > logits[best] ? i : best;
  EXPECT_STATUS(HR_OK, &error, hr_session_sample(session, &options, &token, &error));
  EXPECT(token == (int32_t)best);
  EXPECT_STATUS(HR_OK, &error, hr_session_sample(session, NULL, &token, &error));
  EXPECT(token == (int32_t)best);
  options.temperature = 1.5f;
  options.top_k = 1;
  EXPECT_STATUS(HR_OK, &error, hr_session_sample(session, &options, &token, &error));
  EXPECT(token == (int32_t)best);
  options.top_k = 0;
  options.temperature = 30.0f; /* nearly uniform: seeds must matter, and nothing else */
  for (i = 0; i < 16; ++i) {
    options.seed = i;
    EXPECT_STATUS(HR_OK, &error, hr_session_sample(session, &options, &token, &error));
    EXPECT_STATUS(HR_OK, &error, hr_session_sample(session, &options, &again, &error));
    EXPECT(token == again);
    differences += i > 0 && token != seen;
    seen = token;
  }
  EXPECT(differences > 4);
  options.temperature = -1.0f;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_sample(session, &options, &token, &error));
  options.temperature = 1.0f;
  options.top_p = 1.5f;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_sample(session, &options, &token, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_sample(session, NULL, NULL, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_sample(NULL, NULL, &token, &error));
  hr_session_release(session);
}

static void generate(hr_model* model, const char* stop, int stop_after, uint32_t limit,
                     collected* into, hr_generate_result* result) {
  hr_generate_options options;
  hr_error error;
  hr_session* session = prompted(model);
  memset(into, 0, sizeof(*into));
  memset(result, 0, sizeof(*result));
  if (session == NULL) return;
  memset(&options, 0, sizeof(options));
  into->stop_after = stop_after;
  result->struct_size = sizeof(*result);
  options.struct_size = sizeof(options);
  options.max_tokens = limit;
  options.on_text = collect;
  options.user_data = into;
  options.ignore_end_token = true;
  if (stop != NULL) {
    options.stop_sequences = &stop;
    options.stop_sequence_count = 1;
  }
  {
    const uint32_t before = hr_session_position(session);
    EXPECT_STATUS(HR_OK, &error, hr_session_generate(session, &options, result, &error));
    EXPECT(hr_session_position(session) <= before + result->tokens);
    EXPECT(hr_session_position(session) + 1 >= before + result->tokens);
  }
  hr_session_release(session);
}

static void generation_stops_as_told(hr_model* model) {
  collected whole, part;
  hr_generate_result result;
  char stop[3];
  const char* found;
  generate(model, NULL, 0, 24, &whole, &result);
  EXPECT(result.stop_reason == HR_STOP_LIMIT && result.tokens == 24);
  EXPECT(whole.bytes > 8 && whole.calls > 0);
  if (whole.bytes <= 8) return;

  generate(model, NULL, 0, 24, &part, &result); /* greedy: the same again */
  EXPECT(strcmp(whole.text, part.text) == 0);

  memcpy(stop, whole.text + 4, 2); /* two characters from the middle of the text */
  stop[2] = '\0';
  found = strstr(whole.text, stop);
  generate(model, stop, 0, 24, &part, &result);
  EXPECT(result.stop_reason == HR_STOP_SEQUENCE && result.tokens < 24);
  EXPECT(part.bytes == (size_t)(found - whole.text));
  EXPECT(memcmp(part.text, whole.text, part.bytes) == 0);

  generate(model, NULL, 2, 24, &part, &result);
  EXPECT(result.stop_reason == HR_STOP_CALLBACK && part.calls == 2);
  generate(model, NULL, 0, 0, &part, &result); /* until the context is full */
  EXPECT(result.stop_reason == HR_STOP_CONTEXT);
}

static void bad_generations(hr_model* model) {
  hr_generate_options options;
  const char* stops[17];
  char long_stop[300];
  int i;
  hr_error error;
  hr_session* session = prompted(model);
  if (session == NULL) return;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.max_tokens = 2;
  options.stop_sequences = stops;
  for (i = 0; i < 17; ++i) stops[i] = "never";
  options.stop_sequence_count = 17;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_generate(session, &options, NULL, &error));
  memset(long_stop, 'x', sizeof(long_stop) - 1);
  long_stop[sizeof(long_stop) - 1] = '\0';
  stops[0] = long_stop;
  options.stop_sequence_count = 1;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_generate(session, &options, NULL, &error));
  stops[0] = NULL;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_generate(session, &options, NULL, &error));
  options.stop_sequences = NULL;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_generate(session, &options, NULL, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_generate(NULL, NULL, NULL, &error));
  options.stop_sequence_count = 0; /* no callback, no result: allowed */
  EXPECT_STATUS(HR_OK, &error, hr_session_generate(session, &options, NULL, &error));
  hr_session_release(session);
}

void walk_text(const walk_input* input) {
  hr_model_facts facts;
  hr_model* text = walk_open(input->text_path, input->scratch_dir);
  hr_model* window = walk_open(input->window_path, input->scratch_dir);
  memset(&facts, 0, sizeof(facts));
  facts.struct_size = sizeof(facts);
  if (text != NULL) {
    EXPECT_STATUS(HR_OK, NULL, hr_model_get_facts(text, &facts));
    EXPECT(facts.has_tokenizer);
    tokens_go_both_ways(text);
    bad_text_calls(text, facts.vocabulary);
    sampling_follows_its_options(text);
    generation_stops_as_told(text);
    bad_generations(text);
  }
  if (window != NULL) no_tokenizer_says_so(window);
  hr_model_release(text);
  hr_model_release(window);
}
