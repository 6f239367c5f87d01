#include "text/special_matcher.h"

#include <numeric>

namespace headroom::text {
namespace {

// Bytes of the white-space character (Unicode White_Space) that `text` begins with, or 0.
size_t WhiteSpaceAt(std::string_view text) {
  constexpr std::string_view kThree[] = {"\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
                                         "\u2004", "\u2005", "\u2006", "\u2007", "\u2008",
                                         "\u2009", "\u200a", "\u2028", "\u2029", "\u202f",
                                         "\u205f", "\u3000", "\u0085", "\u00a0"};
  if (text.empty()) return 0;
  if (text[0] == ' ' || (text[0] >= '\t' && text[0] <= '\r')) return 1;
  for (const std::string_view space : kThree) {
    if (text.starts_with(space)) return space.size();
  }
  return 0;
}

size_t SkipSpaces(std::string_view text, size_t from) {
  while (const size_t bytes = WhiteSpaceAt(text.substr(from))) from += bytes;
  return from;
}

// Where the white space begins that ends at `end`, not before `from`.
size_t SpacesBefore(std::string_view text, size_t from, size_t end) {
  for (size_t bytes = 1; bytes <= 3 && from + bytes <= end;) {
    const bool space = WhiteSpaceAt(text.substr(end - bytes, bytes)) == bytes;
    end -= space ? bytes : 0;
    bytes = space ? 1 : bytes + 1;
  }
  return end;
}

}  // namespace

Status SpecialMatcher::Add(const model::TokenizerSpec& spec, std::string_view text,
                           const Entry& entry) {
  if (entry.id >= spec.tokens.size() || (text.empty() && spec.tokens[entry.id].empty())) {
    return Status::Make(StatusCode::kCorrupt,
                        "tokenizer: special token %u is empty or >= vocabulary %zu", entry.id,
                        spec.tokens.size());
  }
  bytes_.append(text.empty() ? spec.tokens[entry.id] : text);
  ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  entries_.push_back(entry);
  return {};
}

Status SpecialMatcher::Build(const model::TokenizerSpec& spec, bool normalised) {
  for (size_t i = 0; !normalised && i < spec.special_tokens.size(); ++i) {
    HR_RETURN_IF_ERROR(Add(spec, {}, {spec.special_tokens[i], true, false, false}));
  }
  for (const model::AddedToken& token : spec.added_tokens) {
    if (token.normalised != normalised) continue;
    const Entry entry{token.token, token.special, token.strip_left, token.strip_right};
    HR_RETURN_IF_ERROR(Add(spec, token.text, entry));
  }
  std::vector<uint32_t> all(entries_.size());
  std::iota(all.begin(), all.end(), 0u);
  table_.Build(model::TokenTable(ends_, bytes_.data()), std::move(all));
  return {};
}

bool SpecialMatcher::Next(std::string_view text, size_t from, bool special, Match* match) const {
  if (entries_.empty()) return false;
  for (size_t i = from; i < text.size(); ++i) {
    const Entry* found = nullptr;
    table_.Walk(text.substr(i), [&](uint32_t index, size_t bytes) {
      if (entries_[index].special && !special) return;
      found = &entries_[index];
      match->end = i + bytes;
    });
    if (found == nullptr) continue;
    match->id = found->id;
    match->begin = found->strip_left ? SpacesBefore(text, from, i) : i;
    if (found->strip_right) match->end = SkipSpaces(text, match->end);
    return true;
  }
  return false;
}

uint64_t SpecialMatcher::table_bytes() const {
  return entries_.capacity() * sizeof(Entry) + ends_.capacity() * sizeof(uint32_t) +
         bytes_.capacity() + table_.table_bytes();
}

}  // namespace headroom::text
