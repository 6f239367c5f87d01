/* Versions, names, the three ways to open a model, hooks, facts. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "walk.h"

static void names_and_version(void) {
  static const hr_status kAll[] = {
      HR_OK,          HR_INVALID_ARGUMENT, HR_WRONG_STATE,      HR_UNSUPPORTED,
      HR_CANCELLED,   HR_CONTEXT_FULL,     HR_BUFFER_TOO_SMALL, HR_NOT_FOUND,
      HR_IO,          HR_CORRUPT,          HR_NEWER_FORMAT,     HR_MISMATCH,
      HR_OVER_BUDGET, HR_OUT_OF_MEMORY,    HR_DEVICE,           HR_INTERNAL};
  size_t i, j;
  for (i = 0; i < sizeof(kAll) / sizeof(kAll[0]); ++i) {
    EXPECT(hr_status_name(kAll[i]) != NULL && hr_status_name(kAll[i])[0] != '\0');
    for (j = 0; j < i; ++j) EXPECT(strcmp(hr_status_name(kAll[i]), hr_status_name(kAll[j])) != 0);
  }
  EXPECT(hr_status_name(-7) != NULL);
  EXPECT(hr_status_name(99999) != NULL);
  EXPECT(hr_version() == ((HR_VERSION_MAJOR << 16) | (HR_VERSION_MINOR << 8) | HR_VERSION_PATCH));
}

static void bad_paths(const walk_input* input) {
  hr_model* model = (hr_model*)1; /* must become NULL or stay untouched, never be used */
  hr_error error;
  EXPECT_STATUS(HR_NOT_FOUND, &error,
                hr_model_open_path("/no/such/model.hrm", NULL, &model, &error));
  EXPECT(strstr(error.text, "/no/such/model.hrm") != NULL);
  EXPECT_STATUS(HR_IO, &error, hr_model_open_path(input->scratch_dir, NULL, &model, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_model_open_path(NULL, NULL, &model, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_model_open_path(input->text_path, NULL, NULL, &error));
  EXPECT_STATUS(HR_NOT_FOUND, NULL, hr_model_open_path("/no/such/model.hrm", NULL, &model, NULL));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_model_open_memory(NULL, 4096, NULL, &model, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_model_open_fd(-1, 0, 0, NULL, NULL, &error));
  EXPECT(hr_model_open_fd(-1, 0, 0, NULL, &model, &error) != HR_OK);
  hr_model_release(NULL);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_model_get_facts(NULL, NULL));
}

static void check_facts(const hr_model* model, uint64_t* digest) {
  hr_model_facts facts;
  memset(&facts, 0, sizeof(facts));
  facts.struct_size = sizeof(facts);
  EXPECT_STATUS(HR_OK, NULL, hr_model_get_facts(model, &facts));
  EXPECT(facts.layers > 0 && facts.channels > 0 && facts.vocabulary > 0);
  EXPECT(facts.context_tokens > 0 && facts.parameters > 0 && facts.file_bytes > 0);
  EXPECT(memchr(facts.name, '\0', sizeof(facts.name)) != NULL);
  EXPECT(memchr(facts.architecture, '\0', sizeof(facts.architecture)) != NULL);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_model_get_facts(model, NULL));
  *digest = facts.digest;
}

/* The whole file in memory, aligned as headroom.h asks; freed by the caller. */
static void* read_file(const char* path, size_t* out_bytes) {
  struct stat facts;
  void* data = NULL;
  ssize_t got;
  const int fd = open(path, O_RDONLY);
  if (fd < 0) return NULL;
  if (fstat(fd, &facts) != 0 || posix_memalign(&data, 64, (size_t)facts.st_size) != 0) {
    close(fd);
    return NULL;
  }
  got = read(fd, data, (size_t)facts.st_size);
  close(fd);
  *out_bytes = (size_t)got;
  return data;
}

