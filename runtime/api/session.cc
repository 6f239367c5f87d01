// extern "C" shims: plans, sessions, generation. No logic.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "api/guard.h"
#include "api/handles.h"
#include "base/platform.h"
#include "text/generate.h"

using headroom::Result;
using headroom::Status;
using headroom::StatusCode;
using headroom::api::CopyIn;
using headroom::api::CopyOut;
using headroom::api::Guarded;
using headroom::api::NullArgument;
using headroom::api::Report;
namespace plan = headroom::plan;
namespace text = headroom::text;

namespace {

constexpr uint32_t kMaxThreads = 256;
constexpr size_t kMaxProfileBytes = 4096;

template <size_t kBytes>
void CopyText(std::string_view from, char (&to)[kBytes]) {
  const size_t bytes = std::min(from.size(), kBytes - 1);
  std::memcpy(to, from.data(), bytes);
  to[bytes] = '\0';
}

int32_t KvOf(const std::string& profile) {
  for (int i = 0; i < headroom::kRowCodecs; ++i) {
    if (profile == headroom::RowCodecName(static_cast<headroom::RowCodec>(i))) {
      return HR_KV_F32 + i;
    }
  }
  return HR_KV_PROFILE;
}

Result<plan::Limits> LimitsOf(const hr_model& model, const hr_session_options* given) {
  const hr_session_options options = CopyIn(given);
  if (options.kv < HR_KV_AUTO || options.kv >= HR_KV_PROFILE) {
    return Status::Make(StatusCode::kInvalidArgument, "kv %d, known are 0..%d", options.kv,
                        HR_KV_PROFILE - 1);
  }
  if (options.profile != nullptr && options.kv != HR_KV_AUTO) {
    return Status::Make(StatusCode::kInvalidArgument, "profile \"%.100s\" beside kv %d",
                        options.profile, options.kv);
  }
  if (options.profile != nullptr && std::strlen(options.profile) > kMaxProfileBytes) {
    return Status::Make(StatusCode::kInvalidArgument, "profile of %zu bytes > %zu",
                        std::strlen(options.profile), kMaxProfileBytes);
  }
  if (options.backend != HR_BACKEND_CPU) {
    return Status::Make(StatusCode::kUnsupported, "backend %d: this build has only the CPU (0)",
                        options.backend);
  }
  if (options.threads > kMaxThreads) {
    return Status::Make(StatusCode::kInvalidArgument, "threads %u > %u", options.threads,
                        kMaxThreads);
  }
  plan::Limits limits;
  limits.budget_bytes = options.budget_bytes;
  limits.private_budget_bytes = options.private_budget_bytes;
  limits.context = options.context_tokens;
  limits.chunk = options.chunk_tokens;
  limits.threads = options.threads != 0 ? options.threads : headroom::platform::FastCoreCount();
  limits.codec = static_cast<plan::CodecChoice>(options.kv);
  if (options.profile != nullptr) limits.profile = options.profile;
  limits.checkpoint_bytes = options.checkpoint_bytes;
  limits.checkpoint_tokens = options.checkpoint_tokens;
  limits.caller_scratch_bytes =
      text::SamplerScratchBytes(model.engine->model().metadata.vocabulary);
  if (model.tokenizer != nullptr) limits.caller_table_bytes = model.tokenizer->table_bytes();
  return limits;
}

static_assert(static_cast<int>(headroom::model::Metric::kRecall) == HR_METRIC_RECALL);

hr_plan_report ReportOf(const plan::Plan& plan) {
  hr_plan_report report = {};
  report.fits = plan.fits;
  report.missing_bytes = plan.missing_bytes;
  report.total_bytes = plan.total_bytes;
  report.mapped_bytes = plan.mapped_bytes;
  report.private_bytes = plan.private_bytes;
  report.weight_bytes = plan.weight_bytes;
  report.packed_bytes = plan.packed_bytes;
  report.state_bytes = plan.state_bytes;
  report.recurrent_bytes = plan.recurrent_bytes / (plan.checkpoints + 1);
  report.checkpoint_bytes = plan.recurrent_bytes - report.recurrent_bytes;
  report.checkpoints = plan.checkpoints;
  report.activation_bytes = plan.activation_bytes;
  report.scratch_bytes = plan.scratch_bytes;
  report.runtime_bytes = plan.runtime_bytes;
  report.state_bytes_per_token = plan.state_bytes_per_token;
  report.decode_read_bytes = plan.decode_read_bytes;
  report.context_tokens = plan.context;
  report.max_context_tokens = plan.max_context;
  report.chunk_tokens = plan.chunk;
  report.threads = plan.threads;
  report.kv = KvOf(plan.profile);
  CopyText(plan.profile, report.profile);
  CopyText(plan.better_profile, report.better_profile);
  report.better_bytes = plan.better_bytes;
  if (plan.quality != nullptr) {
    CopyText(plan.quality->task, report.quality_task);
    report.quality = plan.quality->value;
    report.quality_reference = plan.quality->reference;
    report.quality_metric = static_cast<int32_t>(plan.quality->metric);
  }
  return report;
}

Result<plan::Plan> PlanOf(const hr_model& model, const hr_session_options* options) {
  HR_ASSIGN_OR_RETURN(const plan::Limits limits, LimitsOf(model, options));
  return headroom::session::PlanSession(*model.engine, limits);
}

text::SamplerOptions SamplerOptionsOf(const hr_sampler_options& options) {
  return {options.temperature,
          options.top_k,
          options.top_p,
          options.min_p,
          options.repetition_penalty,
          options.repetition_window,
          options.seed};
}

hr_session* Wrap(std::unique_ptr<headroom::session::Session> session,
                 std::shared_ptr<const text::Tokenizer> tokenizer) {
  auto handle = std::make_unique<hr_session>();
  handle->session = std::move(session);
  handle->tokenizer = std::move(tokenizer);
  return handle.release();
}

}  // namespace

