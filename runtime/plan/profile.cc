#include "plan/profile.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "model/rotation.h"

namespace headroom::plan {
namespace {

using model::AttentionSpec;
using model::Retention;
using model::RoleSpec;

constexpr const char* kRetentionNames[] = {"as viewed", "window", "compensated", "accumulated",
                                           "observed"};

const char* NameOf(Retention retention) { return kRetentionNames[static_cast<int>(retention)]; }

bool CodecNamed(std::string_view name, RowCodec* codec) {
  for (int i = 0; i < kRowCodecs; ++i) {
    if (name != RowCodecName(static_cast<RowCodec>(i))) continue;
    *codec = static_cast<RowCodec>(i);
    return true;
  }
  return false;
}

// Whole `text` as a number in [low, high].
template <typename T>
bool Number(std::string_view text, T low, T high, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && *out >= low && *out <= high;
}

bool Rank(std::string_view text, uint32_t* out) {
  return Number(text, model::kRankStep, model::kMaxBasisWidth, out) && *out % model::kRankStep == 0;
}

// One word of a role. False: it is none.
bool ParseWord(std::string_view word, RoleSpec* role) {
  const size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  if (equals == std::string_view::npos) {
    for (int i = 1; i < 5; ++i) {
      if (word != kRetentionNames[i]) continue;
      role->retention = static_cast<Retention>(i);
      return true;
    }
    if (word == "rotate") return role->rotate = true;
    if (word == "relative") return role->relative = true;
    if (!CodecNamed(word, &role->keys)) return false;
    role->values = role->keys;
    return true;
  }
  const std::string_view value = word.substr(equals + 1);
  if (key == "keys") return CodecNamed(value, &role->keys);
  if (key == "values") return CodecNamed(value, &role->values);
  if (key == "exact") return Number(value, 0u, kMaxExactRows, &role->exact_rows);
  if (key == "sinks") return Number(value, 0u, 1u << 20, &role->sinks);
  if (key == "rows") return Number(value, 1u, 1u << 30, &role->rows);
  if (key == "keyrank") return Rank(value, &role->key_rank);
  if (key == "valuerank") return Rank(value, &role->value_rank);
  if (key == "share") return Number(value, 0.0f, 1.0f, &role->share);
  if (key == "observe") return Number(value, 1u, model::kMaxObserved, &role->observe);
  role->pool_max = key == "maxpool";
  return (key == "pool" || role->pool_max) && Number(value, 1u, model::kMaxPool, &role->pool) &&
         role->pool % 2 == 1;
}

Status CheckRole(const RoleSpec& role, std::string_view text) {
  const std::string shown(text.substr(0, 100));
  if (role.relative && role.retention != Retention::kWindow) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "cache \"%s\": only the positions of a window can be relative, not those "
                        "of rows kept %s",
                        shown.c_str(), NameOf(role.retention));
  }
  if (role.retention == Retention::kAsViewed) {
    if (role.rows == 0 && role.share == 0.0f) return {};
    return Status::Make(StatusCode::kInvalidArgument,
                        "cache \"%s\": rows or share, but not which rows stay (window, "
                        "compensated, accumulated or observed)",
                        shown.c_str());
  }
  if (role.rows != 0 || role.share > 0.0f) return {};
  return Status::Make(StatusCode::kInvalidArgument, "cache \"%s\": %s without rows=N or share=X",
                      shown.c_str(), NameOf(role.retention));
}

// Whether each KV head has rows of its own, so that heads may keep different ones.
bool OwnLanes(const AttentionSpec& attention) {
  for (uint32_t g = 0; g < attention.kv_heads(); ++g) {
    const model::ViewHeads& view = attention.views[g];
    if (view.key != g || (attention.value.present() && view.value != g) ||
        (attention.tail.present() && view.tail != g)) {
      return false;
    }
  }
  return true;
}

