// extern "C" shims: pictures and vision models. No logic.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "api/guard.h"
#include "api/handles.h"
#include "base/platform.h"
#include "session/image_session.h"
#include "vision/decode.h"
#include "vision/preprocess.h"

using headroom::Result;
using headroom::Status;
using headroom::StatusCode;
using headroom::api::CopyIn;
using headroom::api::CopyOut;
using headroom::api::Guarded;
using headroom::api::NullArgument;
using headroom::api::Report;
namespace plan = headroom::plan;
namespace vision = headroom::vision;
using headroom::session::ImageSession;

struct hr_decoded_image {
  vision::DecodedImage image;
};

struct hr_image_session {
  std::unique_ptr<ImageSession> session;
  headroom::model::PreprocessSpec preprocess;  // for this session's size
  uint32_t max_width = 0, max_height = 0;      // of pictures
  uint64_t preprocess_ns = 0;
};

namespace {

constexpr uint32_t kMaxThreads = 256;
constexpr uint32_t kDefaultPictureSide = 4096;
constexpr uint64_t kDefaultDecodeBytes = uint64_t{256} << 20;

const headroom::model::ImageGraph& GraphOf(const hr_model& model) {
  return model.engine->model().image;
}

Status CheckTakesPictures(const hr_model& model) {
  if (model.engine->is_image()) return {};
  return Status::Make(StatusCode::kUnsupported, "this model takes no pictures");
}

// What planning asks of preprocessing.
struct Preparing {
  headroom::model::PreprocessSpec spec;
  uint32_t max_width, max_height;
  static uint64_t ScratchBytes(const void* context, const plan::ImageSize& size) {
    const auto& self = *static_cast<const Preparing*>(context);
    const auto scaled = vision::ScaleTo(self.spec, size.height, size.width);
    return vision::PreprocessScratchBytes(scaled, self.max_width, self.max_height);
  }
};

struct Limits {
  plan::ImageLimits limits;
  Preparing preparing;
};

Status LimitsOf(const hr_model& model, const hr_image_options* given, Limits* out) {
  HR_RETURN_IF_ERROR(CheckTakesPictures(model));
  const hr_image_options options = CopyIn(given);
  if (options.threads > kMaxThreads) {
    return Status::Make(StatusCode::kInvalidArgument, "threads %u > %u", options.threads,
                        kMaxThreads);
  }
  const auto side = [](uint32_t asked) { return asked == 0 ? kDefaultPictureSide : asked; };
  const uint32_t width = side(options.max_picture_width), height = side(options.max_picture_height);
  if (width > vision::kMaxSide || height > vision::kMaxSide) {
    return Status::Make(StatusCode::kInvalidArgument, "pictures up to %u x %u > %u", height, width,
                        vision::kMaxSide);
  }
  out->preparing = {GraphOf(model).preprocess, width, height};
  HR_RETURN_IF_ERROR(vision::CheckPreprocess(out->preparing.spec));
  out->limits.budget_bytes = options.budget_bytes;
  out->limits.private_budget_bytes = options.private_budget_bytes;
  out->limits.size = {std::max(options.batch, 1u), options.height, options.width};
  out->limits.threads =
      options.threads != 0 ? options.threads : headroom::platform::FastCoreCount();
  out->limits.caller_scratch_bytes = Preparing::ScratchBytes;
  out->limits.caller_context = &out->preparing;
  return {};
}

hr_image_plan_report ReportOf(const plan::ImagePlan& plan) {
  hr_image_plan_report report = {};
  report.fits = plan.fits;
  report.missing_bytes = plan.missing_bytes;
  report.total_bytes = plan.total_bytes;
  report.mapped_bytes = plan.mapped_bytes;
  report.private_bytes = plan.private_bytes;
  report.weight_bytes = plan.weight_bytes;
  report.packed_bytes = plan.packed_bytes;
  report.activation_bytes = plan.activation_bytes;
  report.scratch_bytes = plan.scratch_bytes;
  report.runtime_bytes = plan.runtime_bytes;
  report.multiply_adds = plan.multiply_adds;
  report.batch = plan.size.batch;
  report.height = plan.size.height;
  report.width = plan.size.width;
  report.threads = plan.threads;
  report.largest_batch = plan.largest_batch;
  report.largest_side = plan.largest_side;
  return report;
}

Result<vision::PixelView> ViewOf(const hr_image& given) {
  const hr_image image = CopyIn(&given);
  if (image.format < HR_PIXELS_RGB || image.format > HR_PIXELS_NV12) {
    return Status::Make(StatusCode::kInvalidArgument, "pixel format %d, known are 0..%d",
                        image.format, HR_PIXELS_NV12);
  }
  constexpr uint32_t kPixelBytes[] = {3, 4, 4, 1, 1, 1};
  vision::PixelView view;
  view.format = static_cast<vision::PixelFormat>(image.format);
  view.data = static_cast<const uint8_t*>(image.pixels);
  view.chroma = static_cast<const uint8_t*>(image.chroma);
  view.width = image.width;
  view.height = image.height;
  view.row_bytes =
      image.row_bytes != 0 ? image.row_bytes : size_t{image.width} * kPixelBytes[image.format];
  view.chroma_row_bytes =
      image.chroma_row_bytes != 0 ? image.chroma_row_bytes : (size_t{image.width} + 1) / 2 * 2;
  view.rotation = image.rotation;
  view.mirrored = image.mirrored;
  HR_RETURN_IF_ERROR(vision::CheckPixels(view));
  return view;
}

Status Named(size_t index, const Status& status) {
  if (status.ok()) return status;
  return Status::Make(status.code(), "picture %zu: %s", index, status.message());
}

Status PrepareOne(hr_image_session& session, const hr_image& image, uint32_t index) {
  HR_ASSIGN_OR_RETURN(const vision::PixelView view, ViewOf(image));
  if (view.width > session.max_width || view.height > session.max_height) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "%u x %u pixels (height x width), the session was made for up to %u x %u",
                        view.height, view.width, session.max_height, session.max_width);
  }
  const plan::ImageSize& size = session.session->plan().size;
  return vision::Preprocess(view, session.preprocess, session.session->caller_scratch(),
                            {session.session->input(index), size_t{size.height} * size.width * 3});
}

