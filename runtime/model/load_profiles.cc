// Profiles: what the rows of each KV head may become, and how well that was measured to work.
#include <algorithm>
#include <cmath>

#include "model/load.h"

namespace headroom::model {
namespace {

constexpr uint32_t kMaxProfiles = 1u << 8;
constexpr uint32_t kMaxRoles = 1u << 8;
constexpr uint32_t kMaxQualities = 1u << 4;
constexpr size_t kMaxProfileNameBytes = 63;  // reports have room for so many

Status LoadCodec(const Where& where, const char* what, const fb::Codec* from, RowCodec* codec,
                 RoleSpec* role) {
  if (from == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, what, from->kind()));
  switch (from->kind()) {
    case fb::CodecKind::None:
      return Corrupt(where, "%s has no kind", what);
    case fb::CodecKind::F32:
      *codec = RowCodec::kF32;
      break;
    case fb::CodecKind::F16:
      *codec = RowCodec::kF16;
      break;
    case fb::CodecKind::I8Token:
      *codec = RowCodec::kI8Token;
      break;
    case fb::CodecKind::Block32I8:
      *codec = RowCodec::kBlock8;
      break;
    case fb::CodecKind::Block32I4:
      *codec = RowCodec::kBlock4;
      break;
    default:
      return Unsupported(where, "%s %s", what, fb::EnumNameCodecKind(from->kind()));
  }
  if (from->residual_tokens() != 0) return Unsupported(where, "%s with residual rows", what);
  if (from->first_f16_tokens() > kMaxExactRows) {
    return Corrupt(where, "%s keeps %u rows exact > %u", what, from->first_f16_tokens(),
                   kMaxExactRows);
  }
  role->exact_rows = std::max(role->exact_rows, from->first_f16_tokens());
  role->rotate |= from->hadamard() != 0;
  return {};
}

Status LoadVotes(const Where& where, const fb::Retention& from, RoleSpec* role) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "score source", from.score()));
  switch (from.score()) {
    case fb::ScoreSource::Accumulated:
      role->retention = Retention::kAccumulated;
      break;
    case fb::ScoreSource::ObservationWindow:
      role->retention = Retention::kObserved;
      break;
    case fb::ScoreSource::None:
      return Corrupt(where, "a budget of rows without a score");
    default:
      return Unsupported(where, "score source %s", fb::EnumNameScoreSource(from.score()));
  }
  if (from.observation_window() == 0 || from.observation_window() > kMaxObserved) {
    return Corrupt(where, "%u queries vote, not 1..%u", from.observation_window(), kMaxObserved);
  }
  if (from.pool() > kMaxPool || (from.pool() != 0 && from.pool() % 2 == 0)) {
    return Corrupt(where, "votes pooled over %u rows, not an odd number up to %u", from.pool(),
                   kMaxPool);
  }
  role->observe = from.observation_window();
  role->pool = std::max(1u, from.pool());
  role->pool_max = from.pool_max();
  return {};
}

Status LoadRetention(const Where& where, const fb::Retention* from, RoleSpec* role) {
  if (from == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "retention", from->kind()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "position policy", from->positions()));
  switch (from->kind()) {
    case fb::RetentionKind::AsViewed:
    case fb::RetentionKind::Full:
      return {};
    case fb::RetentionKind::Ring:
      role->retention = Retention::kWindow;
      role->rows = from->recent();
      break;
    case fb::RetentionKind::RingCompensated:
      role->retention = Retention::kCompensated;
      role->rows = from->recent();
      break;
    case fb::RetentionKind::Budget:
      HR_RETURN_IF_ERROR(LoadVotes(where, *from, role));
      role->rows = from->capacity();
      break;
    default:
      return Unsupported(where, "%s retention", fb::EnumNameRetentionKind(from->kind()));
  }
  role->relative =
      from->positions() == fb::PositionPolicy::Compact && from->kind() == fb::RetentionKind::Ring;
  if (from->positions() != fb::PositionPolicy::Absolute && !role->relative) {
    return Unsupported(where, "%s positions in %s retention",
                       fb::EnumNamePositionPolicy(from->positions()),
                       fb::EnumNameRetentionKind(from->kind()));
  }
  if (from->merge()) return Unsupported(where, "merged rows");
  if (!(from->share() >= 0.0f && from->share() <= 1.0f)) {
    return Corrupt(where, "a share of %g of the context", static_cast<double>(from->share()));
  }
  if (from->sinks() > kMaxSinks || role->rows > kMaxTokens) {
    return Corrupt(where, "%u sinks and %u rows", from->sinks(), role->rows);
  }
  if (role->rows == 0 && from->share() == 0.0f) return Corrupt(where, "0 rows are kept");
  role->sinks = from->sinks();
  role->share = from->share();
  return {};
}

