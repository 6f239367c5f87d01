/* Plans are pure, agree with sessions, and refuse with a number. */
#include "walk.h"

static int same_plan(const hr_plan_report* a, const hr_plan_report* b) {
  return a->fits == b->fits && a->missing_bytes == b->missing_bytes &&
         a->total_bytes == b->total_bytes && a->mapped_bytes == b->mapped_bytes &&
         a->private_bytes == b->private_bytes && a->weight_bytes == b->weight_bytes &&
         a->packed_bytes == b->packed_bytes && a->state_bytes == b->state_bytes &&
         a->activation_bytes == b->activation_bytes && a->scratch_bytes == b->scratch_bytes &&
         a->runtime_bytes == b->runtime_bytes &&
         a->state_bytes_per_token == b->state_bytes_per_token &&
         a->decode_read_bytes == b->decode_read_bytes && a->context_tokens == b->context_tokens &&
         a->max_context_tokens == b->max_context_tokens && a->chunk_tokens == b->chunk_tokens &&
         a->threads == b->threads && a->kv == b->kv;
}

static void plans_are_consistent(hr_model* model) {
  hr_session_options options;
  hr_plan_report report, again;
  hr_model_facts facts;
  hr_error error;
  uint64_t state = 0;
  uint32_t layer;
  memset(&options, 0, sizeof(options));
  memset(&report, 0, sizeof(report));
  memset(&again, 0, sizeof(again));
  memset(&facts, 0, sizeof(facts));
  options.struct_size = sizeof(options);
  report.struct_size = again.struct_size = sizeof(report);
  facts.struct_size = sizeof(facts);
  NEED(hr_model_get_facts(model, &facts));
  options.context_tokens = 48;
  options.kv = HR_KV_F16;
  options.threads = 1;
  NEED(hr_plan(model, &options, &report, &error));
  EXPECT(report.fits && report.missing_bytes == 0);
  EXPECT(report.context_tokens == 48 && report.kv == HR_KV_F16);
  EXPECT(report.total_bytes == report.mapped_bytes + report.private_bytes);
  EXPECT(report.total_bytes == report.weight_bytes + report.packed_bytes + report.state_bytes +
                                   report.activation_bytes + report.scratch_bytes +
                                   report.runtime_bytes);
  EXPECT(report.max_context_tokens >= 48 && report.chunk_tokens >= 1 && report.threads >= 1);
  EXPECT(report.decode_read_bytes > 0);
  NEED(hr_plan(model, &options, &again, NULL));
  EXPECT(same_plan(&report, &again));

  for (layer = 0; layer < facts.layers; ++layer) {
    hr_plan_layer plan_layer;
    memset(&plan_layer, 0, sizeof(plan_layer));
    plan_layer.struct_size = sizeof(plan_layer);
    EXPECT_STATUS(HR_OK, &error, hr_plan_get_layer(model, &options, layer, &plan_layer, &error));
    EXPECT(plan_layer.kv_heads > 0 && plan_layer.key_width > 0 && plan_layer.value_width > 0);
    EXPECT(plan_layer.capacity_tokens > 0);
    state += plan_layer.state_bytes;
  }
  EXPECT(state == report.state_bytes);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_plan_get_layer(model, &options, facts.layers, NULL, &error));
  {
    hr_plan_layer beyond;
    memset(&beyond, 0, sizeof(beyond));
    beyond.struct_size = sizeof(beyond);
    EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                  hr_plan_get_layer(model, &options, facts.layers, &beyond, &error));
  }
}

