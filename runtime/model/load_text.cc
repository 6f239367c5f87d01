// Everything that is text or about text: metadata, sampling hints, tokenizer; and the profiles'
// indices.
#include <cmath>
#include <cstring>

#include "model/load.h"

namespace headroom::model {
namespace {

constexpr uint32_t kMaxVocabulary = kMaxWidth;
constexpr uint32_t kMaxTokenBytes = 1u << 16;
// Of all merges' results together. Real tables join a few MB; without a limit a crafted one of few
// long tokens and many merges would keep opening busy for an hour.
constexpr uint64_t kMaxMergedBytes = uint64_t{1} << 28;
constexpr uint32_t kMaxPatterns = 64;
constexpr uint32_t kMaxPatternBytes = 1u << 14;
constexpr uint32_t kMaxTemplateBytes = 1u << 20;
constexpr uint32_t kMaxLicenceBytes = 1u << 16;
constexpr uint32_t kMaxSpecial = 1u << 20;
constexpr uint32_t kMaxProfiles = 1u << 8;

Status CheckHint(const Where& where, const char* what, float value, float limit) {
  if (std::isfinite(value) && value >= 0.0f && value <= limit) return {};
  return Corrupt(where, "%s %g is not in 0..%g", what, static_cast<double>(value),
                 static_cast<double>(limit));
}

Status LoadSampling(LoadContext& context) {
  const fb::Sampling* from = context.graph.sampling();
  if (from == nullptr) return {};
  const Where where("sampling");
  HR_RETURN_IF_ERROR(CheckHint(where, "temperature", from->temperature(), 100.0f));
  HR_RETURN_IF_ERROR(CheckHint(where, "top_p", from->top_p(), 1.0f));
  HR_RETURN_IF_ERROR(CheckHint(where, "min_p", from->min_p(), 1.0f));
  HR_RETURN_IF_ERROR(CheckHint(where, "repetition penalty", from->repetition_penalty(), 100.0f));
  context.model.sampling = {from->temperature(), from->top_k(), from->top_p(), from->min_p(),
                            from->repetition_penalty()};
  return {};
}

Status LoadTokenTable(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  const auto* ends = from.token_ends();
  const uint32_t bytes = Count(from.token_bytes());
  if (Count(ends) == 0) return Corrupt(where, "no tokens");
  if (ends->size() > context.model.metadata.vocabulary) {
    return Corrupt(where, "%u tokens > vocabulary %u", ends->size(),
                   context.model.metadata.vocabulary);
  }
  uint32_t begin = 0;
  for (uint32_t id = 0; id < ends->size(); ++id) {
    const uint32_t end = ends->Get(id);
    if (end < begin || end > bytes)
      return Corrupt(where, "token %u lies at %u..%u of %u bytes", id, begin, end, bytes);
    if (end - begin > kMaxTokenBytes)
      return Corrupt(where, "token %u has %u bytes > %u", id, end - begin, kMaxTokenBytes);
    begin = end;
  }
  if (begin != bytes) return Corrupt(where, "%u bytes behind the last token", bytes - begin);
  const char* data = from.token_bytes() == nullptr
                         ? ""
                         : reinterpret_cast<const char*>(from.token_bytes()->data());
  context.model.tokenizer.tokens = TokenTable({ends->data(), ends->size()}, data);
  return {};
}

Status LoadMerges(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  if (Count(from.merges()) == 0) return {};
  static_assert(sizeof(Merge) == sizeof(fb::Merge) && alignof(Merge) == alignof(fb::Merge));
  const TokenTable& tokens = context.model.tokenizer.tokens;
  const std::span<const Merge> merges(reinterpret_cast<const Merge*>(from.merges()->Data()),
                                      from.merges()->size());
  uint64_t merged_bytes = 0;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    for (const uint32_t id : {merge.left, merge.right, merge.result}) {
      if (id >= tokens.size())
        return Corrupt(where, "merge %zu names token %u of %zu", rank, id, tokens.size());
    }
    const std::string_view left = tokens[merge.left];
    const std::string_view right = tokens[merge.right];
    const std::string_view result = tokens[merge.result];
    merged_bytes += result.size();
    if (merged_bytes > kMaxMergedBytes) {
      return Corrupt(where, "merges up to %zu of %zu join more than %llu bytes", rank,
                     merges.size(), Number(kMaxMergedBytes));
    }
    if (left.empty() || right.empty() || result.size() != left.size() + right.size() ||
        !result.starts_with(left) || !result.ends_with(right)) {
      return Corrupt(where, "merge %zu: token %u is not token %u and token %u joined", rank,
                     merge.result, merge.left, merge.right);
    }
  }
  context.model.tokenizer.merges = merges;
  return {};
}

Status LoadIds(LoadContext& context, const Where& where, const char* what,
               const flatbuffers::Vector<uint32_t>* from, uint64_t limit,
               std::vector<uint32_t>* out) {
  HR_RETURN_IF_ERROR(CheckCount(what, Count(from), kMaxSpecial));
  HR_RETURN_IF_ERROR(context.Charge(Count(from), sizeof(uint32_t), what));
  out->resize(Count(from));
  for (uint32_t i = 0; i < out->size(); ++i) {
    (*out)[i] = from->Get(i);
    HR_RETURN_IF_ERROR(CheckIndex(where, what, (*out)[i], limit));
  }
  return {};
}

// Lists that run beside the tokens must be as long as they.
Status CheckParallelLists(const Where& where, const fb::Tokenizer& from, uint64_t tokens) {
  if (Count(from.scores()) != 0 && from.scores()->size() != tokens) {
    return Corrupt(where, "%u scores for %llu tokens", from.scores()->size(),
                   static_cast<unsigned long long>(tokens));
  }
  if (Count(from.byte_tokens()) != 0 && from.byte_tokens()->size() != 256) {
    return Corrupt(where, "%u byte tokens, not 256", from.byte_tokens()->size());
  }
  for (uint32_t i = 0; i < Count(from.byte_tokens()); ++i) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "byte token", from.byte_tokens()->Get(i), tokens));
  }
  if (Count(from.byte_tokens()) != 0)
    return Unsupported(where, "byte tokens beside a byte-level vocabulary");
  return {};
}

