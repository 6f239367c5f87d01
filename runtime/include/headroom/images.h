/* Headroom: pictures in, scores or features out. Part of headroom.h, which includes it; its rules
 * on ownership, errors, threads and options hold here too.
 *
 * Copyright the Headroom authors; Apache-2.0. */
#ifndef HEADROOM_IMAGES_H_
#define HEADROOM_IMAGES_H_

#include "headroom.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Pictures ----------------------------------------------------------------------------------
 */

/* Bytes in the order they lie in memory. Alpha is ignored. NV21: a plane of Y, then one of pairs
 * Cr Cb, one for 2 x 2 pixels, full range of BT.601 (what Android's cameras give); NV12: pairs
 * Cb Cr. */
enum {
  HR_PIXELS_RGB = 0,
  HR_PIXELS_RGBA = 1,
  HR_PIXELS_BGRA = 2,
  HR_PIXELS_GRAY = 3,
  HR_PIXELS_NV21 = 4,
  HR_PIXELS_NV12 = 5
};

/* A picture in the caller's memory, which is only read, and only during the call. */
typedef struct hr_image {
  size_t struct_size;
  int32_t format;         /* HR_PIXELS_* */
  uint32_t width, height; /* as stored, before it is turned; 1..16384 */
  const void* pixels;     /* [height, row_bytes]; the last row may end with its last pixel */
  size_t row_bytes;       /* from one row to the next; 0: rows without a gap */
  const void* chroma;     /* NV21 and NV12: [ceil(height / 2), chroma_row_bytes] */
  size_t chroma_row_bytes;
  uint32_t rotation; /* degrees clockwise that make it upright: 0, 90, 180, 270 */
  bool mirrored;     /* after that turn left and right change places (a front camera) */
} hr_image;

/* A decoded file: JPEG (with its Exif orientation), PNG, BMP, GIF (its first picture), binary PNM.
 * limit_bytes: decoding never holds more than that, its result included; 0: 256 MiB. A PNG needs
 * about 6 bytes a pixel, a JPEG up to 13. Errors: CORRUPT, UNSUPPORTED, OVER_BUDGET, OUT_OF_MEMORY.
 */
typedef struct hr_decoded_image hr_decoded_image;
HR_API hr_status hr_image_decode(const void* file, size_t bytes, uint64_t limit_bytes,
                                 hr_decoded_image** out_image, hr_error* error);
/* *out_image lends the pixels until the decoded image is released. */
HR_API hr_status hr_decoded_image_get(const hr_decoded_image* decoded, hr_image* out_image);
HR_API void hr_decoded_image_release(hr_decoded_image* decoded);

/* ---- Vision models -----------------------------------------------------------------------------
 */

typedef struct hr_image_model_facts {
  size_t struct_size;
  uint32_t height, width; /* of the input it was trained on */
  uint32_t classes;       /* logits */
  uint32_t features;      /* numbers that describe a picture; 0: the model names none */
  bool has_labels;
} hr_image_model_facts;
/* Any thread. Errors: UNSUPPORTED for a model that takes no pictures. */
HR_API hr_status hr_image_model_get_facts(const hr_model* model, hr_image_model_facts* out_facts,
                                          hr_error* error);
/* The name of a class; lent until the model is released; "" where the file has no names. Errors:
 * UNSUPPORTED, INVALID_ARGUMENT (a class that is not there). */
HR_API hr_status hr_model_label(const hr_model* model, size_t index, const char** out_label,
                                hr_error* error);

typedef struct hr_image_options {
  size_t struct_size;
  uint64_t budget_bytes;         /* everything the model may cost the process; 0: no limit */
  uint64_t private_budget_bytes; /* limit for what the system cannot take back; 0: no limit */
  uint32_t batch;                /* pictures at once; 0: 1 */
  /* The input's extents; 0: as trained. Preprocessing scales with them. Models with a table of
   * positions take the trained size alone. */
  uint32_t height, width;
  uint32_t threads; /* 0: the fast cores */
  /* Largest picture that will be given, as stored; 0: 4096. Scratch for it is planned, and larger
   * ones are refused. */
  uint32_t max_picture_width, max_picture_height;
} hr_image_options;

