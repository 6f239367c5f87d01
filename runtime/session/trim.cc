// Trim: a live session moves to a smaller plan and keeps every token.
#include <algorithm>

#include "attention/softmax_mix.h"
#include "base/math.h"
#include "session/session.h"

namespace headroom::session {
namespace {

constexpr uint32_t kMargin = 64;  // tokens of context left free, so that the talk can go on
constexpr uint64_t kImpossible = UINT64_MAX;

// Rings stay as they are: they are no longer than their window needs.
store::LaneSpec Smaller(store::LaneSpec lane, uint32_t context, RowCodec codec) {
  lane.key.codec = lane.value.codec = codec;
  if (!lane.ring) lane.capacity = context - lane.exact_rows;
  return lane;
}

}  // namespace

// The state with layers without a ring cut to `context` rows, and rows of `codec`; kImpossible when
// some layer would not fit in its own place.
uint64_t Session::SmallerStateBytes(uint32_t context, RowCodec codec) const {
  uint64_t bytes = 0;
  for (const store::LayerSpec& layer : plan_.layers) {
    for (const store::LaneGroup& group : layer.groups) {
      const store::LaneSpec smaller = Smaller(group.spec, context, codec);
      if (!store::CanShrink(group.spec, smaller)) return kImpossible;
      bytes += store::GroupBytes({group.lanes, smaller});
    }
  }
  return RoundUp(bytes, 64);
}

// Memory may be short when this runs: the plan and the store change in place, and rows are recoded
// in the scratch that steps use. Activations and scratch stay as they are: the executor is bound to
// them.
void Session::ShrinkState(uint32_t context, RowCodec codec, uint64_t state_bytes) {
  plan_.state_bytes_per_token = 0;
  for (store::LayerSpec& layer : plan_.layers) {
    for (store::LaneGroup& group : layer.groups) {
      group.spec = Smaller(group.spec, context, codec);
    }
    plan_.state_bytes_per_token += store::LayerBytesPerToken(layer);
  }
  store::RowRecoder recoder;
  recoder.decode = attention::DecodeRow;
  recoder.encode = xnnpack::BestKernels().encode_row;
  store_.ShrinkTo(plan_.layers, position_, recoder,
                  {arena_.data() + plan_.activation_bytes, plan_.scratch_bytes});
  const uint64_t saved = plan_.state_bytes - state_bytes;
  plan_.context = plan_.max_context = limits_.context = context;
  plan_.codec = codec;
  plan_.state_bytes = state_bytes;
  plan_.private_bytes -= saved;
  plan_.total_bytes -= saved;
  plan_.decode_read_bytes -= saved;
  arena_.ShrinkTo(plan_.arena_bytes() + plan_.state_bytes);
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
  const uint64_t before = plan_.total_bytes, rest = before - plan_.state_bytes;
  const auto wanted = static_cast<uint32_t>(RoundUp(position_ + kMargin, 16));
  const uint32_t context = std::min(plan_.context, wanted);
  RowCodec codec = plan_.codec;
  uint64_t state_bytes = SmallerStateBytes(context, codec);
  if (rest + state_bytes > target_bytes) {
    // Narrow rows are no smaller in int8; such a session gives back context only.
    const uint64_t in_int8 = SmallerStateBytes(context, RowCodec::kI8Token);
    if (in_int8 < state_bytes) {
      codec = RowCodec::kI8Token;
      state_bytes = in_int8;
    }
  }
  if (state_bytes < plan_.state_bytes) ShrinkState(context, codec, state_bytes);
  *freed_bytes = before - plan_.total_bytes;
  if (plan_.total_bytes <= target_bytes) return {};
  return Status::Make(StatusCode::kOverBudget,
                      "smallest form of this session is %llu bytes > target %llu (%llu freed)",
                      static_cast<unsigned long long>(plan_.total_bytes),
                      static_cast<unsigned long long>(target_bytes),
                      static_cast<unsigned long long>(*freed_bytes));
}

}  // namespace headroom::session
