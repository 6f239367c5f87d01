#include "text/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace headroom::text {
Result<std::unique_ptr<Tokenizer>> Tokenizer::Create(const model::TokenizerSpec& spec) {
  if (spec.kind == model::TokenizerKind::kNone) {
    return Status::Make(StatusCode::kUnsupported, "this model file carries no tokenizer");
  }
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  tokenizer->spec_ = &spec;
  if (spec.add_begin &&
      (spec.begin_token < 0 || static_cast<size_t>(spec.begin_token) >= spec.tokens.size())) {
    return Status::Make(StatusCode::kCorrupt,
                        "tokenizer: begin token %d outside the vocabulary %zu", spec.begin_token,
                        spec.tokens.size());
  }
  HR_RETURN_IF_ERROR(tokenizer->BuildEncoder());
  HR_RETURN_IF_ERROR(tokenizer->normaliser_.Build(spec.normal_steps));
  HR_RETURN_IF_ERROR(tokenizer->special_.Build(spec, nullptr));
  HR_RETURN_IF_ERROR(tokenizer->normalised_.Build(spec, &tokenizer->normaliser_));
  HR_RETURN_IF_ERROR(tokenizer->splitter_.Build(spec));
  return tokenizer;
}

Status Tokenizer::BuildEncoder() {
  if (spec_->kind == model::TokenizerKind::kUnigram) return unigram_.Build(*spec_);
  if (spec_->kind == model::TokenizerKind::kLongest) return longest_.Build(*spec_);
  return bpe_.Build(*spec_);
}

Status Tokenizer::EncodePiece(std::string_view piece, Work& work) const {
  if (spec_->kind == model::TokenizerKind::kUnigram)
    return unigram_.EncodePiece(piece, work.unigram, work.sink);
  if (spec_->kind == model::TokenizerKind::kLongest) return longest_.EncodePiece(piece, work.sink);
  return bpe_.EncodePiece(piece, work.merge, work.sink);
}

// Text in the form that its tokens have; `plain` follows it.
Result<std::string> Tokenizer::Prepare(std::string_view text, std::vector<TextRange>* plain) const {
  std::string formed;
  if (!normaliser_.Leaves(text)) {
    HR_ASSIGN_OR_RETURN(formed, normaliser_.Apply(text));
    // Where a range came to lie is not known: no special token is looked for in the whole.
    if (!plain->empty()) *plain = {{0, formed.size()}};
    text = formed;
  }
  if (text.empty() || splitter_.maps_spaces()) return std::string(text);
  const bool prefix = spec_->space_prefix == model::SpacePrefix::kAlways;
  for (TextRange& range : *plain) {
    for (size_t* place : {&range.begin, &range.end})
      *place = MapSpaces(text.substr(0, *place), spec_->space, prefix).size();
  }
  return MapSpaces(text, spec_->space, prefix);
}

// A part of the text between special tokens.
Status Tokenizer::EncodeOrdinary(std::string_view whole, TextRange part, Work& work) const {
  std::string_view text = whole.substr(part.begin, part.end - part.begin);
  if (text.empty()) return {};
  std::vector<TextRange> plain;
  for (const TextRange& range : work.rule.plain) {
    if (range.begin >= part.end || range.end <= part.begin) continue;
    plain.push_back({std::max(range.begin, part.begin) - part.begin,
                     std::min(range.end, part.end) - part.begin});
  }
  std::string prepared;
  if (spec_->space_prefix == model::SpacePrefix::kAlways ||
      (!spec_->space.empty() && text.find(spec_->space) != text.npos) ||
      !normaliser_.Leaves(text)) {
    HR_ASSIGN_OR_RETURN(prepared, Prepare(text, &plain));
    text = prepared;
  }
  const SpecialRule rule{work.rule.special, plain};
  const bool first = part.begin == 0;
  size_t done = 0;
  SpecialMatcher::Match match;
  while (normalised_.Next(text, done, rule, &match)) {
    HR_RETURN_IF_ERROR(
        EncodePieces(text.substr(done, match.begin - done), first && done == 0, work));
    work.sink.Add(match.id);
    done = match.end;
  }
  return EncodePieces(text.substr(done), first && done == 0, work);
}

