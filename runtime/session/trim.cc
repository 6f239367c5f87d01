// Trim: a live session moves to a smaller plan and keeps every token.
#include <algorithm>

#include "attention/softmax_mix.h"
#include "base/math.h"
#include "session/session.h"

namespace headroom::session {
namespace {

constexpr uint32_t kMargin = 64;  // tokens of context left free, so that the talk can go on
constexpr uint64_t kImpossible = UINT64_MAX;

}  // namespace

// What the lane of a head becomes. With the profile that the session has, nothing but its room for
// tokens to come; a share of the context was a share of the context asked for. Rings and votes that
// are there keep as many rows as they have room for: the chunk that the executor is bound to must
// still fit.
store::LaneSpec Session::LaneUnder(size_t profile, size_t layer, uint32_t kv_head,
                                   const store::LaneSpec& now, uint32_t context) const {
  if (profile == plan_.profile_index) {
    store::LaneSpec lane = now;
    if (!now.ring) lane.capacity = std::min(now.capacity, context - now.exact_rows);
    if (now.voted()) lane.vote.rows = std::min(now.vote.rows, lane.capacity);
    return lane;
  }
  const model::AttentionSpec& attention = engine_->model().attentions[layer];
  const model::RoleSpec& role =
      profiles_[profile].RoleOf(layer, std::min(kv_head, attention.kv_heads() - 1));
  store::LaneSpec lane = plan::LaneOf(attention, kv_head, role, context, plan_.chunk);
  if (now.ring) {
    lane.capacity = now.capacity;
    lane.ring = true;
    lane.mean = now.mean;
    lane.vote = {};
  }
  if (now.ring || now.left < lane.left) {  // rows further back may never have been here
    lane.left = now.left;
    lane.sinks = now.sinks;
    lane.relative = now.relative;
  }
  if (now.voted()) {
    const bool same = !lane.voted();
    const uint32_t room = context - lane.exact_rows;
    const uint32_t most = same ? now.capacity : std::min(lane.capacity, now.capacity);
    if (same) lane.vote = now.vote;
    lane.capacity = std::min(most, room);
    lane.vote.rows = std::min({lane.vote.rows, now.vote.rows, lane.capacity});
  }
  return lane;
}

// The state under that profile with `context` rows; kImpossible when some lane would not fit in its
// own place.
uint64_t Session::SmallerStateBytes(uint32_t context, size_t profile) const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    uint32_t head = 0;
    for (const store::LaneGroup& group : plan_.layers[i].groups) {
      const store::LaneGroup smaller{group.lanes, LaneUnder(profile, i, head, group.spec, context)};
      if (!store::CanShrink(group, smaller)) return kImpossible;
      bytes += store::GroupBytes(smaller);
      head += group.lanes;
    }
  }
  return RoundUp(bytes, 64);
}

// Memory may be short when this runs: the plan and the store change in place, and rows are recoded
// in the scratch that steps use. Activations and scratch stay as they are: the executor is bound to
// them.
void Session::ShrinkState(uint32_t context, size_t profile, uint64_t state_bytes) {
  plan_.decode_read_bytes -= store::ReadBytes(plan_.layers);
  plan_.state_bytes_per_token = 0;
  for (size_t i = 0; i < plan_.layers.size(); ++i) {
    uint32_t head = 0;
    for (store::LaneGroup& group : plan_.layers[i].groups) {
      group.spec = LaneUnder(profile, i, head, group.spec, context);
      head += group.lanes;
    }
    plan_.state_bytes_per_token += store::LayerBytesPerToken(plan_.layers[i]);
  }
  store_.ShrinkTo(plan_.layers, held_, Recoder(), free_scratch());
  const uint64_t saved = plan_.state_bytes - state_bytes;
  plan_.context = plan_.max_context = limits_.context = context;
  plan_.profile = profiles_[profile].name;
  plan_.profile_index = profile;
  const model::ProfileSpec* source = profiles_[profile].source;
  plan_.quality = source == nullptr || source->quality.empty() ? nullptr : &source->quality[0];
  plan_.better_profile.clear();
  plan_.better_bytes = 0;
  plan_.state_bytes = state_bytes;
  plan_.private_bytes -= saved;
  plan_.total_bytes -= saved;
  plan_.decode_read_bytes += store::ReadBytes(plan_.layers);
  arena_.ShrinkTo(plan_.session_bytes());
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
  // The profile it has, then down the list: the first that is small enough, else the smallest.
  size_t profile = plan_.profile_index;
  uint64_t state_bytes = SmallerStateBytes(context, profile);
  for (size_t i = profile + 1; i < profiles_.size(); ++i) {
    if (state_bytes != kImpossible && rest + state_bytes <= target_bytes) break;
    const uint64_t bytes = SmallerStateBytes(context, i);
    if (bytes >= state_bytes) continue;
    state_bytes = bytes;
    profile = i;
  }
  if (state_bytes < plan_.state_bytes) ShrinkState(context, profile, state_bytes);
  *freed_bytes = before - plan_.total_bytes;
  if (plan_.total_bytes <= target_bytes) return {};
  return Status::Make(StatusCode::kOverBudget,
                      "smallest form of this session is %llu bytes > target %llu (%llu freed)",
                      static_cast<unsigned long long>(plan_.total_bytes),
                      static_cast<unsigned long long>(target_bytes),
                      static_cast<unsigned long long>(*freed_bytes));
}

}  // namespace headroom::session