extern "C" {

hr_status hr_plan(const hr_model* model, const hr_session_options* options,
                  hr_plan_report* out_report, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_report == nullptr) return NullArgument("out_report", error);
    const auto plan = PlanOf(*model, options);
    if (plan.ok()) CopyOut(ReportOf(plan.value()), out_report);
    return Report(plan.status(), error);
  });
}

hr_status hr_plan_get_layer(const hr_model* model, const hr_session_options* options,
                            uint32_t layer, hr_plan_layer* out_layer, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_layer == nullptr) return NullArgument("out_layer", error);
    const auto plan = PlanOf(*model, options);
    if (!plan.ok()) return Report(plan.status(), error);
    const auto& layers = plan.value().layers;
    if (layer >= layers.size()) {
      return Report(
          Status::Make(StatusCode::kInvalidArgument, "layer %u of %zu", layer, layers.size()),
          error);
    }
    const headroom::store::LayerSpec& spec = layers[layer];
    hr_plan_layer facts = {};
    const headroom::model::AttentionSpec& attention = model->engine->model().attentions[layer];
    facts.kv_heads = attention.kv_heads();
    facts.key_width = attention.key_width();
    facts.value_width = attention.value_width();
    const headroom::store::LayerSpec* rows = &spec;  // its own, or another layer's
    while (rows->source >= 0) rows = &layers[static_cast<size_t>(rows->source)];
    const headroom::store::LaneSpec& lane = rows->lane(0);
    facts.capacity_tokens = headroom::store::LongestLane(*rows);
    facts.window_tokens = lane.mean || lane.left == headroom::kUnlimited ? 0 : lane.left + 1;
    facts.state_bytes = headroom::store::LayerBytes(spec);
    CopyOut(facts, out_layer);
    return Report({}, error);
  });
}

