#include "text/vocabulary.h"

namespace headroom::text {

Result<std::vector<bool>> ReservedTokens(const model::TokenizerSpec& spec) {
  constexpr size_t kMaxTokens = 1u << 30;
  const size_t count = spec.tokens.size();
  if (count == 0 || count >= kMaxTokens) {
    return Status::Make(StatusCode::kCorrupt, "tokenizer: %zu tokens, must be 1 to %zu", count,
                        kMaxTokens);
  }
  std::vector<bool> reserved(count);
  const auto reserve = [&](const char* what, uint32_t id) {
    if (id < count) reserved[id] = true;
    return id < count ? Status()
                      : Status::Make(StatusCode::kCorrupt,
                                     "tokenizer: %s token %u >= vocabulary %zu", what, id, count);
  };
  for (const uint32_t id : spec.special_tokens) HR_RETURN_IF_ERROR(reserve("special", id));
  for (const uint32_t id : spec.byte_tokens) HR_RETURN_IF_ERROR(reserve("byte", id));
  for (const model::AddedToken& token : spec.added_tokens) {
    if (token.special) HR_RETURN_IF_ERROR(reserve("added", token.token));
  }
  return reserved;
}

}  // namespace headroom::text
