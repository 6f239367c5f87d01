// Profiles: how the rows of every KV head are kept, as a choice that a plan makes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "store/lane.h"

namespace headroom::plan {

// A choice of roles for every KV head.
struct Profile {
  std::string name;
  std::vector<model::RoleSpec> roles;
  std::vector<std::vector<uint8_t>> heads;     // [attention][KV head] into roles; empty: roles[0]
  const model::ProfileSpec* source = nullptr;  // where the model, which outlives this, has it

  const model::RoleSpec& RoleOf(size_t attention, uint32_t kv_head) const {
    return roles[heads.empty() || heads[attention].empty() ? 0 : heads[attention][kv_head]];
  }
  bool trim_only = false;  // a session may be trimmed to it, but does not start with it
};

// Words separated by spaces, of which a later one counts where two disagree: a codec (f32 f16 int8
// int8/32 int4/32), or
//   keys=CODEC values=CODEC   another codec for one of them
//   exact=N                   the first N rows in f16, N <= 64
//   keyrank=N valuerank=N     the first N numbers of a row alone, N a multiple of 8
//   rotate                    rows are rotated before they are rounded
//   window | compensated | accumulated | observed    which rows stay, see model::Retention; with
//   sinks=N rows=N share=X observe=N pool=N maxpool=N
//   relative                  of a window: positions are places among the rows that stay
// Defaults: f16; of a retention sinks=4, observe=32, pool=5. Error: kInvalidArgument, naming the
// word.
Result<model::RoleSpec> ParseRole(std::string_view text);

// Roles separated by semicolons: the first for all heads, every other beginning with the heads that
// it is for, as heads=LAYER.HEAD+LAYER.HEAD ... counted from 0.
Result<Profile> ParseProfile(const model::Model& model, const std::string& text);

Profile Uniform(RowCodec codec);

// Whether a text may go on past the positions that the model was trained on: no query then sees
// rows further away than those. Error: kInvalidArgument, naming the attention that does.
Status CheckBeyondTrained(const model::Model& model, const Profile& profile, uint32_t context);

enum class CodecChoice : uint8_t { kAuto, kF32, kF16, kI8Token, kBlock8, kBlock4 };

// What a session may become, best first: `wanted` when it is not empty (the name of a profile of
// the model, else the text of roles), else the codec chosen, else the model's profiles, else f16,
// int8 and int4/32 with 4 exact rows, rotated. A codec alone means what that list has by its name.
// Of a wish those lists follow, for trims. Errors: kInvalidArgument, kUnsupported (a role that an
// attention cannot take, by name).
Result<std::vector<Profile>> Profiles(const model::Model& model, CodecChoice codec,
                                      const std::string& wanted);

// The lanes of attention `index` under profiles[chosen]. Heads that differ under any of the
// profiles are in groups of their own, so that a session can move from one to another in place.
store::LayerSpec LayerOf(const model::Model& model, size_t index,
                         const std::vector<Profile>& profiles, size_t chosen, uint32_t context,
                         uint32_t chunk);
// The lane of one of its KV heads.
store::LaneSpec LaneOf(const model::AttentionSpec& attention, uint32_t kv_head,
                       const model::RoleSpec& role, uint32_t context, uint32_t chunk);

}  // namespace headroom::plan