Status CheckCount(const hr_image_session& session, size_t count) {
  const uint32_t batch = session.session->plan().size.batch;
  if (count >= 1 && count <= batch) return {};
  return Status::Make(StatusCode::kInvalidArgument, "%zu pictures, not 1..%u", count, batch);
}

Status RunAndRest(hr_image_session& session, size_t count) {
  const Status status = session.session->Run(static_cast<uint32_t>(count));
  session.session->Rest();
  return status;
}

Status LendVector(const hr_image_session& session, size_t index, bool features, const float** out,
                  size_t* out_count) {
  const auto& graph = session.session->engine().model().image;
  if (features && graph.features == headroom::model::kNone) {
    return Status::Make(StatusCode::kUnsupported, "this model names no features");
  }
  const auto at = static_cast<uint32_t>(std::min<size_t>(index, UINT32_MAX));
  const auto lent = features ? session.session->features(at) : session.session->logits(at);
  if (lent.empty()) {
    return Status::Make(StatusCode::kWrongState, "there is no result of picture %zu", index);
  }
  *out = lent.data();
  *out_count = lent.size();
  return {};
}

hr_status Lend(const hr_image_session* session, size_t index, bool features, const float** out,
               size_t* out_count, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (out == nullptr || out_count == nullptr) return NullArgument("an out-parameter", error);
    return Report(LendVector(*session, index, features, out, out_count), error);
  });
}

const char* LabelOf(const headroom::model::ImageGraph& graph, size_t index) {
  return graph.labels.empty() ? "" : graph.labels[index].data();  // FlatBuffers' end in a NUL
}

// The best `count`, best first, by insertion: few are asked for, and nothing is allocated.
size_t TopOf(const headroom::model::ImageGraph& graph, const float* logits, size_t classes,
             hr_class* top, size_t count) {
  size_t found = 0;
  double sum = 0.0;
  const float largest = *std::max_element(logits, logits + classes);
  for (size_t i = 0; i < classes; ++i) sum += std::exp(static_cast<double>(logits[i] - largest));
  for (size_t i = 0; i < classes; ++i) {
    if (found == count && (count == 0 || !(logits[i] > top[count - 1].logit))) continue;
    size_t at = found < count ? found++ : count - 1;
    for (; at > 0 && logits[i] > top[at - 1].logit; --at) top[at] = top[at - 1];
    const double part = std::exp(static_cast<double>(logits[i] - largest)) / sum;
    top[at] = {static_cast<uint32_t>(i), logits[i], static_cast<float>(part), LabelOf(graph, i)};
  }
  return found;
}

}  // namespace