Status LoadRank(const Where& where, const char* what, uint32_t from, uint32_t* rank) {
  if (from > kMaxBasisWidth || from % kRankStep != 0) {
    return Corrupt(where, "%s %u is no multiple of %u up to %u", what, from, kRankStep,
                   kMaxBasisWidth);
  }
  *rank = from;
  return {};
}

Status LoadRoles(LoadContext& context) {
  const uint32_t count = Count(context.graph.roles());
  HR_RETURN_IF_ERROR(CheckCount("roles", count, kMaxRoles));
  HR_RETURN_IF_ERROR(context.Charge(count, sizeof(RoleSpec), "roles"));
  for (uint32_t i = 0; i < count; ++i) {
    const Where where("role %u", i);
    const fb::Role& from = *context.graph.roles()->Get(i);
    RoleSpec& role = context.model.roles.emplace_back();
    HR_RETURN_IF_ERROR(LoadCodec(where, "key codec", from.key_codec(), &role.keys, &role));
    HR_RETURN_IF_ERROR(LoadCodec(where, "value codec", from.value_codec(), &role.values, &role));
    HR_RETURN_IF_ERROR(LoadRetention(where, from.retention(), &role));
    HR_RETURN_IF_ERROR(LoadRank(where, "key rank", from.key_rank(), &role.key_rank));
    HR_RETURN_IF_ERROR(LoadRank(where, "value rank", from.value_rank(), &role.value_rank));
    HR_RETURN_IF_ERROR(CheckKnown(where, "place", from.place()));
    if (from.place() != fb::Place::Any && from.place() != fb::Place::Arena) {
      return Unsupported(where, "rows in place %s", fb::EnumNamePlace(from.place()));
    }
  }
  return {};
}

Status LoadLanes(LoadContext& context, const Where& where, const fb::Profile& from,
                 ProfileSpec* profile) {
  const auto& attentions = context.model.attentions;
  profile->roles.resize(attentions.size());
  for (uint32_t i = 0; i < Count(from.lanes()); ++i) {
    const fb::LaneRoles& lanes = *from.lanes()->Get(i);
    HR_RETURN_IF_ERROR(CheckIndex(where, "attention", lanes.attention(), attentions.size()));
    auto& roles = profile->roles[lanes.attention()];
    const uint32_t heads = attentions[lanes.attention()].kv_heads();
    if (const int32_t source = attentions[lanes.attention()].source_attention; source != kNone) {
      return Corrupt(where, "attention %u has the rows of attention %d and no roles of its own",
                     lanes.attention(), source);
    }
    if (!roles.empty()) return Corrupt(where, "attention %u is named twice", lanes.attention());
    if (Count(lanes.roles()) != heads) {
      return Corrupt(where, "roles for %u heads of attention %u, which has %u",
                     Count(lanes.roles()), lanes.attention(), heads);
    }
    for (const uint8_t role : *lanes.roles()) {
      HR_RETURN_IF_ERROR(CheckIndex(where, "role", role, context.model.roles.size()));
      roles.push_back(role);
    }
  }
  for (size_t i = 0; i < profile->roles.size(); ++i) {
    if (attentions[i].source_attention != kNone) continue;
    if (profile->roles[i].empty()) return Corrupt(where, "no roles for attention %zu", i);
  }
  return {};
}

