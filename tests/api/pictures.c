/* Vision models: facts, plans, pictures of every layout, results, and what must be refused. */
#include <stddef.h>
#include <stdlib.h>

#include "walk.h"

enum { WIDTH = 53, HEIGHT = 38, PIXELS = WIDTH * HEIGHT, CLASSES = 64, GAP = 7 };

/* A picture with edges and slopes, of three colours or of grays. */
static void draw(unsigned char* rgb, int gray) {
  int row, column, c;
  for (row = 0; row < HEIGHT; ++row) {
    for (column = 0; column < WIDTH; ++column) {
      for (c = 0; c < 3; ++c) {
        const int colour = gray ? 1 : c + 1;
        const int inside = row > 9 && row < 30 && column > 12 && column < 41;
        rgb[(row * WIDTH + column) * 3 + c] =
            (unsigned char)((row * 5 * colour + column * 3 + (inside ? 90 * colour : 0)) & 255);
      }
    }
  }
}

static hr_image picture_of(int32_t format, uint32_t width, uint32_t height, const void* pixels) {
  hr_image image;
  memset(&image, 0, sizeof(image));
  image.struct_size = sizeof(image);
  image.format = format;
  image.width = width;
  image.height = height;
  image.pixels = pixels;
  return image;
}

static hr_image_options small_options(void) {
  hr_image_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.threads = 1;
  options.max_picture_width = options.max_picture_height = 256;
  return options;
}

/* The logits of one picture; 0 after a counted failure. */
static size_t logits_of(hr_image_session* session, const hr_image* image, float* out) {
  const float* logits = NULL;
  size_t count = 0;
  hr_error error;
  EXPECT_STATUS(HR_OK, &error, hr_image_session_run(session, image, 1, &error));
  EXPECT_STATUS(HR_OK, &error, hr_image_session_logits(session, 0, &logits, &count, &error));
  if (logits == NULL || count > CLASSES) return 0;
  memcpy(out, logits, count * sizeof(float));
  return count;
}

static int same_results(hr_image_session* session, const hr_image* a, const hr_image* b) {
  float first[CLASSES], second[CLASSES];
  const size_t count = logits_of(session, a, first);
  return count != 0 && logits_of(session, b, second) == count &&
         memcmp(first, second, count * sizeof(float)) == 0;
}

static void facts_and_labels(const hr_model* model) {
  hr_image_model_facts facts;
  hr_model_facts general;
  hr_error error;
  const char* label = NULL;
  size_t i;
  memset(&facts, 0, sizeof(facts));
  memset(&general, 0, sizeof(general));
  facts.struct_size = sizeof(facts);
  general.struct_size = sizeof(general);
  NEED(hr_image_model_get_facts(model, &facts, &error));
  EXPECT(facts.height > 0 && facts.width > 0 && facts.features > 0 && facts.has_labels);
  EXPECT(facts.classes > 1 && facts.classes <= CLASSES);
  NEED(hr_model_get_facts(model, &general));
  for (i = 0; i < facts.classes; ++i) {
    label = NULL;
    EXPECT_STATUS(HR_OK, &error, hr_model_label(model, i, &label, &error));
    EXPECT(label != NULL && label[0] != '\0');
  }
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_model_label(model, facts.classes, &label, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_model_label(model, (size_t)-1, &label, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_model_label(model, 0, NULL, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_model_label(NULL, 0, &label, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_model_get_facts(NULL, &facts, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_model_get_facts(model, NULL, &error));
  /* An app built against a header that ended before `features`. */
  memset(&facts, 0x5a, sizeof(facts));
  facts.struct_size = offsetof(hr_image_model_facts, features);
  NEED(hr_image_model_get_facts(model, &facts, &error));
  EXPECT(facts.classes <= CLASSES && facts.features == 0x5a5a5a5au);
}

/* With exactly the missing bytes more, the plan fits; with one less, it does not. */
static void plans_refuse_to_the_byte(hr_model* model) {
  hr_image_options options = small_options();
  hr_image_plan_report report, kept;
  hr_image_session* session = NULL;
  hr_error error;
  uint64_t missing;
  memset(&report, 0, sizeof(report));
  memset(&kept, 0, sizeof(kept));
  report.struct_size = kept.struct_size = sizeof(report);
  NEED(hr_image_plan(model, NULL, &report, &error));
  EXPECT(report.fits && report.batch == 1 && report.threads >= 1 && report.multiply_adds > 0);
  EXPECT(report.total_bytes == report.mapped_bytes + report.private_bytes);
  EXPECT(report.total_bytes == report.weight_bytes + report.packed_bytes + report.activation_bytes +
                                   report.scratch_bytes + report.runtime_bytes);
  options.batch = 2;
  options.budget_bytes = 4096;
  NEED(hr_image_plan(model, &options, &report, &error));
  missing = report.missing_bytes;
  EXPECT(!report.fits && missing > 0 && report.largest_batch == 0 && report.largest_side == 0);
  EXPECT_STATUS(HR_OVER_BUDGET, &error, hr_image_session_create(model, &options, &session, &error));
  EXPECT(session == NULL && strstr(error.text, "bytes missing") != NULL);
  options.budget_bytes = 4096 + missing - 1;
  NEED(hr_image_plan(model, &options, &report, &error));
  EXPECT(!report.fits && report.missing_bytes == 1 && report.largest_batch == 1);
  EXPECT_STATUS(HR_OVER_BUDGET, &error, hr_image_session_create(model, &options, &session, &error));
  options.budget_bytes = 4096 + missing;
  NEED(hr_image_plan(model, &options, &report, &error));
  EXPECT(report.fits && report.missing_bytes == 0 && report.largest_batch == 2);
  NEED(hr_image_session_create(model, &options, &session, &error));
  NEED(hr_image_session_get_plan(session, &kept));
  EXPECT(kept.total_bytes == report.total_bytes && kept.fits && kept.batch == 2);
  hr_image_session_release(session);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_plan(NULL, &options, &report, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_plan(model, &options, NULL, &error));
  options.threads = 257;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_plan(model, &options, &report, &error));
  options = small_options();
  options.batch = 4097;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_plan(model, &options, &report, &error));
  options = small_options();
  options.height = 16385;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_plan(model, &options, &report, &error));
  options = small_options();
  options.max_picture_width = 16385;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_plan(model, &options, &report, &error));
}