static void all_ways_agree(const walk_input* input) {
  hr_model* model = NULL;
  hr_error error;
  uint64_t by_path = 1, by_fd = 2, by_memory = 3;
  size_t bytes = 0;
  void* data;
  const int fd = open(input->window_path, O_RDONLY);

  model = walk_open(input->window_path, NULL);
  if (model == NULL) return;
  check_facts(model, &by_path);
  hr_model_release(model);

  EXPECT_STATUS(HR_OK, &error, hr_model_open_fd(fd, 0, 0, NULL, &model, &error));
  check_facts(model, &by_fd);
  hr_model_release(model);
  EXPECT(fcntl(fd, F_GETFD) != -1); /* borrowed: still open */
  EXPECT(hr_model_open_fd(fd, 0, UINT64_C(1) << 60, NULL, &model, &error) != HR_OK);
  EXPECT(hr_model_open_fd(fd, UINT64_C(1) << 60, 0, NULL, &model, &error) != HR_OK);
  EXPECT(hr_model_open_fd(fd, 64, 0, NULL, &model, &error) != HR_OK); /* no model begins there */
  close(fd);

  data = read_file(input->window_path, &bytes);
  EXPECT(data != NULL);
  if (data == NULL) return;
  EXPECT_STATUS(HR_OK, &error, hr_model_open_memory(data, bytes, NULL, &model, &error));
  check_facts(model, &by_memory);
  hr_model_release(model);
  EXPECT_STATUS(HR_CORRUPT, &error, hr_model_open_memory(data, bytes / 2, NULL, &model, &error));
  EXPECT(hr_model_open_memory((const char*)data + 4, bytes - 4, NULL, &model, &error) != HR_OK);
  ((unsigned char*)data)[0] ^= 0xff;
  EXPECT_STATUS(HR_CORRUPT, &error, hr_model_open_memory(data, bytes, NULL, &model, &error));
  free(data);
  EXPECT(by_path == by_fd && by_fd == by_memory);
}

typedef struct hook_counts {
  size_t allocated_bytes, allocations, releases, refuse_after;
} hook_counts;

static void* counting_allocate(void* user_data, size_t bytes, size_t alignment) {
  hook_counts* counts = (hook_counts*)user_data;
  void* memory = NULL;
  if (counts->allocations >= counts->refuse_after) return NULL;
  if (alignment < sizeof(void*)) alignment = sizeof(void*);
  if (posix_memalign(&memory, alignment, bytes) != 0) return NULL;
  memset(memory, 0x5a, bytes); /* nobody promised zeros */
  ++counts->allocations;
  counts->allocated_bytes += bytes;
  return memory;
}

static void counting_release(void* user_data, void* memory, size_t bytes) {
  hook_counts* counts = (hook_counts*)user_data;
  if (memory == NULL) return;
  ++counts->releases;
  counts->allocated_bytes -= bytes;
  free(memory);
}

static bool refuse_progress(void* user_data, float fraction) {
  *(int*)user_data += 1;
  return fraction < 0.0f;
}

static void hooks_are_used(const walk_input* input) {
  hook_counts counts;
  hr_hooks hooks;
  hr_model_options options;
  hr_model* model = NULL;
  hr_session* session;
  hr_error error;
  int calls = 0;
  memset(&counts, 0, sizeof(counts));
  memset(&hooks, 0, sizeof(hooks));
  memset(&options, 0, sizeof(options));
  counts.refuse_after = (size_t)-1;
  hooks.struct_size = sizeof(hooks);
  hooks.allocate = counting_allocate;
  hooks.release = counting_release;
  hooks.user_data = &counts;
  options.struct_size = sizeof(options);
  options.hooks = &hooks;
  options.verify_checksums = true;
  NEED(hr_model_open_path(input->window_path, &options, &model, &error));
  session = walk_session(model, 32);
  EXPECT(counts.allocations > 0 && counts.allocated_bytes > 0);
  hr_model_release(model); /* the session keeps it alive */
  if (session != NULL) {
    EXPECT_STATUS(HR_OK, &error, hr_session_decode(session, 1, &error));
  }
  hr_session_release(session);
  hr_session_release(NULL);
  EXPECT(counts.allocated_bytes == 0 && counts.allocations == counts.releases);

  counts.refuse_after = counts.allocations; /* from now on the app has nothing to give */
  if (hr_model_open_path(input->window_path, &options, &model, &error) == HR_OK) {
    hr_session* none = NULL;
    EXPECT_STATUS(HR_OUT_OF_MEMORY, &error, hr_session_create(model, NULL, &none, &error));
    EXPECT(none == NULL);
    hr_model_release(model);
  } else {
    EXPECT(error.text[0] != '\0');
  }
  EXPECT(counts.allocated_bytes == 0);

  options.hooks = NULL;
  options.progress = refuse_progress;
  options.progress_user_data = &calls;
  EXPECT_STATUS(HR_CANCELLED, &error,
                hr_model_open_path(input->window_path, &options, &model, &error));
  EXPECT(calls == 1);
}

void walk_basics(const walk_input* input) {
  names_and_version();
  bad_paths(input);
  all_ways_agree(input);
  hooks_are_used(input);
}