Status Tokenizer::EncodePieces(std::string_view text, bool first, Work& work) const {
  if (text.empty()) return {};
  std::string prefixed;
  const bool wanted =
      spec_->add_prefix_space || (first && spec_->space_prefix == model::SpacePrefix::kFirst);
  if (wanted && text[0] != ' ') {
    prefixed.reserve(text.size() + 1);
    prefixed.append(1, ' ').append(text);
    text = prefixed;
  }
  struct Context {
    const Tokenizer* tokenizer;
    Work* work;
  } context{this, &work};
  return splitter_.Split(
      text, work.split,
      [](void* user_data, std::string_view piece) {
        const auto [tokenizer, work] = *static_cast<Context*>(user_data);
        return tokenizer->EncodePiece(piece, *work);
      },
      &context);
}

Status Tokenizer::Encode(std::string_view text, uint32_t flags, std::span<int32_t> out,
                         size_t* count, std::span<const TextRange> plain) const {
  Work work{{out}, {}, {}, {}, {!(flags & kNoSpecial), plain}};
  HR_RETURN_IF_ERROR(splitter_.Prepare(text.size(), &work.split));
  if (spec_->add_begin && !(flags & kNoBegin))
    work.sink.Add(static_cast<uint32_t>(spec_->begin_token));
  size_t done = 0;
  SpecialMatcher::Match match;
  while (special_.Next(text, done, work.rule, &match)) {
    HR_RETURN_IF_ERROR(EncodeOrdinary(text, {done, match.begin}, work));
    work.sink.Add(match.id);
    done = match.end;
  }
  HR_RETURN_IF_ERROR(EncodeOrdinary(text, {done, text.size()}, work));
  *count = work.sink.count;
  if (*count > out.size()) {
    return Status::Make(StatusCode::kBufferTooSmall, "%zu tokens > capacity %zu", *count,
                        out.size());
  }
  return {};
}

Status Tokenizer::Decode(std::span<const int32_t> tokens, std::span<char> out,
                         size_t* bytes) const {
  size_t total = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<size_t>(tokens[i]) >= spec_->tokens.size()) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "token %d at place %zu outside the vocabulary %zu", tokens[i], i,
                          spec_->tokens.size());
    }
    total += (i == 0 ? FirstTokenBytes(tokens[i]) : TokenBytes(tokens[i])).size();
  }
  *bytes = total;
  size_t at = 0;
  for (size_t i = 0; i < tokens.size() && at < out.size(); ++i) {
    const std::string_view token = i == 0 ? FirstTokenBytes(tokens[i]) : TokenBytes(tokens[i]);
    const size_t fits = std::min(token.size(), out.size() - at);
    std::memcpy(out.data() + at, token.data(), fits);
    at += fits;
  }
  if (total > out.size()) {
    return Status::Make(StatusCode::kBufferTooSmall, "%zu bytes of text > capacity %zu", total,
                        out.size());
  }
  return {};
}

std::string_view Tokenizer::TokenBytes(int32_t token) const {
  if (token < 0 || static_cast<size_t>(token) >= spec_->tokens.size()) return {};
  return spec_->tokens[token];
}

std::string_view Tokenizer::FirstTokenBytes(int32_t token) const {
  std::string_view bytes = TokenBytes(token);
  for (uint32_t i = 0; i < spec_->strip_spaces && bytes.starts_with(' '); ++i)
    bytes.remove_prefix(1);
  return bytes;
}

bool Tokenizer::TextBegins(std::span<const int32_t> tokens) const {
  const auto special = [&](int32_t token) {
    const uint32_t id = static_cast<uint32_t>(token);
    return std::find(spec_->special_tokens.begin(), spec_->special_tokens.end(), id) !=
               spec_->special_tokens.end() ||
           std::any_of(spec_->added_tokens.begin(), spec_->added_tokens.end(),
                       [&](const auto& added) { return added.special && added.token == id; });
  };
  return std::all_of(tokens.begin(), tokens.end(), special);
}

uint64_t Tokenizer::table_bytes() const {
  return sizeof(*this) + bpe_.table_bytes() + unigram_.table_bytes() + longest_.table_bytes() +
         special_.table_bytes() + normalised_.table_bytes();
}

bool Tokenizer::IsEndToken(int32_t token) const {
  return token >= 0 && std::find(spec_->end_tokens.begin(), spec_->end_tokens.end(),
                                 static_cast<uint32_t>(token)) != spec_->end_tokens.end();
}

}  // namespace headroom::text
