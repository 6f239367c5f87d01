#include "text/splitter.h"

#include <algorithm>

#include "text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace headroom::text {
namespace {

// Steps one search may take: enough for one pass over the text with a few alternatives, whatever
// its length, and never unbounded.
constexpr uint64_t kMatchSteps = 1'000'000;
constexpr uint64_t kMatchStepsPerByte = 16;
constexpr uint32_t kMatchHeapKib = 64 * 1024;

// Length of the longest front of `text` that is whole characters (`valid`) or has none.
size_t RunBytes(std::string_view text, bool valid) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Scan scan = ScanUtf8(text.substr(at));
    if ((scan.kind == Utf8::kWhole) != valid) break;
    at += scan.bytes;
  }
  return at;
}

bool IsContinuation(char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; }

Status MatchError(int code, size_t level) {
  if (code == PCRE2_ERROR_NOMEMORY) {
    return Status::Make(StatusCode::kOutOfMemory, "text: no memory to run split pattern %zu",
                        level);
  }
  char reason[96] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(reason), sizeof(reason));
  return Status::Make(StatusCode::kUnsupported, "text: split pattern %zu gave up: %s", level,
                      reason);
}

}  // namespace

SplitScratch::~SplitScratch() {
  for (pcre2_match_data* match : matches_) pcre2_match_data_free(match);
  pcre2_match_context_free(context_);
}

PatternSplitter::~PatternSplitter() {
  for (pcre2_code* code : codes_) pcre2_code_free(code);
}

Status PatternSplitter::Build(const std::vector<std::string_view>& patterns) {
  if (patterns.size() > kMaxPatterns) {
    return Status::Make(StatusCode::kUnsupported, "tokenizer: %zu split patterns > %zu",
                        patterns.size(), kMaxPatterns);
  }
  codes_.reserve(patterns.size());  // so that keeping a compiled pattern cannot fail
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (patterns[i].size() > kMaxPatternBytes) {
      return Status::Make(StatusCode::kUnsupported,
                          "tokenizer: split pattern %zu of %zu bytes > %zu", i, patterns[i].size(),
                          kMaxPatternBytes);
    }
    int code = 0;
    PCRE2_SIZE place = 0;
    // UCP gives \s \d \w their Unicode meaning.
    pcre2_code* compiled =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(patterns[i].data()), patterns[i].size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &place, nullptr);
    if (!compiled) {
      char reason[96] = "";
      pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(reason), sizeof(reason));
      const bool heap = code == PCRE2_ERROR_HEAP_FAILED;
      return Status::Make(heap ? StatusCode::kOutOfMemory : StatusCode::kUnsupported,
                          "tokenizer: split pattern %zu at byte %zu: %s", i,
                          static_cast<size_t>(place), reason);
    }
    codes_.push_back(compiled);
  }
  return {};
}

Status PatternSplitter::Prepare(size_t text_bytes, SplitScratch* scratch) const {
  if (codes_.empty()) return {};
  scratch->context_ = pcre2_match_context_create(nullptr);
  if (!scratch->context_) return MatchError(PCRE2_ERROR_NOMEMORY, 0);
  const uint64_t steps =
      std::min<uint64_t>(kMatchSteps + kMatchStepsPerByte * text_bytes, UINT32_MAX);
  pcre2_set_match_limit(scratch->context_, static_cast<uint32_t>(steps));
  pcre2_set_heap_limit(scratch->context_, kMatchHeapKib);
  scratch->matches_.reserve(codes_.size());
  for (size_t i = 0; i < codes_.size(); ++i) {
    pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
    if (!match) return MatchError(PCRE2_ERROR_NOMEMORY, i);
    scratch->matches_.push_back(match);
  }
  return {};
}

Status PatternSplitter::Split(std::string_view text, SplitScratch& scratch, PieceFunction function,
                              void* user_data) const {
  const Visitor visitor{function, user_data};
  if (codes_.empty()) return SplitFrom(0, text, scratch, visitor);
  // PCRE2 may then trust the text: checking it again at each of its searches would take quadratic
  // time.
  while (!text.empty()) {
    const size_t valid = RunBytes(text, true);
    HR_RETURN_IF_ERROR(SplitFrom(0, text.substr(0, valid), scratch, visitor));
    text.remove_prefix(valid);
    const size_t broken = RunBytes(text, false);
    if (broken > 0) HR_RETURN_IF_ERROR(function(user_data, text.substr(0, broken)));
    text.remove_prefix(broken);
  }
  return {};
}

Status PatternSplitter::SplitFrom(size_t level, std::string_view text, SplitScratch& scratch,
                                  const Visitor& visitor) const {
  if (text.empty()) return {};
  if (level == codes_.size()) return visitor.function(visitor.user_data, text);
  size_t done = 0;  // everything before is delivered
  const auto deliver = [&](size_t end) -> Status {
    const std::string_view piece = text.substr(done, end - done);
    done = end;
    return SplitFrom(level + 1, piece, scratch, visitor);
  };
  for (size_t from = 0; from < text.size();) {
    const int found =
        pcre2_match(codes_[level], reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                    PCRE2_NO_UTF_CHECK, scratch.matches_[level], scratch.context_);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) return MatchError(found, level);
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(scratch.matches_[level]);
    // \K in a lookahead can report an end before the start, or a start before `from`.
    const size_t begin = std::max<size_t>(span[0], done);
    const size_t end = std::max<size_t>(span[1], begin);
    HR_RETURN_IF_ERROR(deliver(begin));
    HR_RETURN_IF_ERROR(deliver(end));
    from = std::max(end, from);
    if (span[1] <= span[0]) {  // an empty match cuts; look for the next one a character further
      do ++from;
      while (from < text.size() && IsContinuation(text[from]));
    }
  }
  return deliver(text.size());
}

}  // namespace headroom::text