hr_status hr_session_create(hr_model* model, const hr_session_options* options,
                            hr_session** out_session, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_session == nullptr) return NullArgument("out_session", error);
    *out_session = nullptr;
    const auto limits = LimitsOf(*model, options);
    if (!limits.ok()) return Report(limits.status(), error);
    auto session = headroom::session::Session::Create(model->engine, limits.value());
    if (!session.ok()) return Report(session.status(), error);
    *out_session = Wrap(session.Take(), model->tokenizer);
    return Report({}, error);
  });
}

void hr_session_release(hr_session* session) { delete session; }

hr_status hr_session_prefill(hr_session* session, const int32_t* tokens, size_t count,
                             hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (tokens == nullptr && count != 0) return NullArgument("tokens", error);
    session->session->ClearCancel();
    return Report(session->session->Append({tokens, count}, nullptr), error);
  });
}

hr_status hr_session_decode(hr_session* session, int32_t token, hr_error* error) {
  return hr_session_prefill(session, &token, 1, error);
}

hr_status hr_session_prefill_logits(hr_session* session, const int32_t* tokens, size_t count,
                                    float* logits, size_t capacity_floats, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (tokens == nullptr && count != 0) return NullArgument("tokens", error);
    if (logits == nullptr) return NullArgument("logits", error);
    const uint64_t vocabulary = session->session->engine().model().metadata.vocabulary;
    if (capacity_floats / vocabulary < count) {
      return Report(
          Status::Make(StatusCode::kBufferTooSmall,
                       "logits: %zu floats < %zu tokens x vocabulary %llu", capacity_floats, count,
                       static_cast<unsigned long long>(vocabulary)),
          error);
    }
    session->session->ClearCancel();
    return Report(session->session->Append({tokens, count}, logits), error);
  });
}

hr_status hr_session_logits(const hr_session* session, const float** out_logits, size_t* out_count,
                            hr_error* error) {
  if (session == nullptr) return NullArgument("session", error);
  if (out_logits == nullptr) return NullArgument("out_logits", error);
  const auto logits = session->session->logits();
  *out_logits = logits.data();
  if (out_count != nullptr) *out_count = logits.size();
  if (!logits.empty()) return Report({}, error);
  return Report(
      Status::Make(StatusCode::kWrongState, "no logits: prefill at least one token first"), error);
}

uint32_t hr_session_position(const hr_session* session) {
  return session == nullptr ? 0 : session->session->position();
}

hr_status hr_session_tokens(const hr_session* session, const int32_t** out_tokens,
                            size_t* out_count, hr_error* error) {
  if (session == nullptr) return NullArgument("session", error);
  if (out_tokens == nullptr) return NullArgument("out_tokens", error);
  if (out_count == nullptr) return NullArgument("out_count", error);
  *out_tokens = session->session->tokens().data();
  *out_count = session->session->tokens().size();
  return Report({}, error);
}

hr_status hr_session_rewind(hr_session* session, uint32_t position, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    return Report(session->session->Rewind(position), error);
  });
}

hr_status hr_session_observe_inputs(hr_session* session, hr_input_callback callback,
                                    void* user_data, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    session->session->Observe({callback, user_data});
    return Report({}, error);
  });
}

hr_status hr_session_fork(const hr_session* session, hr_session** out_session, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (out_session == nullptr) return NullArgument("out_session", error);
    *out_session = nullptr;
    auto fork = session->session->Fork();
    if (!fork.ok()) return Report(fork.status(), error);
    *out_session = Wrap(fork.Take(), session->tokenizer);
    return Report({}, error);
  });
}

hr_status hr_session_save(const hr_session* session, const char* path, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (path == nullptr) return NullArgument("path", error);
    return Report(session->session->Save(path), error);
  });
}

hr_status hr_session_restore(hr_session* session, const char* path, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (path == nullptr) return NullArgument("path", error);
    return Report(session->session->Restore(path), error);
  });
}

