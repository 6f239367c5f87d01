/* A C99 program that drives every call of headroom.h, with good and with bad arguments.
 *   api_walk TEXT_MODEL WINDOW_MODEL RECURRENT_MODEL VISION_MODEL SCRATCH_DIR */
#include "walk.h"

int walk_checks = 0;
int walk_failures = 0;

void walk_expect(int holds, const char* text, const char* file, int line) {
  ++walk_checks;
  if (holds) return;
  ++walk_failures;
  fprintf(stderr, "%s:%d: expected %s\n", file, line, text);
}

void walk_expect_status(hr_status status, hr_status wanted, const hr_error* error, const char* text,
                        const char* file, int line) {
  ++walk_checks;
  if (status != wanted) {
    ++walk_failures;
    fprintf(stderr, "%s:%d: %s is \"%s\" (%s), expected \"%s\"\n", file, line, text,
            hr_status_name(status), error != NULL ? error->text : "", hr_status_name(wanted));
    return;
  }
  if (error == NULL) return;
  if (memchr(error->text, '\0', sizeof(error->text)) == NULL ||
      (error->text[0] == '\0') != (status == HR_OK)) {
    ++walk_failures;
    fprintf(stderr, "%s:%d: %s left a wrong error text (\"%.60s\")\n", file, line, text,
            error->text);
  }
}

hr_model* walk_open(const char* path, const char* cache) {
  hr_model_options options;
  hr_model* model = NULL;
  hr_error error;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.cache_directory = cache;
  EXPECT_STATUS(HR_OK, &error, hr_model_open_path(path, &options, &model, &error));
  return model;
}

hr_session* walk_session(hr_model* model, uint32_t context) {
  hr_session_options options;
  hr_session* session = NULL;
  hr_error error;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.context_tokens = context;
  options.threads = 1;
  options.kv = HR_KV_F32;
  EXPECT_STATUS(HR_OK, &error, hr_session_create(model, &options, &session, &error));
  return session;
}

void walk_tokens(int32_t* tokens, size_t count) {
  size_t i;
  for (i = 0; i < count; ++i) tokens[i] = (int32_t)((i * 37 + 11) % 61);
}

int walk_compare_logits(const hr_session* a, const hr_session* b) {
  const float* logits_a = NULL;
  const float* logits_b = NULL;
  size_t count_a = 0, count_b = 0;
  if (hr_session_logits(a, &logits_a, &count_a, NULL) != HR_OK) return -1;
  if (hr_session_logits(b, &logits_b, &count_b, NULL) != HR_OK) return -1;
  if (count_a != count_b || count_a == 0) return -1;
  return memcmp(logits_a, logits_b, count_a * sizeof(float));
}

int main(int argc, char** argv) {
  walk_input input;
  if (argc != 6) {
    fprintf(stderr,
            "usage: api_walk TEXT_MODEL WINDOW_MODEL RECURRENT_MODEL VISION_MODEL SCRATCH_DIR\n");
    return 2;
  }
  input.text_path = argv[1];
  input.window_path = argv[2];
  input.recurrent_path = argv[3];
  input.vision_path = argv[4];
  input.scratch_dir = argv[5];
  walk_basics(&input);
  walk_plans(&input);
  walk_stepping(&input);
  walk_rewinding(&input);
  walk_recurrent(&input);
  walk_saving(&input);
  walk_text(&input);
  walk_chatting(&input);
  walk_pictures(&input);
  walk_cancelling(&input);
  printf("%d checks, %d failed\n", walk_checks, walk_failures);
  return walk_failures == 0 && walk_checks > 0 ? 0 : 1;
}
