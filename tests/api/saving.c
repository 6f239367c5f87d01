/* Session files: exact when they belong, refused when they do not. */
#include <stdlib.h>

#include "walk.h"

enum { kContext = 40, kPrefix = 17 };

static void path_in(const walk_input* input, const char* name, char* path, size_t bytes) {
  snprintf(path, bytes, "%s/%s", input->scratch_dir, name);
}

/* Copies a file, at most `limit` bytes of it, with byte `flip` inverted when it is inside. */
static int copy_file(const char* from, const char* to, long limit, long flip) {
  FILE* in = fopen(from, "rb");
  FILE* out = fopen(to, "wb");
  long i;
  int byte;
  if (in == NULL || out == NULL) return 0;
  for (i = 0; i < limit && (byte = fgetc(in)) != EOF; ++i)
    fputc(i == flip ? byte ^ 0x10 : byte, out);
  fclose(in);
  fclose(out);
  return 1;
}

static long file_bytes(const char* path) {
  long bytes;
  FILE* file = fopen(path, "rb");
  if (file == NULL) return -1;
  fseek(file, 0, SEEK_END);
  bytes = ftell(file);
  fclose(file);
  return bytes;
}

static void restoring_is_exact(hr_model* model, const char* path) {
  int32_t tokens[kContext];
  hr_error error;
  hr_session* first = walk_session(model, kContext);
  hr_session* second = walk_session(model, kContext);
  if (first == NULL || second == NULL) return;
  walk_tokens(tokens, kContext);
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(first, tokens, kPrefix, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_save(first, path, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_prefill(second, tokens + 3, 5, &error)); /* replaced */
  EXPECT_STATUS(HR_OK, &error, hr_session_restore(second, path, &error));
  EXPECT(hr_session_position(second) == kPrefix);
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(first, 8, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(second, 8, &error));
  EXPECT(walk_compare_logits(first, second) == 0);
  hr_session_release(first);
  hr_session_release(second);
}

/* `session` must refuse `path` with `wanted` and be as before. */
static void refused(hr_session* session, const char* path, hr_status wanted) {
  const uint32_t position = hr_session_position(session);
  hr_session* fork = NULL;
  hr_error error;
  EXPECT_STATUS(HR_OK, &error, hr_session_fork(session, &fork, &error));
  EXPECT_STATUS(wanted, &error, hr_session_restore(session, path, &error));
  EXPECT(hr_session_position(session) == position);
  if (fork == NULL) return;
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 4, &error));
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(fork, 4, &error));
  EXPECT(walk_compare_logits(session, fork) == 0);
  EXPECT_STATUS(HR_OK, &error, hr_session_rewind(session, position, &error));
  hr_session_release(fork);
}

static void damage_is_refused(hr_model* model, const char* path, const char* damaged) {
  hr_error error;
  const long bytes = file_bytes(path);
  hr_session* session = walk_session(model, kContext);
  EXPECT(bytes > 64);
  if (session == NULL || bytes <= 64) return;
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 2, &error));
  EXPECT(copy_file(path, damaged, bytes - 1, -1));
  refused(session, damaged, HR_CORRUPT);
  EXPECT(copy_file(path, damaged, 16, -1));
  refused(session, damaged, HR_CORRUPT);
  EXPECT(copy_file(path, damaged, 0, -1));
  EXPECT(hr_session_restore(session, damaged, &error) != HR_OK);
  EXPECT(copy_file(path, damaged, bytes, bytes - 5)); /* in the rows */
  refused(session, damaged, HR_CORRUPT);
  EXPECT(copy_file(path, damaged, bytes, 0)); /* in the magic */
  refused(session, damaged, HR_CORRUPT);
  refused(session, "/no/such/session", HR_NOT_FOUND);
  hr_session_release(session);
}

static void strangers_are_refused(hr_model* model, hr_model* other, const char* path) {
  hr_session_options options;
  hr_session* session = walk_session(other, kContext);
  hr_error error;
  memset(&options, 0, sizeof(options));
  if (session != NULL) {
    EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 2, &error));
    refused(session, path, HR_MISMATCH); /* another model */
    hr_session_release(session);
    session = NULL;
  }
  options.struct_size = sizeof(options);
  options.context_tokens = kContext;
  options.threads = 1;
  options.kv = HR_KV_INT8;
  EXPECT_STATUS(HR_OK, &error, hr_session_create(model, &options, &session, &error));
  if (session != NULL) {
    EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 2, &error));
    refused(session, path, HR_MISMATCH); /* another codec */
    hr_session_release(session);
    session = NULL;
  }
  session = walk_session(model, kPrefix - 1);
  if (session == NULL) return;
  EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 2, &error));
  refused(session, path, HR_CONTEXT_FULL); /* no room */
  hr_session_release(session);
}

static void bad_calls(hr_model* model, const walk_input* input) {
  hr_error error;
  hr_session* session = walk_session(model, 8);
  if (session == NULL) return;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_save(session, NULL, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_save(NULL, "x", &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_restore(session, NULL, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_session_restore(NULL, "x", &error));
  EXPECT(hr_session_save(session, "/no/such/folder/session", &error) != HR_OK);
  EXPECT(hr_session_save(session, input->scratch_dir, &error) != HR_OK);
  hr_session_release(session);
}

void walk_saving(const walk_input* input) {
  char path[1024], damaged[1024];
  hr_model* text = walk_open(input->text_path, input->scratch_dir);
  hr_model* window = walk_open(input->window_path, input->scratch_dir);
  path_in(input, "walk.session", path, sizeof(path));
  path_in(input, "walk-damaged.session", damaged, sizeof(damaged));
  if (text != NULL && window != NULL) {
    restoring_is_exact(window, path);
    damage_is_refused(window, path, damaged);
    restoring_is_exact(text, path);
    damage_is_refused(text, path, damaged);
    strangers_are_refused(text, window, path);
    bad_calls(text, input);
  }
  remove(path);
  remove(damaged);
  hr_model_release(text);
  hr_model_release(window);
}