// Rows can only be cut where the first numbers matter most.
Status CheckRanks(const model::Model& model, const Profile& profile, size_t index) {
  const AttentionSpec& attention = model.attentions[index];
  for (uint32_t g = 0; g < attention.kv_heads(); ++g) {
    const RoleSpec& role = profile.RoleOf(index, g);
    const bool keys = role.key_rank != 0 && !attention.key.ordered;
    if (!keys && (role.value_rank == 0 || attention.value.ordered)) continue;
    return Status::Make(StatusCode::kUnsupported,
                        "profile \"%.100s\": %s=%u, but the %s of attention %zu are in no basis "
                        "(convert with --kv-basis)",
                        profile.name.c_str(), keys ? "keyrank" : "valuerank",
                        keys ? role.key_rank : role.value_rank, keys ? "keys" : "values", index);
  }
  return {};
}

// Why logits depend on more than the difference of two positions; null: on nothing more.
const char* NotRelative(const model::Model& model, const AttentionSpec& attention) {
  const model::RopeSpec& query = attention.query.rope;
  if (!model::RotatesAlike(model, attention)) return "does not rotate queries as it does keys";
  if (query.dims == 0) return nullptr;
  const AttentionSpec& source = attention.source_attention == model::kNone
                                    ? attention
                                    : model.attentions[attention.source_attention];
  if ((attention.tail.width == 0 && attention.query.matrix.present()) ||
      source.key.basis != model::kNone) {
    return "multiplies queries it has rotated";
  }
  if (attention.query.factors == model::kNone) return nullptr;
  const float* factors = model.tensors[attention.query.factors].f32() + query.offset;
  const bool halves = query.layout == model::RopeLayout::kHalfSplit;
  const uint32_t pairs = query.dims / 2;
  for (uint32_t i = 0; i < pairs; ++i) {
    const float a = factors[halves ? i : 2 * i], b = factors[halves ? i + pairs : 2 * i + 1];
    if (a != b) return "scales what it has rotated, unequally";
  }
  return nullptr;
}

// Relative positions are another rotation of queries: something must rotate, and nothing else may
// know where a token stands.
Status CheckRelative(const model::Model& model, const Profile& profile) {
  if (std::none_of(profile.roles.begin(), profile.roles.end(),
                   [](const RoleSpec& role) { return role.relative; })) {
    return {};
  }
  bool rotates = false;
  for (size_t i = 0; i < model.attentions.size(); ++i) {
    const AttentionSpec& attention = model.attentions[i];
    const int32_t source = attention.source_attention;
    const size_t owner = source == model::kNone ? i : static_cast<size_t>(source);
    bool relative = false;
    for (uint32_t g = 0; g < model.attentions[owner].kv_heads(); ++g) {
      relative |= profile.RoleOf(owner, g).relative;
    }
    const char* reason = relative ? NotRelative(model, attention) : nullptr;
    rotates |= relative && attention.query.rope.dims != 0;
    if (reason == nullptr) continue;
    return Status::Make(StatusCode::kUnsupported,
                        "profile \"%.100s\": relative positions, but attention %zu %s",
                        profile.name.c_str(), i, reason);
  }
  for (const model::Op& op : model.ops) {
    if (op.kind == model::OpKind::kPositionEmbedding) rotates = false;
  }
  if (rotates) return {};
  return Status::Make(StatusCode::kUnsupported,
                      "profile \"%.100s\": relative positions, but the model's are not rotations",
                      profile.name.c_str());
}

Status CheckTakes(const model::Model& model, const Profile& profile) {
  HR_RETURN_IF_ERROR(CheckRelative(model, profile));
  for (size_t i = 0; i < model.attentions.size(); ++i) {
    const AttentionSpec& attention = model.attentions[i];
    if (attention.source_attention != model::kNone) continue;  // its rows are another's
    HR_RETURN_IF_ERROR(CheckRanks(model, profile, i));
    const RoleSpec& first = profile.RoleOf(i, 0);
    for (uint32_t g = 0; g < attention.kv_heads() && attention.query.matrix.present(); ++g) {
      const Retention retention = profile.RoleOf(i, g).retention;
      if (retention != Retention::kAccumulated && retention != Retention::kObserved) continue;
      return Status::Make(StatusCode::kUnsupported,
                          "profile \"%.100s\": attention %zu is latent, its queries cannot vote "
                          "(%s)",
                          profile.name.c_str(), i, NameOf(retention));
    }
    if (OwnLanes(attention)) continue;
    for (uint32_t g = 0; g < attention.kv_heads(); ++g) {
      const RoleSpec& role = profile.RoleOf(i, g);
      const bool rows_leave =
          role.retention != Retention::kAsViewed && role.retention != Retention::kWindow;
      if (role == first && !rows_leave) continue;
      return Status::Make(StatusCode::kUnsupported,
                          "profile \"%.100s\": attention %zu shares rows between KV heads, which "
                          "then keep the same ones (not %s, not roles that differ)",
                          profile.name.c_str(), i, NameOf(role.retention));
    }
  }
  return {};
}