hr_status hr_session_trim(hr_session* session, uint64_t target_bytes, uint64_t* out_freed_bytes,
                          hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    uint64_t freed = 0;
    const Status status = session->session->Trim(target_bytes, &freed);
    if (out_freed_bytes != nullptr) *out_freed_bytes = freed;
    return Report(status, error);
  });
}

void hr_session_cancel(hr_session* session) {
  if (session != nullptr) session->session->Cancel();
}

hr_status hr_session_get_stats(const hr_session* session, hr_session_stats* out_stats) {
  if (session == nullptr || out_stats == nullptr) return HR_INVALID_ARGUMENT;
  const auto& from = session->session->stats();
  const headroom::Arena& arena = session->session->arena();
  hr_session_stats stats = {};
  stats.prefill_tokens = from.prefill_tokens;
  stats.prefill_ns = from.prefill_ns;
  stats.decode_tokens = from.decode_tokens;
  stats.decode_ns = from.decode_ns;
  stats.load_ns = from.load_ns;
  stats.weights_packed_now = from.weights_packed_now;
  stats.planned_bytes = session->session->plan().session_bytes();
  stats.peak_bytes = arena.peak_bytes();
  stats.touched_bytes = headroom::platform::TouchedBytes(arena.data(), arena.capacity_bytes());
  CopyOut(stats, out_stats);
  return HR_OK;
}

hr_status hr_session_get_plan(const hr_session* session, hr_plan_report* out_report) {
  if (session == nullptr || out_report == nullptr) return HR_INVALID_ARGUMENT;
  CopyOut(ReportOf(session->session->plan()), out_report);
  return HR_OK;
}

hr_status hr_session_sample(hr_session* session, const hr_sampler_options* options,
                            int32_t* out_token, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    if (out_token == nullptr) return NullArgument("out_token", error);
    const text::SamplerOptions sampler = SamplerOptionsOf(CopyIn(options));
    if (const Status status = text::CheckSamplerOptions(sampler); !status.ok()) {
      return Report(status, error);
    }
    const auto token = text::SampleNext(*session->session, sampler);
    if (token.ok()) *out_token = token.value();
    return Report(token.status(), error);
  });
}

hr_status hr_session_generate(hr_session* session, const hr_generate_options* given,
                              hr_generate_result* out_result, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (session == nullptr) return NullArgument("session", error);
    const hr_generate_options options = CopyIn(given);
    std::array<std::string_view, text::TextStream::kMaxStops> stops;
    if (options.stop_sequence_count > stops.size()) {
      return Report(Status::Make(StatusCode::kInvalidArgument, "%zu stop sequences > %zu",
                                 options.stop_sequence_count, stops.size()),
                    error);
    }
    if (options.stop_sequences == nullptr && options.stop_sequence_count != 0) {
      return NullArgument("stop_sequences", error);
    }
    for (size_t i = 0; i < options.stop_sequence_count; ++i) {
      if (options.stop_sequences[i] == nullptr) return NullArgument("a stop sequence", error);
      stops[i] = options.stop_sequences[i];
    }
    text::GenerateOptions generate;
    generate.sampler = SamplerOptionsOf(CopyIn(&options.sampler));
    generate.max_tokens = options.max_tokens;
    generate.stop_sequences = {stops.data(), options.stop_sequence_count};
    generate.ignore_end_token = options.ignore_end_token;
    generate.on_text = options.on_text;
    generate.user_data = options.user_data;
    session->session->ClearCancel();
    text::GenerateResult result;
    const Status status = text::Generate(*session->session, session->tokenizer.get(),
                                         session->session->engine().model().tokenizer.end_tokens,
                                         generate, session->stream, &result);
    if (status.ok() && out_result != nullptr) {
      hr_generate_result filled = {};
      filled.tokens = result.tokens;
      filled.stop_reason = static_cast<int32_t>(result.reason);
      CopyOut(filled, out_result);
    }
    return Report(status, error);
  });
}

}  // extern "C"