extern "C" {

hr_status hr_image_decode(const void* file, size_t bytes, uint64_t limit_bytes,
                          hr_decoded_image** out_image, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (out_image == nullptr) return NullArgument("out_image", error);
    *out_image = nullptr;
    if (file == nullptr && bytes != 0) return NullArgument("file", error);
    auto decoded = vision::Decode({static_cast<const std::byte*>(file), bytes},
                                  limit_bytes == 0 ? kDefaultDecodeBytes : limit_bytes);
    if (!decoded.ok()) return Report(decoded.status(), error);
    *out_image = new hr_decoded_image{decoded.Take()};
    return Report({}, error);
  });
}

hr_status hr_decoded_image_get(const hr_decoded_image* decoded, hr_image* out_image) {
  if (decoded == nullptr || out_image == nullptr) return HR_INVALID_ARGUMENT;
  const vision::PixelView view = decoded->image.View();
  hr_image image = {};
  image.format = HR_PIXELS_RGB;
  image.width = view.width;
  image.height = view.height;
  image.pixels = view.data;
  image.row_bytes = view.row_bytes;
  image.rotation = view.rotation;
  image.mirrored = view.mirrored;
  CopyOut(image, out_image);
  return HR_OK;
}

void hr_decoded_image_release(hr_decoded_image* decoded) { delete decoded; }

hr_status hr_image_model_get_facts(const hr_model* model, hr_image_model_facts* out_facts,
                                   hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_facts == nullptr) return NullArgument("out_facts", error);
    const Status status = CheckTakesPictures(*model);
    if (!status.ok()) return Report(status, error);
    const auto& graph = GraphOf(*model);
    hr_image_model_facts facts = {};
    facts.height = graph.preprocess.crop_height;
    facts.width = graph.preprocess.crop_width;
    facts.classes = graph.values[static_cast<size_t>(graph.logits)].channels;
    if (graph.features != headroom::model::kNone) {
      facts.features = graph.values[static_cast<size_t>(graph.features)].channels;
    }
    facts.has_labels = !graph.labels.empty();
    CopyOut(facts, out_facts);
    return Report({}, error);
  });
}

hr_status hr_model_label(const hr_model* model, size_t index, const char** out_label,
                         hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_label == nullptr) return NullArgument("out_label", error);
    Status status = CheckTakesPictures(*model);
    if (status.ok() && index >= model->engine->model().metadata.vocabulary) {
      status = Status::Make(StatusCode::kInvalidArgument, "class %zu of %u", index,
                            model->engine->model().metadata.vocabulary);
    }
    if (status.ok()) *out_label = LabelOf(GraphOf(*model), index);
    return Report(status, error);
  });
}

hr_status hr_image_plan(const hr_model* model, const hr_image_options* options,
                        hr_image_plan_report* out_report, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_report == nullptr) return NullArgument("out_report", error);
    Limits limits;
    const Status status = LimitsOf(*model, options, &limits);
    if (!status.ok()) return Report(status, error);
    const auto plan = headroom::session::PlanImages(*model->engine, limits.limits);
    if (!plan.ok()) return Report(plan.status(), error);
    CopyOut(ReportOf(plan.value()), out_report);
    return Report({}, error);
  });
}

hr_status hr_image_session_create(hr_model* model, const hr_image_options* options,
                                  hr_image_session** out_session, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_session == nullptr) return NullArgument("out_session", error);
    *out_session = nullptr;
    Limits limits;
    const Status status = LimitsOf(*model, options, &limits);
    if (!status.ok()) return Report(status, error);
    auto session = ImageSession::Create(model->engine, limits.limits);
    if (!session.ok()) return Report(session.status(), error);
    auto handle = std::make_unique<hr_image_session>();
    handle->session = session.Take();
    handle->max_width = limits.preparing.max_width;
    handle->max_height = limits.preparing.max_height;
    const plan::ImageSize& size = handle->session->plan().size;
    handle->preprocess = vision::ScaleTo(limits.preparing.spec, size.height, size.width);
    *out_session = handle.release();
    return Report({}, error);
  });
}