static_assert(static_cast<int>(fb::Metric::Accuracy) == static_cast<int>(Metric::kAccuracy) &&
              static_cast<int>(fb::Metric::MAX) == static_cast<int>(Metric::kRecall));

Status LoadQuality(const Where& where, const fb::Quality& from, QualitySpec* quality) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "metric", from.metric()));
  if (from.metric() == fb::Metric::None) return Corrupt(where, "a quality without a metric");
  if (!std::isfinite(from.value()) || !std::isfinite(from.reference())) {
    return Corrupt(where, "a quality of %g against %g", static_cast<double>(from.value()),
                   static_cast<double>(from.reference()));
  }
  quality->metric = static_cast<Metric>(from.metric());
  quality->context_tokens = from.context_tokens();
  quality->value = from.value();
  quality->reference = from.reference();
  return CheckText(where, "task", from.task(), kMaxNameBytes, false, &quality->task);
}

// Of one task the profiles go from the best to the worst, so that the first that fits is the best.
Status CheckOrder(const Where& where, const ProfileSpec& better, const ProfileSpec& worse) {
  for (const QualitySpec& a : better.quality) {
    for (const QualitySpec& b : worse.quality) {
      if (a.task != b.task || a.metric != b.metric) continue;
      if (a.context_tokens != b.context_tokens) continue;
      if (LargerIsBetter(a.metric) ? a.value >= b.value : a.value <= b.value) break;
      return Corrupt(where, "is measured better (%g) than the profile before it (%g)",
                     static_cast<double>(b.value), static_cast<double>(a.value));
    }
    break;  // the first one orders them
  }
  return {};
}

}  // namespace

Status LoadProfiles(LoadContext& context) {
  HR_RETURN_IF_ERROR(LoadRoles(context));
  const uint32_t count = Count(context.graph.profiles());
  HR_RETURN_IF_ERROR(CheckCount("profiles", count, kMaxProfiles));
  uint64_t heads = 0;
  for (const AttentionSpec& attention : context.model.attentions) {
    heads += attention.kv_heads() + sizeof(std::vector<uint8_t>);
  }
  for (uint32_t i = 0; i < count; ++i) {
    const Where where("profile %u", i);
    const fb::Profile& from = *context.graph.profiles()->Get(i);
    HR_RETURN_IF_ERROR(context.Charge(heads, 1, "roles of a profile"));
    ProfileSpec profile;
    HR_RETURN_IF_ERROR(CheckText(where, "name", from.name(), kMaxNameBytes, false, &profile.name));
    if (profile.name.empty()) return Corrupt(where, "has no name");
    if (profile.name.size() > kMaxProfileNameBytes) {
      return Corrupt(where, "has a name of %zu bytes > %zu", profile.name.size(),
                     kMaxProfileNameBytes);
    }
    for (int codec = 0; codec < kRowCodecs; ++codec) {
      if (profile.name != RowCodecName(static_cast<RowCodec>(codec))) continue;
      return Corrupt(where, "has the name of a codec");
    }
    for (const ProfileSpec& other : context.model.profiles) {
      if (other.name == profile.name) return Corrupt(where, "has the name of another");
    }
    HR_RETURN_IF_ERROR(LoadLanes(context, where, from, &profile));
    HR_RETURN_IF_ERROR(CheckCount("qualities", Count(from.quality()), kMaxQualities));
    for (uint32_t k = 0; k < Count(from.quality()); ++k) {
      HR_RETURN_IF_ERROR(
          LoadQuality(where, *from.quality()->Get(k), &profile.quality.emplace_back()));
    }
    if (i > 0) HR_RETURN_IF_ERROR(CheckOrder(where, context.model.profiles.back(), profile));
    context.model.profiles.push_back(std::move(profile));
  }
  return {};
}

}  // namespace headroom::model
