// Trim: a live session moves to a smaller plan and keeps every token.
#include <algorithm>

#include "attention/softmax_mix.h"
#include "base/math.h"
#include "session/session.h"

namespace headroom::session {
namespace {

constexpr uint32_t kMargin = 64;  // tokens of context left free, so that the talk can go on

}  // namespace

// The present plan with dense layers cut to `context` rows and cached rows of `codec`. Rings,
// activations and scratch stay as they are: the executor is bound to them.
plan::Plan Session::Smaller(uint32_t context, RowCodec codec) const {
  plan::Plan plan = plan_;
  plan.context = context;
  plan.codec = codec;
  plan.state_bytes = plan.state_bytes_per_token = 0;
  for (store::LayerSpec& layer : plan.layers) {
    layer.codec = codec;
    if (!layer.ring) layer.capacity = context;
    plan.state_bytes += store::LayerBytes(layer);
    plan.state_bytes_per_token += store::LayerBytesPerToken(layer);
  }
  plan.state_bytes = RoundUp(plan.state_bytes, 64);
  const uint64_t saved = plan_.state_bytes - plan.state_bytes;
  plan.private_bytes -= saved;
  plan.total_bytes -= saved;
  plan.decode_read_bytes -= saved;
  plan.max_context = context;
  return plan;
}

Status Session::Adopt(plan::Plan plan) {
  uint32_t widest = 1;
  for (const auto& layer : plan.layers) {
    widest = std::max({widest, layer.key_width, layer.value_width});
  }
  const uint64_t meta_bytes = RoundUp(uint64_t{8} * position_ + 64, 64);
  HR_ASSIGN_OR_RETURN(Arena scratch,
                      Arena::Create(meta_bytes + widest * sizeof(float), engine_->options().hooks));
  store::RowRecoder recoder;
  recoder.decode = attention::DecodeRow;
  recoder.encode = xnnpack::BestKernels().encode_row[static_cast<int>(plan.codec)];
  store_.ShrinkTo(plan.layers, position_, recoder, {scratch.data(), meta_bytes},
                  {reinterpret_cast<float*>(scratch.data() + meta_bytes), widest});
  plan_ = std::move(plan);
  limits_.context = plan_.context;
  arena_.ShrinkTo(plan_.arena_bytes() + plan_.state_bytes);
  return {};
}

Status Session::Trim(uint64_t target_bytes, uint64_t* freed_bytes) {
  *freed_bytes = 0;
  if (plan_.total_bytes <= target_bytes) return {};
  if (engine_->options().hooks.release != nullptr) {
    // The app's allocator takes a region back whole or not at all, and a second, smaller one beside
    // the first would exceed the plan.
    return Status::Make(StatusCode::kUnsupported,
                        "trim from %llu to %llu bytes: memory of the app's allocator cannot go "
                        "back in part; save, release, and restore into a smaller session",
                        static_cast<unsigned long long>(plan_.total_bytes),
                        static_cast<unsigned long long>(target_bytes));
  }
  const uint64_t before = plan_.total_bytes;
  const auto wanted = static_cast<uint32_t>(RoundUp(position_ + kMargin, 16));
  const uint32_t context = std::min(plan_.context, wanted);
  plan::Plan plan = Smaller(context, plan_.codec);
  if (plan.total_bytes > target_bytes) plan = Smaller(context, RowCodec::kI8Token);
  const bool reached = plan.total_bytes <= target_bytes;
  if (plan.state_bytes < plan_.state_bytes) HR_RETURN_IF_ERROR(Adopt(std::move(plan)));
  *freed_bytes = before - plan_.total_bytes;
  if (reached) return {};
  return Status::Make(StatusCode::kOverBudget,
                      "smallest form of this session is %llu bytes > target %llu (%llu freed)",
                      static_cast<unsigned long long>(plan_.total_bytes),
                      static_cast<unsigned long long>(target_bytes),
                      static_cast<unsigned long long>(*freed_bytes));
}

}  // namespace headroom::session
