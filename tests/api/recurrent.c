/* A state of fixed size: what it costs, and going back over it. */
#include "walk.h"

enum { kContext = 200, kPrompt = 90, kAnswer = 30 };

static void facts_and_plans(hr_model* model) {
  hr_model_facts facts;
  hr_session_options options;
  hr_plan_report small, large, kept;
  hr_error error;
  memset(&facts, 0, sizeof(facts));
  memset(&options, 0, sizeof(options));
  memset(&small, 0, sizeof(small));
  facts.struct_size = sizeof(facts);
  options.struct_size = sizeof(options);
  small.struct_size = sizeof(small);
  large = kept = small;
  NEED(hr_model_get_facts(model, &facts));
  EXPECT(facts.layers == 0 && facts.linear_layers == 3);
  options.threads = 1;
  options.context_tokens = 64;
  NEED(hr_plan(model, &options, &small, &error));
  options.context_tokens = 6400;
  NEED(hr_plan(model, &options, &large, &error));
  EXPECT(small.state_bytes == 0 && small.state_bytes_per_token == 0);
  EXPECT(small.recurrent_bytes > 0 && small.recurrent_bytes == large.recurrent_bytes);
  EXPECT(small.checkpoints == 1 && small.checkpoint_bytes == small.recurrent_bytes);
  options.checkpoint_bytes = 5 * small.recurrent_bytes + 1;
  NEED(hr_plan(model, &options, &kept, &error));
  EXPECT(kept.checkpoints == 5 && kept.checkpoint_bytes == 5 * small.recurrent_bytes);
  EXPECT(kept.private_bytes == large.private_bytes + 4 * small.recurrent_bytes);
  options.budget_bytes = kept.total_bytes - 1;
  NEED(hr_plan(model, &options, &kept, &error));
  EXPECT(kept.fits && kept.chunk_tokens < large.chunk_tokens);
}

/* Another answer to the same prompt, and one to a shorter prompt. */
static void answers_again(hr_model* model) {
  int32_t tokens[kContext];
  hr_error error;
  hr_session* straight = walk_session(model, kContext);
  hr_session* back = walk_session(model, kContext);
  int i;
  if (straight == NULL || back == NULL) return;
  walk_tokens(tokens, kContext);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(straight, tokens, kPrompt, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(back, tokens, kPrompt, &error));
  for (i = 0; i < kAnswer; ++i) EXPECT_STATUS(HR_OK, &error, hr_session_decode(back, 7, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_rewind(back, kPrompt, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(straight, 9, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(back, 9, &error));
  EXPECT(walk_compare_logits(straight, back) == 0);
  EXPECT_STATUS(HR_OK, &error, hr_session_rewind(back, 17, &error));
  EXPECT(hr_session_position(back) == 17);
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(back, 9, &error));
  EXPECT(hr_session_position(back) == 18);
  hr_session_release(straight);
  hr_session_release(back);
}

void walk_recurrent(const walk_input* input) {
  hr_model* model = walk_open(input->recurrent_path, NULL);
  if (model == NULL) return;
  facts_and_plans(model);
  answers_again(model);
  hr_model_release(model);
}
