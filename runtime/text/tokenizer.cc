#include "text/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace headroom::text {

Result<std::unique_ptr<Tokenizer>> Tokenizer::Create(const model::TokenizerSpec& spec) {
  if (spec.kind != model::TokenizerKind::kByteBpe) {
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
  HR_RETURN_IF_ERROR(tokenizer->bpe_.Build(spec));
  HR_RETURN_IF_ERROR(tokenizer->special_.Build(spec));
  HR_RETURN_IF_ERROR(tokenizer->splitter_.Build(spec.patterns));
  return tokenizer;
}

Status Tokenizer::EncodeOrdinary(std::string_view text, SplitScratch& split, MergeScratch& merge,
                                 TokenSink& sink) const {
  if (text.empty()) return {};
  std::string prefixed;
  if (spec_->add_prefix_space && text[0] != ' ') {
    prefixed.reserve(text.size() + 1);
    prefixed.append(1, ' ').append(text);
    text = prefixed;
  }
  struct Context {
    const ByteBpe* bpe;
    MergeScratch* merge;
    TokenSink* sink;
  } context{&bpe_, &merge, &sink};
  return splitter_.Split(
      text, split,
      [](void* user_data, std::string_view piece) {
        auto* context = static_cast<Context*>(user_data);
        return context->bpe->EncodePiece(piece, *context->merge, *context->sink);
      },
      &context);
}

Status Tokenizer::Encode(std::string_view text, uint32_t flags, std::span<int32_t> out,
                         size_t* count) const {
  TokenSink sink{out};
  SplitScratch split;
  MergeScratch merge;
  HR_RETURN_IF_ERROR(splitter_.Prepare(text.size(), &split));
  if (spec_->add_begin && !(flags & kNoBegin)) sink.Add(static_cast<uint32_t>(spec_->begin_token));
  size_t done = 0;
  SpecialMatcher::Match match;
  while (!(flags & kNoSpecial) && special_.Next(text, done, &match)) {
    HR_RETURN_IF_ERROR(EncodeOrdinary(text.substr(done, match.begin - done), split, merge, sink));
    sink.Add(match.id);
    done = match.begin + spec_->tokens[match.id].size();
  }
  HR_RETURN_IF_ERROR(EncodeOrdinary(text.substr(done), split, merge, sink));
  *count = sink.count;
  if (sink.count > out.size()) {
    return Status::Make(StatusCode::kBufferTooSmall, "%zu tokens > capacity %zu", sink.count,
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
    total += spec_->tokens[tokens[i]].size();
  }
  *bytes = total;
  size_t at = 0;
  for (size_t i = 0; i < tokens.size() && at < out.size(); ++i) {
    const std::string_view token = spec_->tokens[tokens[i]];
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

bool Tokenizer::IsEndToken(int32_t token) const {
  return token >= 0 && std::find(spec_->end_tokens.begin(), spec_->end_tokens.end(),
                                 static_cast<uint32_t>(token)) != spec_->end_tokens.end();
}

}  // namespace headroom::text