/* The same colours however they lie in memory. */
static void layouts_are_alike(hr_image_session* session) {
  static unsigned char rgb[PIXELS * 3], other[HEIGHT * (WIDTH * 4 + GAP)];
  const hr_image upright = picture_of(HR_PIXELS_RGB, WIDTH, HEIGHT, rgb);
  hr_image image = picture_of(HR_PIXELS_RGBA, WIDTH, HEIGHT, other);
  float logits[CLASSES], turned[CLASSES];
  int bgr, i, c;
  draw(rgb, 0);
  image.row_bytes = WIDTH * 4 + GAP;
  for (bgr = 0; bgr < 2; ++bgr) {
    image.format = bgr ? HR_PIXELS_BGRA : HR_PIXELS_RGBA;
    memset(other, 0xee, sizeof(other));
    for (i = 0; i < PIXELS; ++i) {
      unsigned char* to = other + (size_t)(i / WIDTH) * image.row_bytes + (size_t)(i % WIDTH) * 4;
      for (c = 0; c < 3; ++c) to[bgr ? 2 - c : c] = rgb[i * 3 + c];
      to[3] = (unsigned char)i; /* alpha, ignored */
    }
    EXPECT(same_results(session, &upright, &image));
  }
  /* Turned, it is another picture; with the turn said, it is the same. */
  for (i = 0; i < PIXELS; ++i) {
    const int row = i / WIDTH, column = i % WIDTH;
    memcpy(other + ((size_t)(WIDTH - 1 - column) * HEIGHT + row) * 3, rgb + i * 3, 3);
  }
  image = picture_of(HR_PIXELS_RGB, HEIGHT, WIDTH, other);
  EXPECT(logits_of(session, &upright, logits) > 0 && logits_of(session, &image, turned) > 0);
  EXPECT(memcmp(logits, turned, 2 * sizeof(float)) != 0);
  image.rotation = 90;
  EXPECT(same_results(session, &upright, &image));
  for (i = 0; i < PIXELS; ++i) {
    memcpy(other + ((size_t)(i / WIDTH) * WIDTH + (WIDTH - 1 - i % WIDTH)) * 3, rgb + i * 3, 3);
  }
  image = picture_of(HR_PIXELS_RGB, WIDTH, HEIGHT, other);
  image.mirrored = true;
  EXPECT(same_results(session, &upright, &image));
}