Profile FromFile(const model::Model& model, const model::ProfileSpec& spec) {
  return {std::string(spec.name), model.roles, spec.roles, &spec};
}

Result<Profile> Wanted(const model::Model& model, const std::string& wanted) {
  for (const model::ProfileSpec& spec : model.profiles) {
    if (spec.name == wanted) return FromFile(model, spec);
  }
  if (RowCodec codec; CodecNamed(wanted, &codec)) return Uniform(codec);
  return ParseProfile(model, wanted);
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

// Gives role `role` to the heads of "LAYER.HEAD+LAYER.HEAD".
Status GiveRole(const model::Model& model, std::string_view list, uint8_t role, Profile* profile) {
  for (bool more = true; more;) {
    const size_t plus = list.find('+');
    const std::string_view item = list.substr(0, plus);
    more = plus != std::string_view::npos;
    if (more) list.remove_prefix(plus + 1);
    const size_t dot = item.find('.');
    uint32_t layer = 0, head = 0;
    const auto layers = static_cast<uint32_t>(model.attentions.size());
    if (dot == std::string_view::npos || layers == 0 ||
        !Number(item.substr(0, dot), 0u, layers - 1, &layer) ||
        !Number(item.substr(dot + 1), 0u, model.attentions[layer].kv_heads() - 1, &head)) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "heads \"%s\": no LAYER.HEAD of the model's %u attention layers",
                          std::string(item.substr(0, 60)).c_str(), layers);
    }
    profile->heads[layer][head] = role;
  }
  return {};
}

std::vector<Profile> Listed(const model::Model& model) {
  std::vector<Profile> profiles;
  for (const model::ProfileSpec& spec : model.profiles) {
    profiles.push_back(FromFile(model, spec));
  }
  if (!profiles.empty()) return profiles;
  profiles = {Uniform(RowCodec::kF16), Uniform(RowCodec::kI8Token), Uniform(RowCodec::kBlock4)};
  return profiles;
}

uint32_t WidthOf(const model::StreamSpec& stream, uint32_t rank) {
  return rank == 0 ? stream.width : std::min(rank, stream.width);
}

// Rows a role keeps of a context: of a window those behind its sinks, of votes all.
uint32_t RowsOf(const RoleSpec& role, uint32_t context) {
  const auto share = static_cast<uint32_t>(std::ceil(double{role.share} * context));
  return std::max({role.rows, share, 1u});
}

}  // namespace

Result<RoleSpec> ParseRole(std::string_view text) {
  RoleSpec role;
  role.sinks = UINT32_MAX;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t space = rest.find(' ');
    const std::string_view word = rest.substr(0, space);
    rest = space == std::string_view::npos ? std::string_view() : rest.substr(space + 1);
    if (word.empty()) continue;
    if (ParseWord(word, &role)) continue;
    return Status::Make(StatusCode::kInvalidArgument,
                        "cache \"%s\": \"%s\" is no profile of the model, no codec (f32 f16 int8 "
                        "int8/32 int4/32) and no other word of a cache policy, or out of range",
                        std::string(text.substr(0, 100)).c_str(),
                        std::string(word.substr(0, 60)).c_str());
  }
  HR_RETURN_IF_ERROR(CheckRole(role, text));
  const bool keeps_all = role.retention == Retention::kAsViewed;
  if (role.sinks == UINT32_MAX) role.sinks = keeps_all ? 0 : 4;
  const bool votes =
      role.retention == Retention::kAccumulated || role.retention == Retention::kObserved;
  if (votes && role.observe == 0) role.observe = 32;
  if (role.retention == Retention::kObserved && role.pool == 1) role.pool = 5;
  return role;
}

