// The tokenizer of a model file.
#include <cmath>

#include "model/load.h"

namespace headroom::model {
namespace {

constexpr uint32_t kMaxTokenBytes = 1u << 16;
// Of all merges' results together. Real tables join a few MB; without a limit a crafted one of few
// long tokens and many merges would keep opening busy for an hour.
constexpr uint64_t kMaxMergedBytes = uint64_t{1} << 28;
constexpr uint32_t kMaxTemplateBytes = 1u << 20;
constexpr uint32_t kMaxFormatBytes = 31;
constexpr uint32_t kMaxSpecial = 1u << 20;

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

template <typename T>
Status LoadScores(const Where& where, const flatbuffers::Vector<T>* from, uint64_t tokens,
                  std::span<const T>* out) {
  if (Count(from) == 0) return {};
  if (from->size() != tokens)
    return Corrupt(where, "%u scores for %llu tokens", from->size(), Number(tokens));
  for (uint32_t id = 0; id < from->size(); ++id) {
    if (!std::isfinite(from->Get(id)))
      return Corrupt(where, "the score of token %u is not finite", id);
  }
  *out = {from->data(), from->size()};
  return {};
}

// Tokens of single bytes say exactly their bytes, so that decoding gives back what was encoded.
Status LoadByteTokens(const Where& where, const fb::Tokenizer& from, TokenizerSpec& to) {
  const auto* ids = from.byte_tokens();
  if (Count(ids) == 0) {
    return to.kind == TokenizerKind::kCharacterBpe && from.unknown_token() < 0
               ? Unsupported(where, "characters without byte tokens or an unknown one")
               : Status();
  }
  if (ids->size() != 256) return Corrupt(where, "%u byte tokens, not 256", ids->size());
  for (uint32_t byte = 0; byte < 256; ++byte) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "byte token", ids->Get(byte), to.tokens.size()));
    if (to.kind == TokenizerKind::kByteBpe) continue;
    const char bytes[] = {static_cast<char>(byte)};
    if (to.tokens[ids->Get(byte)] != std::string_view(bytes, 1))
      return Corrupt(where, "token %u does not say byte 0x%02x", ids->Get(byte), byte);
  }
  if (to.kind == TokenizerKind::kByteBpe)
    return Unsupported(where, "byte tokens beside a byte-level vocabulary");
  to.byte_tokens = {ids->data(), ids->size()};
  return {};
}

Status LoadAddedTokens(LoadContext& context, const Where& where, const fb::Tokenizer& from) {
  TokenizerSpec& to = context.model.tokenizer;
  const uint32_t count = Count(from.added_tokens());
  HR_RETURN_IF_ERROR(CheckCount("added tokens", count, kMaxSpecial));
  HR_RETURN_IF_ERROR(context.Charge(count, sizeof(AddedToken), "added tokens"));
  to.added_tokens.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    const fb::AddedToken& token = *from.added_tokens()->Get(i);
    AddedToken& out = to.added_tokens[i];
    HR_RETURN_IF_ERROR(CheckIndex(where, "added token", token.token(), to.tokens.size()));
    HR_RETURN_IF_ERROR(
        CheckText(where, "added token", token.text(), kMaxTokenBytes, true, &out.text));
    if (out.text.empty() && to.tokens[token.token()].empty())
      return Corrupt(where, "added token %u is empty", token.token());
    out.token = token.token();
    out.special = token.special();
    out.normalised = token.normalised();
    out.strip_left = token.strip_left();
    out.strip_right = token.strip_right();
    out.single_word = token.single_word();
  }
  return {};
}

// What only vocabularies of SentencePiece have.
Status LoadSentencePiece(const Where& where, const fb::Tokenizer& from, TokenizerSpec& to) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "space prefix", from.space_prefix()));
  HR_RETURN_IF_ERROR(CheckText(where, "sign for a space", from.space(), 8, false, &to.space));
  if (to.space == " ") return Corrupt(where, "the sign for a space is a space");
  to.space_prefix = static_cast<SpacePrefix>(from.space_prefix());
  to.strip_spaces = from.strip_spaces();
  to.unknown_token = from.unknown_token();
  if (to.kind == TokenizerKind::kUnigram && to.scores.empty() && to.double_scores.empty())
    return Corrupt(where, "no scores");
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

Status LoadKind(const Where& where, fb::TokenizerKind kind, TokenizerKind* out) {
  switch (kind) {
    case fb::TokenizerKind::ByteBpe:
      *out = TokenizerKind::kByteBpe;
      return {};
    case fb::TokenizerKind::CharacterBpe:
      *out = TokenizerKind::kCharacterBpe;
      return {};
    case fb::TokenizerKind::Unigram:
      *out = TokenizerKind::kUnigram;
      return {};
    case fb::TokenizerKind::Longest:
      *out = TokenizerKind::kLongest;
      return {};
    default:
      return Unsupported(where, "kind %s", fb::EnumNameTokenizerKind(kind));
  }
}

}  // namespace

Status LoadTokenizer(LoadContext& context) {
  const fb::Tokenizer* from = context.graph.tokenizer();
  if (from == nullptr) return {};
  const Where where("tokenizer");
  TokenizerSpec& to = context.model.tokenizer;
  HR_RETURN_IF_ERROR(CheckKnown(where, "kind", from->kind()));
  if (from->kind() == fb::TokenizerKind::None) return LoadEnds(context, where, *from);
  HR_RETURN_IF_ERROR(LoadKind(where, from->kind(), &to.kind));
  HR_RETURN_IF_ERROR(LoadTokenTable(context, where, *from));
  HR_RETURN_IF_ERROR(LoadByteTokens(where, *from, to));
  HR_RETURN_IF_ERROR(LoadScores(where, from->scores(), to.tokens.size(), &to.scores));
  HR_RETURN_IF_ERROR(LoadScores(where, from->double_scores(), to.tokens.size(), &to.double_scores));
  HR_RETURN_IF_ERROR(LoadMerges(context, where, *from));
  HR_RETURN_IF_ERROR(LoadSpecial(context, where, *from));
  HR_RETURN_IF_ERROR(LoadEnds(context, where, *from));
  const bool bytes = to.kind == TokenizerKind::kByteBpe || to.kind == TokenizerKind::kLongest;
  if (!bytes) {
    HR_RETURN_IF_ERROR(LoadSentencePiece(where, *from, to));
  } else if (from->space_prefix() != fb::SpacePrefix::None) {
    return Unsupported(where, "a space prefix of a byte-level vocabulary");
  }
  HR_RETURN_IF_ERROR(LoadAddedTokens(context, where, *from));
  to.add_prefix_space = from->add_prefix_space();
  to.ignore_merges = from->ignore_merges();
  to.fuse_unknown = from->fuse_unknown();
  HR_RETURN_IF_ERROR(LoadTextSteps(context, *from));
  HR_RETURN_IF_ERROR(CheckText(where, "chat template", from->chat_template(), kMaxTemplateBytes,
                               true, &to.chat_template));
  return CheckText(where, "chat format", from->chat_format(), kMaxFormatBytes, false,
                   &to.chat_format);
}

}  // namespace headroom::model
