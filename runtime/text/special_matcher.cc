#include "text/special_matcher.h"

#include <numeric>

#include "text/white_space.h"
#include "text/word.h"

namespace headroom::text {
Status SpecialMatcher::Add(const model::TokenizerSpec& spec, std::string_view text,
                           const Entry& entry, const Normaliser* normaliser) {
  if (entry.id >= spec.tokens.size() || (text.empty() && spec.tokens[entry.id].empty())) {
    return Status::Make(StatusCode::kCorrupt,
                        "tokenizer: special token %u is empty or >= vocabulary %zu", entry.id,
                        spec.tokens.size());
  }
  if (text.empty()) text = spec.tokens[entry.id];
  if (normaliser && !normaliser->Leaves(text)) {
    HR_ASSIGN_OR_RETURN(const std::string formed, normaliser->Apply(text));
    bytes_.append(formed);
  } else {
    bytes_.append(text);
  }
  ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  entries_.push_back(entry);
  return {};
}

Status SpecialMatcher::Build(const model::TokenizerSpec& spec, const Normaliser* normaliser) {
  const bool normalised = normaliser != nullptr;
  for (size_t i = 0; !normalised && i < spec.special_tokens.size(); ++i) {
    HR_RETURN_IF_ERROR(Add(spec, {}, {spec.special_tokens[i], true, false, false, false}, nullptr));
  }
  for (const model::AddedToken& token : spec.added_tokens) {
    if (token.normalised != normalised) continue;
    const Entry entry{token.token, token.special, token.strip_left, token.strip_right,
                      token.single_word};
    HR_RETURN_IF_ERROR(Add(spec, token.text, entry, normaliser));
  }
  std::vector<uint32_t> all(entries_.size());
  std::iota(all.begin(), all.end(), 0u);
  table_.Build(model::TokenTable(ends_, bytes_.data()), std::move(all));
  return {};
}

bool SpecialMatcher::Next(std::string_view text, size_t from, const SpecialRule& rule,
                          Match* match) const {
  if (entries_.empty()) return false;
  for (size_t i = from; i < text.size(); ++i) {
    const Entry* found = nullptr;
    table_.Walk(text.substr(i), [&](uint32_t index, size_t bytes) {
      if (entries_[index].special && !rule.Allows(i, i + bytes)) return;
      found = &entries_[index];
      match->end = i + bytes;
    });
    if (found == nullptr) continue;
    if (found->single_word &&
        (EndsInWord(text.substr(0, i)) || BeginsWithWord(text.substr(match->end)))) {
      i = match->end - 1;  // nothing else is looked for in what was found
      continue;
    }
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