Status LoadPatterns(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  std::vector<std::string_view>& patterns = context.model.tokenizer.patterns;
  HR_RETURN_IF_ERROR(CheckCount("split patterns", Count(from.patterns()), kMaxPatterns));
  HR_RETURN_IF_ERROR(
      context.Charge(Count(from.patterns()), sizeof(std::string_view), "split patterns"));
  patterns.resize(Count(from.patterns()));
  for (uint32_t i = 0; i < patterns.size(); ++i) {
    HR_RETURN_IF_ERROR(CheckText(where, "split pattern", from.patterns()->Get(i), kMaxPatternBytes,
                                 true, &patterns[i]));
    if (patterns[i].empty()) return Corrupt(where, "split pattern %u is empty", i);
  }
  return {};
}

Status LoadSpecial(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  TokenizerSpec& to = context.model.tokenizer;
  HR_RETURN_IF_ERROR(LoadIds(context, where, "special token", from.special_tokens(),
                             to.tokens.size(), &to.special_tokens));
  for (const uint32_t id : to.special_tokens) {
    if (to.tokens[id].empty()) return Corrupt(where, "special token %u is empty", id);
  }
  return {};
}

// Ids that sampling needs even where there is no text.
Status LoadEnds(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  TokenizerSpec& to = context.model.tokenizer;
  const uint64_t limit =
      to.kind == TokenizerKind::kNone ? context.model.metadata.vocabulary : to.tokens.size();
  HR_RETURN_IF_ERROR(
      LoadIds(context, where, "end token", from.end_tokens(), limit, &to.end_tokens));
  if (from.unknown_token() != kNone) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "unknown token", from.unknown_token(), limit));
  }
  if (from.begin_token() != kNone) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "begin token", from.begin_token(), limit));
  } else if (from.add_begin()) {
    return Corrupt(where, "a begin token is to be added, but none is named");
  }
  to.begin_token = from.begin_token();
  to.add_begin = from.add_begin();
  return {};
}

Status CheckRoles(const LoadContext& context, const Where& where,
                  const flatbuffers::Vector<uint8_t>* roles) {
  for (uint32_t i = 0; i < Count(roles); ++i) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "role", roles->Get(i), Count(context.graph.roles())));
  }
  return {};
}