/* A gray picture as a camera gives it: brightness turned by 270 degrees, no colour. */
static void cameras_are_understood(hr_image_session* session) {
  static unsigned char rgb[PIXELS * 3], gray[PIXELS], turned[WIDTH * (HEIGHT + GAP)],
      chroma[((WIDTH + 1) / 2) * (HEIGHT + 1 + GAP)];
  const hr_image upright = picture_of(HR_PIXELS_RGB, WIDTH, HEIGHT, rgb);
  hr_image image = picture_of(HR_PIXELS_GRAY, WIDTH, HEIGHT, gray);
  int i;
  draw(rgb, 1);
  for (i = 0; i < PIXELS; ++i) gray[i] = rgb[i * 3];
  EXPECT(same_results(session, &upright, &image));
  memset(chroma, 128, sizeof(chroma));
  for (i = 0; i < PIXELS; ++i) {
    turned[(i % WIDTH) * (HEIGHT + GAP) + HEIGHT - 1 - i / WIDTH] = gray[i];
  }
  image = picture_of(HR_PIXELS_NV21, HEIGHT, WIDTH, turned);
  image.row_bytes = HEIGHT + GAP;
  image.chroma = chroma;
  image.chroma_row_bytes = HEIGHT + 1 + GAP;
  image.rotation = 270;
  EXPECT(same_results(session, &upright, &image));
  image.format = HR_PIXELS_NV12;
  EXPECT(same_results(session, &upright, &image));
  image.rotation = 0;
  EXPECT(!same_results(session, &upright, &image));
}