void hr_image_session_release(hr_image_session* session) { delete session; }

hr_status hr_image_session_run(hr_image_session* session, const hr_image* images, size_t count,
                               hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (images == nullptr) return NullArgument("images", error);
    Status status = CheckCount(*session, count);
    session->session->ClearCancel();
    const uint64_t start = headroom::platform::NowNs();
    if (status.ok()) session->session->Forget();
    // Structs of an older or newer caller lie as far apart as they are large there.
    const size_t stride = images->struct_size == 0 ? sizeof(hr_image) : images->struct_size;
    const auto* at = reinterpret_cast<const std::byte*>(images);
    for (size_t i = 0; i < count && status.ok(); ++i, at += stride) {
      const auto& image = *reinterpret_cast<const hr_image*>(at);
      status = Named(i, PrepareOne(*session, image, static_cast<uint32_t>(i)));
    }
    session->preprocess_ns += headroom::platform::NowNs() - start;
    if (status.ok()) status = RunAndRest(*session, count);
    return Report(status, error);
  });
}

hr_status hr_image_session_run_values(hr_image_session* session, const float* values, size_t count,
                                      hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (values == nullptr) return NullArgument("values", error);
    const Status status = CheckCount(*session, count);
    if (!status.ok()) return Report(status, error);
    session->session->ClearCancel();
    const plan::ImageSize& size = session->session->plan().size;
    const size_t floats = size_t{size.height} * size.width * 3;
    std::copy(values, values + count * floats, session->session->input(0));
    return Report(RunAndRest(*session, count), error);
  });
}

hr_status hr_image_session_logits(const hr_image_session* session, size_t index,
                                  const float** out_logits, size_t* out_count, hr_error* error) {
  return Lend(session, index, false, out_logits, out_count, error);
}

hr_status hr_image_session_features(const hr_image_session* session, size_t index,
                                    const float** out_features, size_t* out_count,
                                    hr_error* error) {
  return Lend(session, index, true, out_features, out_count, error);
}

hr_status hr_image_session_top(const hr_image_session* session, size_t index, hr_class* classes,
                               size_t count, size_t* out_count, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (out_count == nullptr) return NullArgument("out_count", error);
    *out_count = 0;
    if (classes == nullptr && count != 0) return NullArgument("classes", error);
    const float* logits = nullptr;
    size_t known = 0;
    const Status status = LendVector(*session, index, false, &logits, &known);
    if (!status.ok()) return Report(status, error);
    *out_count = TopOf(session->session->engine().model().image, logits, known, classes, count);
    return Report({}, error);
  });
}

void hr_image_session_cancel(hr_image_session* session) {
  if (session != nullptr) session->session->Cancel();
}

hr_status hr_image_session_get_stats(const hr_image_session* session, hr_image_stats* out_stats) {
  if (session == nullptr || out_stats == nullptr) return HR_INVALID_ARGUMENT;
  const headroom::session::ImageStats& from = session->session->stats();
  const headroom::Arena& arena = session->session->arena();
  hr_image_stats stats = {};
  stats.pictures = from.pictures;
  stats.runs = from.runs;
  stats.preprocess_ns = session->preprocess_ns;
  stats.run_ns = from.run_ns;
  stats.load_ns = from.load_ns;
  stats.weights_packed_now = from.weights_packed_now;
  stats.planned_bytes = session->session->plan().arena_bytes();
  stats.peak_bytes = arena.peak_bytes();
  stats.touched_bytes = headroom::platform::TouchedBytes(arena.data(), arena.capacity_bytes());
  CopyOut(stats, out_stats);
  return HR_OK;
}

hr_status hr_image_session_get_plan(const hr_image_session* session,
                                    hr_image_plan_report* out_report) {
  if (session == nullptr || out_report == nullptr) return HR_INVALID_ARGUMENT;
  CopyOut(ReportOf(session->session->plan()), out_report);
  return HR_OK;
}

hr_status hr_image_session_observe(hr_image_session* session,
                                   void (*on_value)(void* user_data, uint32_t value, const float* x,
                                                    size_t positions, size_t stride,
                                                    size_t channels),
                                   void* user_data) {
  if (session == nullptr) return HR_INVALID_ARGUMENT;
  session->session->Observe({on_value, user_data});
  return HR_OK;
}

}  // extern "C"