Status CheckLanes(const LoadContext& context, const Where& where, const fb::Profile& profile) {
  for (uint32_t i = 0; i < Count(profile.lanes()); ++i) {
    const fb::LaneRoles& lane = *profile.lanes()->Get(i);
    HR_RETURN_IF_ERROR(
        CheckIndex(where, "attention", lane.attention(), context.model.attentions.size()));
    const uint32_t heads = context.model.attentions[lane.attention()].kv_heads;
    if (Count(lane.roles()) != 0 && lane.roles()->size() != heads) {
      return Corrupt(where, "roles for %u heads of attention %u, which has %u",
                     lane.roles()->size(), lane.attention(), heads);
    }
    HR_RETURN_IF_ERROR(CheckRoles(context, where, lane.roles()));
  }
  for (uint32_t i = 0; i < Count(profile.quality()); ++i) {
    const fb::Quality& quality = *profile.quality()->Get(i);
    if (std::isfinite(quality.value()) && std::isfinite(quality.reference())) continue;
    return Corrupt(where, "quality %u is %g of %g", i, static_cast<double>(quality.value()),
                   static_cast<double>(quality.reference()));
  }
  return {};
}

}  // namespace

Status LoadMetadata(LoadContext& context) {
  const fb::Metadata* from = context.graph.metadata();
  const Where where("metadata");
  Metadata& to = context.model.metadata;
  if (from == nullptr) return Corrupt(where, "missing");
  HR_RETURN_IF_ERROR(CheckText(where, "name", from->name(), kMaxNameBytes, false, &to.name));
  HR_RETURN_IF_ERROR(CheckText(where, "architecture", from->architecture(), kMaxNameBytes, false,
                               &to.architecture));
  HR_RETURN_IF_ERROR(
      CheckText(where, "license", from->license(), kMaxLicenceBytes, true, &to.license));
  HR_RETURN_IF_ERROR(CheckText(where, "source", from->source(), kMaxNameBytes, false, &to.source));
  if (from->vocabulary() == 0 || from->vocabulary() > kMaxVocabulary) {
    return Corrupt(where, "vocabulary %u is not 1..%u", from->vocabulary(), kMaxVocabulary);
  }
  if (from->context_tokens() > kMaxTokens) {
    return Corrupt(where, "context of %u tokens > %u", from->context_tokens(), kMaxTokens);
  }
  to.vocabulary = from->vocabulary();
  to.context_tokens = from->context_tokens();
  if (context.graph.prefix_embedding() != kNone)
    return Unsupported(where, "rows before every prompt");
  if (context.graph.pre_pass() != nullptr)
    return Unsupported(where, "a pass that drops prompt tokens");
  return LoadSampling(context);
}

Status LoadTokenizer(LoadContext& context) {
  const fb::Tokenizer* from = context.graph.tokenizer();
  if (from == nullptr) return {};
  const Where where("tokenizer");
  TokenizerSpec& to = context.model.tokenizer;
  HR_RETURN_IF_ERROR(CheckKnown(where, "kind", from->kind()));
  if (from->kind() == fb::TokenizerKind::None) return LoadEnds(context, where, *from);
  if (from->kind() != fb::TokenizerKind::ByteBpe) {
    return Unsupported(where, "kind %s", fb::EnumNameTokenizerKind(from->kind()));
  }
  to.kind = TokenizerKind::kByteBpe;
  HR_RETURN_IF_ERROR(LoadTokenTable(context, where, *from));
  HR_RETURN_IF_ERROR(CheckParallelLists(where, *from, to.tokens.size()));
  HR_RETURN_IF_ERROR(LoadMerges(context, where, *from));
  HR_RETURN_IF_ERROR(LoadSpecial(context, where, *from));
  HR_RETURN_IF_ERROR(LoadEnds(context, where, *from));
  HR_RETURN_IF_ERROR(LoadPatterns(context, where, *from));
  to.add_prefix_space = from->add_prefix_space();
  to.ignore_merges = from->ignore_merges();
  return CheckText(where, "chat template", from->chat_template(), kMaxTemplateBytes, true,
                   &to.chat_template);
}

Status CheckProfiles(LoadContext& context) {
  HR_RETURN_IF_ERROR(CheckCount("roles", Count(context.graph.roles()), 1u << 8));
  HR_RETURN_IF_ERROR(CheckCount("profiles", Count(context.graph.profiles()), kMaxProfiles));
  for (uint32_t i = 0; i < Count(context.graph.profiles()); ++i) {
    const Where where("profile %u", i);
    std::string_view name;
    const fb::Profile& profile = *context.graph.profiles()->Get(i);
    HR_RETURN_IF_ERROR(CheckText(where, "name", profile.name(), kMaxNameBytes, false, &name));
    HR_RETURN_IF_ERROR(CheckLanes(context, where, profile));
  }
  return {};
}

}  // namespace headroom::model