static void results_in_order(hr_image_session* session, const hr_model* model) {
  static unsigned char rgb[PIXELS * 3];
  const hr_image image = picture_of(HR_PIXELS_RGB, WIDTH, HEIGHT, rgb);
  hr_image_model_facts facts;
  hr_class top[CLASSES + 4];
  const float* logits = NULL;
  const float* features = NULL;
  const char* label = NULL;
  size_t count = 0, found = 0, i;
  double sum = 0;
  hr_error error;
  memset(&facts, 0, sizeof(facts));
  facts.struct_size = sizeof(facts);
  NEED(hr_image_model_get_facts(model, &facts, &error));
  draw(rgb, 0);
  NEED(hr_image_session_run(session, &image, 1, &error));
  NEED(hr_image_session_logits(session, 0, &logits, &count, &error));
  EXPECT(count == facts.classes);
  NEED(hr_image_session_top(session, 0, top, CLASSES + 4, &found, &error));
  EXPECT(found == facts.classes); /* fewer than asked for */
  for (i = 0; i < found; ++i) {
    EXPECT(top[i].logit == logits[top[i].index]);
    EXPECT(i == 0 || top[i - 1].logit > top[i].logit ||
           (top[i - 1].logit == top[i].logit && top[i - 1].index < top[i].index));
    EXPECT_STATUS(HR_OK, NULL, hr_model_label(model, top[i].index, &label, NULL));
    EXPECT(label == top[i].label);
    sum += top[i].probability;
  }
  EXPECT(sum > 0.99999 && sum < 1.00001);
  top[2].index = 12345;
  NEED(hr_image_session_top(session, 0, top, 2, &found, &error));
  EXPECT(found == 2 && top[2].index == 12345);
  EXPECT_STATUS(HR_OK, &error, hr_image_session_top(session, 0, NULL, 0, &found, &error));
  EXPECT(found == 0);
  NEED(hr_image_session_features(session, 0, &features, &count, &error));
  EXPECT(count == facts.features && features != logits);
  EXPECT_STATUS(HR_WRONG_STATE, &error,
                hr_image_session_logits(session, 1, &logits, &count, &error));
  EXPECT_STATUS(HR_WRONG_STATE, &error,
                hr_image_session_logits(session, (size_t)1 << 33, &logits, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_image_session_top(session, 0, top, 1, NULL, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_image_session_top(session, 0, NULL, 1, &found, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_image_session_logits(session, 0, NULL, &count, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_image_session_features(session, 0, &features, NULL, &error));
}

static void wrong_pictures_are_refused(hr_image_session* session) {
  static unsigned char rgb[PIXELS * 3];
  const hr_image good = picture_of(HR_PIXELS_RGB, WIDTH, HEIGHT, rgb);
  hr_image two[2], image = good;
  const float* logits = NULL;
  size_t count = 0;
  hr_error error;
  two[0] = two[1] = good;
#define REFUSED(change)                                                                           \
  do {                                                                                            \
    image = good;                                                                                 \
    change;                                                                                       \
    EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_session_run(session, &image, 1, &error)); \
  } while (0)
  REFUSED(image.format = 6);
  REFUSED(image.format = -1);
  REFUSED(image.width = 0);
  REFUSED(image.height = 0);
  REFUSED(image.width = 257; image.row_bytes = 0); /* larger than the session was made for */
  REFUSED(image.pixels = NULL);
  REFUSED(image.row_bytes = WIDTH * 3 - 1);
  REFUSED(image.rotation = 45);
  REFUSED(image.format = HR_PIXELS_NV21); /* no chroma */
#undef REFUSED
  EXPECT_STATUS(HR_WRONG_STATE, &error,
                hr_image_session_logits(session, 0, &logits, &count, &error));
  two[1].rotation = 1;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_session_run(session, two, 2, &error));
  EXPECT(strstr(error.text, "picture 1") != NULL);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_session_run(session, two, 0, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_session_run(session, two, 3, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_session_run(session, NULL, 1, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_session_run(NULL, two, 1, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_session_run_values(session, NULL, 1, &error));
  /* An app built against a header that ended before `rotation`. */
  image = good;
  image.struct_size = offsetof(hr_image, rotation);
  image.rotation = 77;
  EXPECT_STATUS(HR_OK, &error, hr_image_session_run(session, &image, 1, &error));
}

/* Numbers that are preprocessed already, twice in a batch, and shown to an observer. */
static void on_value(void* user_data, uint32_t value, const float* x, size_t positions,
                     size_t stride, size_t channels) {
  size_t* seen = (size_t*)user_data;
  if (value == 0 && channels == 3 && stride == 3 && x[0] == 0.25f) seen[0] = positions;
  ++seen[1];
}

static void values_are_run(hr_image_session* session) {
  hr_image_plan_report plan;
  hr_image_stats before, stats;
  const float *first = NULL, *second = NULL;
  size_t count = 0, numbers, i, seen[2] = {0, 0};
  float* values;
  hr_error error;
  memset(&plan, 0, sizeof(plan));
  memset(&stats, 0, sizeof(stats));
  memset(&before, 0, sizeof(before));
  plan.struct_size = sizeof(plan);
  stats.struct_size = before.struct_size = sizeof(stats);
  NEED(hr_image_session_get_plan(session, &plan));
  NEED(hr_image_session_get_stats(session, &before));
  numbers = (size_t)plan.height * plan.width * 3;
  values = (float*)malloc(2 * numbers * sizeof(float));
  if (values == NULL) return;
  for (i = 0; i < 2 * numbers; ++i) values[i] = 0.25f + 0.01f * (float)(i % numbers % 97);
  NEED(hr_image_session_observe(session, on_value, seen));
  EXPECT_STATUS(HR_OK, &error, hr_image_session_run_values(session, values, 2, &error));
  NEED(hr_image_session_observe(session, NULL, NULL));
  EXPECT(seen[0] == 2 * (size_t)plan.height * plan.width && seen[1] > 2);
  NEED(hr_image_session_logits(session, 0, &first, &count, &error));
  NEED(hr_image_session_logits(session, 1, &second, &count, &error));
  EXPECT(memcmp(first, second, count * sizeof(float)) == 0);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_image_session_run_values(session, values, 3, &error));
  NEED(hr_image_session_get_stats(session, &stats));
  EXPECT(stats.pictures == before.pictures + 2 && stats.runs == before.runs + 1);
  EXPECT(stats.planned_bytes > 0 && stats.peak_bytes == stats.planned_bytes);
  EXPECT(stats.touched_bytes > 0 && stats.load_ns > 0 && stats.run_ns > before.run_ns);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_image_session_get_stats(NULL, &stats));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_image_session_get_stats(session, NULL));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_image_session_get_plan(session, NULL));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_image_session_observe(NULL, on_value, seen));
  free(values);
}