Result<Profile> ParseProfile(const model::Model& model, const std::string& text) {
  constexpr std::string_view kHeads = "heads=";
  Profile profile;
  profile.name = text;
  for (std::string_view rest = text; profile.roles.empty() || !rest.empty();) {
    const size_t end = std::min(rest.find(';'), rest.size());
    std::string_view part = Trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!profile.roles.empty()) {
      if (!part.starts_with(kHeads) || profile.roles.size() > UINT8_MAX) {
        return Status::Make(StatusCode::kInvalidArgument,
                            "cache \"%.100s\": role %zu does not begin with heads=LAYER.HEAD, or "
                            "is one too many",
                            text.c_str(), profile.roles.size());
      }
      for (size_t i = profile.heads.size(); i < model.attentions.size(); ++i) {
        profile.heads.emplace_back(model.attentions[i].kv_heads(), uint8_t{0});
      }
      const std::string_view list = part.substr(kHeads.size(), part.find(' ') - kHeads.size());
      HR_RETURN_IF_ERROR(
          GiveRole(model, list, static_cast<uint8_t>(profile.roles.size()), &profile));
      part.remove_prefix(kHeads.size() + list.size());
    }
    HR_ASSIGN_OR_RETURN(const RoleSpec role, ParseRole(part));
    profile.roles.push_back(role);
  }
  return profile;
}

Profile Uniform(RowCodec codec) {
  RoleSpec role;
  role.keys = role.values = codec;
  if (codec == RowCodec::kBlock4) {  // few levels: outliers are spread first, sinks stay exact
    role.rotate = true;
    role.exact_rows = 4;
  }
  return {RowCodecName(codec), {role}, {}, nullptr};
}

Status CheckBeyondTrained(const model::Model& model, const Profile& profile, uint32_t context) {
  const uint32_t trained = model.metadata.context_tokens;
  const auto refuse = [&](const std::string& fact) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "context %u > trained maximum %u, past which only windows go whose sinks "
                        "have relative positions: %s",
                        context, trained, fact.c_str());
  };
  if (context > model::kMaxTokens) return refuse("at most " + std::to_string(model::kMaxTokens));
  for (const model::Op& op : model.ops) {
    if (op.kind == model::OpKind::kPositionEmbedding) return refuse("the model adds positions");
  }
  for (size_t i = 0; i < model.attentions.size(); ++i) {
    const AttentionSpec& attention = model.attentions[i];
    if (attention.source_attention != model::kNone) continue;  // sees what its source sees
    for (uint32_t g = 0; g < attention.kv_heads(); ++g) {
      const store::LaneSpec lane = LaneOf(attention, g, profile.RoleOf(i, g), context, 1);
      const uint64_t seen = uint64_t{lane.left} + 1 + lane.sinks;
      if ((lane.sinks == 0 || lane.relative) && seen <= trained) continue;
      return refuse("head " + std::to_string(g) + " of attention " + std::to_string(i) + " sees " +
                    (lane.left == kUnlimited ? "all rows" : "rows further away"));
    }
  }
  return {};
}

Result<std::vector<Profile>> Profiles(const model::Model& model, CodecChoice codec,
                                      const std::string& wanted) {
  std::vector<Profile> profiles;
  if (!wanted.empty()) {
    HR_ASSIGN_OR_RETURN(Profile profile, Wanted(model, wanted));
    profiles.push_back(std::move(profile));
  } else if (codec != CodecChoice::kAuto) {
    profiles.push_back(Uniform(static_cast<RowCodec>(static_cast<int>(codec) - 1)));
  }
  const bool asked = !profiles.empty();
  for (Profile& profile : Listed(model)) {
    if (asked && profile.name == profiles[0].name) continue;
    profile.trim_only = asked;
    profiles.push_back(std::move(profile));
  }
  std::vector<Profile> taken;
  for (Profile& profile : profiles) {
    const Status takes = CheckTakes(model, profile);
    if (!takes.ok() && profile.trim_only) continue;
    HR_RETURN_IF_ERROR(takes);
    taken.push_back(std::move(profile));
  }
  return taken;
}