typedef struct hr_image_plan_report {
  size_t struct_size;
  bool fits;
  uint64_t missing_bytes; /* 0 when it fits */
  uint64_t total_bytes;   /* mapped + private */
  uint64_t mapped_bytes, private_bytes;
  /* By class. Weights: read from the model file at run time; packed: convolutions as kernels want
   * them; activations: values between operations; scratch; runtime: operators and objects. */
  uint64_t weight_bytes, packed_bytes, activation_bytes, scratch_bytes, runtime_bytes;
  uint64_t multiply_adds; /* of one picture, in convolutions and attention */
  uint32_t batch, height, width, threads;
  /* Inside the budgets: the most pictures at once of this size, and the longest side of square
   * pictures, a multiple of 32, with this batch. 0: none. */
  uint32_t largest_batch, largest_side;
} hr_image_plan_report;

/* What a session with these options would cost; allocates nothing of it. Any thread. Errors:
 * UNSUPPORTED (no vision model), INVALID_ARGUMENT (a size that the model cannot take; text: why). A
 * plan that does not fit is no error. */
HR_API hr_status hr_image_plan(const hr_model* model, const hr_image_options* options,
                               hr_image_plan_report* out_report, hr_error* error);

typedef struct hr_image_session hr_image_session;

/* Plans, then allocates everything once: no call below allocates. Errors: those of hr_image_plan,
 * OVER_BUDGET (text: bytes missing, and what would fit), OUT_OF_MEMORY, CANCELLED, IO, CORRUPT. */
HR_API hr_status hr_image_session_create(hr_model* model, const hr_image_options* options,
                                         hr_image_session** out_session, hr_error* error);
HR_API void hr_image_session_release(hr_image_session* session);

/* Resizes, crops and normalises `count` pictures, 1..batch, as the model file says, and runs them
 * through the model; takes the time of a whole batch. All have one struct_size. Errors:
 * INVALID_ARGUMENT (text: which picture and what about it; the last run's results are gone),
 * UNSUPPORTED (a picture that its preprocessing cannot take), CANCELLED. */
HR_API hr_status hr_image_session_run(hr_image_session* session, const hr_image* images,
                                      size_t count, hr_error* error);
/* The same for numbers that are preprocessed already: f32 [count, height, width, 3]. */
HR_API hr_status hr_image_session_run_values(hr_image_session* session, const float* values,
                                             size_t count, hr_error* error);

/* Logits f32 [classes], and features f32 [features], of picture `index` of the last run; lent until
 * the next run. Errors: WRONG_STATE (no such result), UNSUPPORTED (the model names no features). */
HR_API hr_status hr_image_session_logits(const hr_image_session* session, size_t index,
                                         const float** out_logits, size_t* out_count,
                                         hr_error* error);
HR_API hr_status hr_image_session_features(const hr_image_session* session, size_t index,
                                           const float** out_features, size_t* out_count,
                                           hr_error* error);

typedef struct hr_class {
  uint32_t index;
  float logit;
  float probability; /* softmax over all classes */
  const char* label; /* "" where the file has no names; lent until the model is released */
} hr_class;
/* The `count` best classes of picture `index`, best first, of equal ones the first; fewer where the
 * model has fewer: *out_count says how many. */
HR_API hr_status hr_image_session_top(const hr_image_session* session, size_t index,
                                      hr_class* classes, size_t count, size_t* out_count,
                                      hr_error* error);

/* Stops a run from any thread: it returns CANCELLED. Without effect while nothing runs. */
HR_API void hr_image_session_cancel(hr_image_session* session);

typedef struct hr_image_stats {
  size_t struct_size;
  uint64_t pictures, runs;
  uint64_t preprocess_ns, run_ns, load_ns;
  bool weights_packed_now;
  uint64_t planned_bytes, peak_bytes, touched_bytes; /* of the arena, as in hr_session_stats */
} hr_image_stats;
HR_API hr_status hr_image_session_get_stats(const hr_image_session* session,
                                            hr_image_stats* out_stats);
HR_API hr_status hr_image_session_get_plan(const hr_image_session* session,
                                           hr_image_plan_report* out_report);

/* Shows every f32 value when it has been made: `value` is its number in the file's graph, x f32
 * [positions, channels] with `stride` floats from one position to the next; lent during the call.
 * Value 0 is the input. For calibration and debugging; NULL stops it. */
HR_API hr_status hr_image_session_observe(hr_image_session* session,
                                          void (*on_value)(void* user_data, uint32_t value,
                                                           const float* x, size_t positions,
                                                           size_t stride, size_t channels),
                                          void* user_data);

#ifdef __cplusplus
}
#endif

#endif /* HEADROOM_IMAGES_H_ */