static void files_are_decoded(void) {
  static const char kHeader[] = "P6\n4 2\n255\n";
  static const char kHuge[] = "P6\n16000 16000\n255\n";
  unsigned char file[sizeof(kHeader) - 1 + 24], hostile[sizeof(kHuge)];
  hr_decoded_image* decoded = NULL;
  hr_image image;
  hr_error error;
  size_t i;
  memcpy(file, kHeader, sizeof(kHeader) - 1);
  memcpy(hostile, kHuge, sizeof(kHuge));
  for (i = 0; i < 24; ++i) file[sizeof(kHeader) - 1 + i] = (unsigned char)(i * 9);
  memset(&image, 0, sizeof(image));
  image.struct_size = sizeof(image);
  NEED(hr_image_decode(file, sizeof(file), 0, &decoded, &error));
  NEED(hr_decoded_image_get(decoded, &image));
  EXPECT(image.format == HR_PIXELS_RGB && image.width == 4 && image.height == 2);
  EXPECT(memcmp(image.pixels, file + sizeof(kHeader) - 1, 12) == 0);
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_decoded_image_get(decoded, NULL));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, NULL, hr_decoded_image_get(NULL, &image));
  hr_decoded_image_release(decoded);
  decoded = NULL;
  EXPECT_STATUS(HR_OVER_BUDGET, &error, hr_image_decode(file, sizeof(file), 8, &decoded, &error));
  EXPECT(hr_image_decode(hostile, sizeof(hostile), 1 << 20, &decoded, &error) != HR_OK);
  EXPECT(hr_image_decode(file, sizeof(file) - 1, 0, &decoded, &error) != HR_OK);
  EXPECT(hr_image_decode("no picture", 10, 0, &decoded, &error) != HR_OK);
  EXPECT(hr_image_decode(NULL, 0, 0, &decoded, &error) != HR_OK);
  EXPECT(decoded == NULL && error.text[0] != '\0');
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_decode(NULL, 5, 0, &decoded, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error, hr_image_decode(file, 5, 0, NULL, &error));
  hr_decoded_image_release(NULL);
}

/* Each kind of model refuses the other kind's calls. */
static void kinds_are_kept_apart(hr_model* vision, hr_model* language) {
  hr_session_options options;
  hr_plan_report plan;
  hr_session* session = NULL;
  hr_image_session* images = NULL;
  hr_image_plan_report image_plan;
  hr_image_model_facts facts;
  const char* label = NULL;
  hr_error error;
  memset(&options, 0, sizeof(options));
  memset(&plan, 0, sizeof(plan));
  memset(&image_plan, 0, sizeof(image_plan));
  memset(&facts, 0, sizeof(facts));
  options.struct_size = sizeof(options);
  plan.struct_size = sizeof(plan);
  image_plan.struct_size = sizeof(image_plan);
  facts.struct_size = sizeof(facts);
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_session_create(vision, &options, &session, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_plan(vision, &options, &plan, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_image_plan(language, NULL, &image_plan, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_image_session_create(language, NULL, &images, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_image_model_get_facts(language, &facts, &error));
  EXPECT_STATUS(HR_UNSUPPORTED, &error, hr_model_label(language, 0, &label, &error));
  EXPECT(session == NULL && images == NULL);
}

static void with_a_session(hr_model* model) {
  hr_image_options options = small_options();
  hr_image_session* session = NULL;
  const float* logits = NULL;
  size_t count = 0;
  hr_class top;
  hr_error error;
  options.batch = 2;
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_image_session_create(NULL, &options, &session, &error));
  EXPECT_STATUS(HR_INVALID_ARGUMENT, &error,
                hr_image_session_create(model, &options, NULL, &error));
  NEED(hr_image_session_create(model, &options, &session, &error));
  EXPECT_STATUS(HR_WRONG_STATE, &error,
                hr_image_session_logits(session, 0, &logits, &count, &error));
  EXPECT_STATUS(HR_WRONG_STATE, &error,
                hr_image_session_features(session, 0, &logits, &count, &error));
  EXPECT_STATUS(HR_WRONG_STATE, &error, hr_image_session_top(session, 0, &top, 1, &count, &error));
  hr_image_session_cancel(session); /* nothing runs: without effect */
  hr_image_session_cancel(NULL);
  layouts_are_alike(session);
  cameras_are_understood(session);
  results_in_order(session, model);
  wrong_pictures_are_refused(session);
  values_are_run(session);
  hr_image_session_release(session);
  hr_image_session_release(NULL);
}

void walk_pictures(const walk_input* input) {
  hr_model* vision = walk_open(input->vision_path, NULL);
  hr_model* language = walk_open(input->text_path, NULL);
  if (vision != NULL && language != NULL) {
    facts_and_labels(vision);
    plans_refuse_to_the_byte(vision);
    kinds_are_kept_apart(vision, language);
    with_a_session(vision);
  }
  files_are_decoded();
  hr_model_release(vision);
  hr_model_release(language);
}