store::LaneSpec LaneOf(const AttentionSpec& attention, uint32_t kv_head, const RoleSpec& role,
                       uint32_t context, uint32_t chunk) {
  store::LaneSpec lane;
  const auto has = [&](const model::StreamSpec& stream) { return kv_head < stream.heads; };
  if (has(attention.key)) lane.key = {role.keys, WidthOf(attention.key, role.key_rank)};
  if (has(attention.value)) {
    lane.value = {role.values, WidthOf(attention.value, role.value_rank)};
  }
  // The rotary part of a latent is short and not rotated into blocks: it stays in f16.
  const RowCodec tail = role.keys == RowCodec::kF32 ? RowCodec::kF32 : RowCodec::kF16;
  if (has(attention.tail)) lane.tail = {tail, attention.tail.width};
  const bool coded = role.keys > RowCodec::kF16 || role.values > RowCodec::kF16;
  lane.exact_rows = coded ? role.exact_rows : 0;
  // Values that are a part of the keys cannot be rotated back by themselves.
  const bool whole = attention.value.present() || attention.value.width == attention.key.width;
  lane.rotated = coded && role.rotate && whole;
  lane.left = attention.left;
  lane.sinks = attention.sinks;
  const uint32_t rows = RowsOf(role, context);
  const bool window = role.retention == Retention::kWindow;
  if (window && rows - 1 < lane.left) {
    lane.sinks = lane.left == kUnlimited ? role.sinks : std::min(role.sinks, lane.sinks);
    lane.left = rows - 1;
    lane.relative = role.relative && lane.sinks != 0;
  } else if (role.retention != Retention::kAsViewed && !window && lane.left == kUnlimited) {
    // Of a layer with a window of its own only the window is left to keep.
    lane.sinks = role.sinks;
    if (role.retention == Retention::kCompensated) {
      lane.left = rows - 1;
      lane.mean = true;
    } else {
      const uint32_t exact = std::min(rows - 1, lane.exact_rows);
      lane.vote = {rows - exact, std::min(role.observe, rows - exact),
                   role.retention == Retention::kAccumulated, role.pool, role.pool_max};
      lane.sinks = std::min(lane.sinks, exact + lane.vote.rows - lane.vote.observe);
    }
  }
  return store::PlanLane(lane, context, chunk);
}

store::LayerSpec LayerOf(const model::Model& model, size_t index,
                         const std::vector<Profile>& profiles, size_t chosen, uint32_t context,
                         uint32_t chunk) {
  const AttentionSpec& attention = model.attentions[index];
  if (attention.source_attention != model::kNone) return {{}, attention.source_attention};
  const uint32_t heads =
      std::max({attention.key.heads, attention.tail.heads, attention.value.heads});
  const uint32_t views = attention.kv_heads();
  auto alike = [&](uint32_t a, uint32_t b) {
    for (const model::StreamSpec* stream : {&attention.key, &attention.tail, &attention.value}) {
      if ((a < stream->heads) != (b < stream->heads)) return false;
    }
    return std::all_of(profiles.begin(), profiles.end(), [&](const Profile& profile) {
      return profile.RoleOf(index, std::min(a, views - 1)) ==
             profile.RoleOf(index, std::min(b, views - 1));
    });
  };
  store::LayerSpec layer;
  for (uint32_t head = 0; head < heads; ++head) {
    if (head != 0 && alike(head - 1, head)) {
      ++layer.groups.back().lanes;
      continue;
    }
    const RoleSpec& role = profiles[chosen].RoleOf(index, std::min(head, views - 1));
    layer.groups.push_back({1, LaneOf(attention, head, role, context, chunk)});
  }
  return layer;
}

}  // namespace headroom::plan
