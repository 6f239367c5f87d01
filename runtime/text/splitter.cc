#include "text/splitter.h"

#include <algorithm>

#include "text/utf8.h"

namespace headroom::text {
namespace {

using model::SplitBehaviour;

// Whether a part joins the one before it, given which of the two match.
bool Joins(SplitBehaviour behaviour, bool before, bool match) {
  switch (behaviour) {
    case SplitBehaviour::kIsolated:
    case SplitBehaviour::kRemoved:
      return false;
    case SplitBehaviour::kMergedWithPrevious:
      return match && !before;
    case SplitBehaviour::kMergedWithNext:
      return before && !match;
    case SplitBehaviour::kContiguous:
      return match == before;
  }
  return false;
}

}  // namespace

std::string MapSpaces(std::string_view text, std::string_view sign, bool prefix) {
  std::string mapped;
  mapped.reserve(text.size() + 1);
  if (prefix) mapped += ' ';
  while (!text.empty()) {
    const size_t at = sign.empty() ? text.npos : text.find(sign);
    mapped.append(text.substr(0, at));
    if (at == text.npos) break;
    mapped += ' ';
    text.remove_prefix(at + sign.size());
  }
  return mapped;
}

// Matches and what lies between them, in order, put together to pieces.
class PatternSplitter::Cutter {
 public:
  Cutter(const PatternSplitter& splitter, size_t level, std::string_view text,
         PatternScratch& scratch, const Visitor& visitor)
      : splitter_(splitter), level_(level), text_(text), scratch_(scratch), visitor_(visitor) {}

  Status Add(size_t end, bool matches) {
    const model::Split& split = splitter_.steps_[level_].split;
    const bool match = matches != split.invert;
    if (any_ && Joins(split.behaviour, match_, match)) {
      end_ = end;
    } else {
      HR_RETURN_IF_ERROR(Deliver());
      begin_ = end_;
      end_ = end;
      any_ = true;
      removed_ = match && split.behaviour == SplitBehaviour::kRemoved;
    }
    match_ = match;
    return {};
  }
  // The piece that nothing joins any more.
  Status Deliver() const {
    if (!any_ || removed_) return {};
    return splitter_.SplitFrom(level_ + 1, text_.substr(begin_, end_ - begin_), scratch_, visitor_);
  }
  size_t end() const { return end_; }

 private:
  const PatternSplitter& splitter_;
  const size_t level_;
  const std::string_view text_;
  PatternScratch& scratch_;
  const Visitor& visitor_;
  size_t begin_ = 0, end_ = 0;
  bool any_ = false, removed_ = false, match_ = false;
};

Status PatternSplitter::Build(const model::TokenizerSpec& spec) {
  if (spec.splits.size() > kMaxPatterns) {
    return Status::Make(StatusCode::kUnsupported, "tokenizer: %zu split patterns > %zu",
                        spec.splits.size(), kMaxPatterns);
  }
  sign_ = spec.space;
  for (const model::Split& split : spec.splits) {
    steps_.push_back({split, {}});
    maps_spaces_ = maps_spaces_ || split.pattern.empty();
    if (split.pattern.empty()) continue;
    HR_ASSIGN_OR_RETURN(Pattern pattern,
                        Pattern::Compile(split.pattern, "split pattern", steps_.size() - 1));
    steps_.back().pattern.push_back(std::move(pattern));
  }
  return {};
}

Status PatternSplitter::Split(std::string_view text, PatternScratch& scratch,
                              PieceFunction function, void* user_data) const {
  const Visitor visitor{function, user_data};
  if (steps_.empty()) return SplitFrom(0, text, scratch, visitor);
  // PCRE2 may then trust the text: checking it again at each of its searches would take quadratic
  // time.
  while (!text.empty()) {
    const size_t valid = Utf8Run(text, true);
    HR_RETURN_IF_ERROR(SplitFrom(0, text.substr(0, valid), scratch, visitor));
    text.remove_prefix(valid);
    const size_t broken = Utf8Run(text, false);
    if (broken > 0) HR_RETURN_IF_ERROR(function(user_data, text.substr(0, broken)));
    text.remove_prefix(broken);
  }
  return {};
}

Status PatternSplitter::SplitFrom(size_t level, std::string_view text, PatternScratch& scratch,
                                  const Visitor& visitor) const {
  if (text.empty()) return {};
  if (level == steps_.size()) return visitor.function(visitor.user_data, text);
  if (!steps_[level].pattern.empty()) return CutBy(level, text, scratch, visitor);
  const bool prefix = !text.starts_with(' ') && (sign_.empty() || !text.starts_with(sign_));
  return SplitFrom(level + 1, MapSpaces(text, sign_, prefix), scratch, visitor);
}

Status PatternSplitter::CutBy(size_t level, std::string_view text, PatternScratch& scratch,
                              const Visitor& visitor) const {
  Cutter cutter(*this, level, text, scratch, visitor);
  for (size_t from = 0; from < text.size();) {
    PatternMatch match;
    bool found = false;
    HR_RETURN_IF_ERROR(
        steps_[level].pattern[0].Find(text, from, cutter.end(), level, scratch, &match, &found));
    if (!found) break;
    if (match.begin > cutter.end()) HR_RETURN_IF_ERROR(cutter.Add(match.begin, false));
    HR_RETURN_IF_ERROR(cutter.Add(match.end, true));
    from = SearchOn(text, from, match);
  }
  if (cutter.end() < text.size()) HR_RETURN_IF_ERROR(cutter.Add(text.size(), false));
  return cutter.Deliver();
}

}  // namespace headroom::text