/* With exactly the missing bytes more, the plan fits; with one less, it does not. */
static void missing_bytes_are_exact(hr_model* model) {
  hr_session_options options;
  hr_plan_report report;
  hr_session* session = NULL;
  hr_error error;
  uint64_t missing;
  memset(&options, 0, sizeof(options));
  memset(&report, 0, sizeof(report));
  options.struct_size = sizeof(options);
  report.struct_size = sizeof(report);
  options.context_tokens = 40;
  options.kv = HR_KV_F16;
  options.chunk_tokens = 8;
  options.threads = 1;
  options.budget_bytes = 4096;
  NEED(hr_plan(model, &options, &report, &error));
  EXPECT(!report.fits && report.missing_bytes > 0);
  EXPECT_STATUS(HR_OVER_BUDGET, &error, hr_session_create(model, &options, &session, &error));
  EXPECT(session == NULL);
  missing = report.missing_bytes;

  options.budget_bytes = 4096 + missing - 1;
  NEED(hr_plan(model, &options, &report, &error));
  EXPECT(!report.fits && report.missing_bytes == 1);
  EXPECT_STATUS(HR_OVER_BUDGET, &error, hr_session_create(model, &options, &session, &error));

  options.budget_bytes = 4096 + missing;
  NEED(hr_plan(model, &options, &report, &error));
  EXPECT(report.fits && report.total_bytes <= options.budget_bytes);
  EXPECT_STATUS(HR_OK, &error, hr_session_create(model, &options, &session, &error));
  hr_session_release(session);
  session = NULL;

  options.budget_bytes = 0;
  options.private_budget_bytes = 1;
  NEED(hr_plan(model, &options, &report, &error));
  EXPECT(!report.fits && report.missing_bytes > 0);
  EXPECT_STATUS(HR_OVER_BUDGET, &error, hr_session_create(model, &options, &session, &error));
}

/* A full session uses what was planned, and reports it. */
static void sessions_keep_their_plan(hr_model* model) {
  hr_session_options options;
  hr_plan_report before, after;
  hr_session_stats stats;
  hr_session* session = NULL;
  hr_error error;
  int32_t tokens[64];
  memset(&options, 0, sizeof(options));
  memset(&before, 0, sizeof(before));
  memset(&after, 0, sizeof(after));
  memset(&stats, 0, sizeof(stats));
  options.struct_size = sizeof(options);
  options.context_tokens = 64;
  options.chunk_tokens = 16;
  options.threads = 1;
  before.struct_size = after.struct_size = sizeof(before);
  stats.struct_size = sizeof(stats);
  NEED(hr_plan(model, &options, &before, &error));
  NEED(hr_session_create(model, &options, &session, &error));
  NEED(hr_session_get_plan(session, &after));
  EXPECT(same_plan(&before, &after));
  walk_tokens(tokens, 64);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(session, tokens, 64, &error));
  NEED(hr_session_get_stats(session, &stats));
  EXPECT(stats.planned_bytes > 0 && stats.peak_bytes == stats.planned_bytes);
  EXPECT(stats.prefill_tokens == 64 && stats.decode_tokens == 0 && stats.load_ns > 0);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_session_get_stats(NULL, &stats));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_session_get_stats(session, NULL));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_session_get_plan(NULL, &after));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_session_get_plan(session, NULL));
  hr_session_release(session);
}

static void bad_options_are_refused(hr_model* model) {
  hr_session_options options;
  hr_plan_report report;
  hr_session* session = NULL;
  hr_error error;
  memset(&options, 0, sizeof(options));
  memset(&report, 0, sizeof(report));
  options.struct_size = sizeof(options);
  report.struct_size = sizeof(report);
  options.kv = 77;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_plan(model, &options, &report, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_create(model, &options, &session, &error));
  options.kv = 0;
  options.backend = 9;
  EXPECT(hr_plan(model, &options, &report, &error) != HR_OK);
  options.backend = 0;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_plan(NULL, &options, &report, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_plan(model, &options, NULL, &error));
  EXPECT_STATUS(HR_OK, &error, hr_plan(model, NULL, &report, &error)); /* all defaults */
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_create(NULL, NULL, &session, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_create(model, NULL, NULL, &error));
}

void walk_plans(const walk_input* input) {
  const char* paths[2];
  int i;
  paths[0] = input->text_path;
  paths[1] = input->window_path;
  for (i = 0; i < 2; ++i) {
    hr_model* model = walk_open(paths[i], input->scratch_dir);
    if (model == NULL) continue;
    plans_are_consistent(model);
    missing_bytes_are_exact(model);
    sessions_keep_their_plan(model);
    bad_options_are_refused(model);
    hr_model_release(model);
  }
}
