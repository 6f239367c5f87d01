/* A small check library for C99 and the parts of the walk through headroom.h. */
#ifndef HEADROOM_TESTS_API_WALK_H_
#define HEADROOM_TESTS_API_WALK_H_

#include <stdio.h>
#include <string.h>

#include "headroom/headroom.h"

/* Counts of the whole program; checks go on after a failure. */
extern int walk_checks;
extern int walk_failures;

void walk_expect(int holds, const char* text, const char* file, int line);
/* Also requires that a failure left a text and a success left none (`error` may be NULL). */
void walk_expect_status(hr_status status, hr_status wanted, const hr_error* error, const char* text,
                        const char* file, int line);

#define EXPECT(condition) walk_expect((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define EXPECT_STATUS(wanted, error, call)                                         \
  do {                                                                             \
    const hr_status walk_status = (call);                                          \
    walk_expect_status(walk_status, (wanted), (error), #call, __FILE__, __LINE__); \
  } while (0)
/* For calls whose failure makes the rest of a function senseless. */
#define NEED(call)                                                           \
  do {                                                                       \
    const hr_status walk_status = (call);                                    \
    walk_expect_status(walk_status, HR_OK, NULL, #call, __FILE__, __LINE__); \
    if (walk_status != HR_OK) return;                                        \
  } while (0)

/* What the walk runs on. */
typedef struct walk_input {
  const char* text_path;      /* a model with a tokenizer, all layers see everything */
  const char* window_path;    /* a model without one, with windowed layers */
  const char* recurrent_path; /* a model of linear attention alone, three layers */
  const char* vision_path;    /* a model of pictures with features and labels */
  const char* scratch_dir;    /* for session files and packed weights */
} walk_input;

/* Opens a model with `cache` (may be NULL) as the cache directory; NULL after a counted failure. */
hr_model* walk_open(const char* path, const char* cache);
/* A session of `context` tokens, HR_KV_F32, one thread; NULL after a counted failure. */
hr_session* walk_session(hr_model* model, uint32_t context);
/* `count` tokens that differ from each other, inside every vocabulary. */
void walk_tokens(int32_t* tokens, size_t count);
/* 0 when the last logits of two sessions are the same bytes. */
int walk_compare_logits(const hr_session* a, const hr_session* b);

void walk_basics(const walk_input* input);     /* versions, names, opening, facts */
void walk_plans(const walk_input* input);      /* plans, budgets, creation */
void walk_stepping(const walk_input* input);   /* prefill, decode, logits, order of calls */
void walk_rewinding(const walk_input* input);  /* rewind, fork, trim */
void walk_recurrent(const walk_input* input);  /* states of fixed size */
void walk_saving(const walk_input* input);     /* save, restore, and what must be refused */
void walk_text(const walk_input* input);       /* tokens, sampling, generation */
void walk_chatting(const walk_input* input);   /* conversations */
void walk_pictures(const walk_input* input);   /* vision models */
void walk_cancelling(const walk_input* input); /* from callbacks and from another thread */

#endif
