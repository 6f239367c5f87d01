#include "text/pattern.h"

#include <algorithm>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace headroom::text {
namespace {

// Steps one search may take: enough for one pass over the text with a few alternatives, whatever
// its length, and never unbounded.
constexpr uint64_t kMatchSteps = 1'000'000;
constexpr uint64_t kMatchStepsPerByte = 16;
constexpr uint32_t kMatchHeapKib = 64 * 1024;

bool IsContinuation(char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; }

Status MatchError(int code, size_t index) {
  if (code == PCRE2_ERROR_NOMEMORY) {
    return Status::Make(StatusCode::kOutOfMemory, "text: no memory to run split pattern %zu",
                        index);
  }
  char reason[96] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(reason), sizeof(reason));
  return Status::Make(StatusCode::kUnsupported, "text: split pattern %zu gave up: %s", index,
                      reason);
}

}  // namespace

PatternScratch::~PatternScratch() {
  for (pcre2_match_data* match : matches_) pcre2_match_data_free(match);
  pcre2_match_context_free(context_);
}

Status PatternScratch::Prepare(size_t patterns, size_t text_bytes) {
  if (patterns == 0) return {};
  if (!context_) context_ = pcre2_match_context_create(nullptr);
  if (!context_) return MatchError(PCRE2_ERROR_NOMEMORY, 0);
  const uint64_t steps =
      std::min<uint64_t>(kMatchSteps + kMatchStepsPerByte * text_bytes, UINT32_MAX);
  pcre2_set_match_limit(context_, static_cast<uint32_t>(steps));
  pcre2_set_heap_limit(context_, kMatchHeapKib);
  matches_.reserve(patterns);
  while (matches_.size() < patterns) {
    pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
    if (!match) return MatchError(PCRE2_ERROR_NOMEMORY, matches_.size());
    matches_.push_back(match);
  }
  return {};
}

Pattern::~Pattern() { pcre2_code_free(code_); }

Result<Pattern> Pattern::Compile(std::string_view pattern, const char* what, size_t index) {
  if (pattern.size() > kMaxBytes) {
    return Status::Make(StatusCode::kUnsupported, "tokenizer: %s %zu of %zu bytes > %zu", what,
                        index, pattern.size(), kMaxBytes);
  }
  int code = 0;
  PCRE2_SIZE place = 0;
  // UCP gives \s \d \w their Unicode meaning.
  pcre2_code* compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &place, nullptr);
  if (compiled) return Pattern(compiled);
  char reason[96] = "";
  pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(reason), sizeof(reason));
  const bool heap = code == PCRE2_ERROR_HEAP_FAILED;
  return Status::Make(heap ? StatusCode::kOutOfMemory : StatusCode::kUnsupported,
                      "tokenizer: %s %zu at byte %zu: %s", what, index, static_cast<size_t>(place),
                      reason);
}

Status Pattern::Find(std::string_view text, size_t from, size_t done, size_t index,
                     PatternScratch& scratch, PatternMatch* match, bool* found) const {
  const int status =
      pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                  PCRE2_NO_UTF_CHECK, scratch.matches_[index], scratch.context_);
  *found = status != PCRE2_ERROR_NOMATCH;
  if (!*found) return {};
  if (status < 0) return MatchError(status, index);
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(scratch.matches_[index]);
  // \K in a lookahead can report an end before the start, or a start before `from`.
  match->begin = std::max<size_t>(span[0], done);
  match->end = std::max<size_t>(span[1], match->begin);
  return {};
}

size_t SearchOn(std::string_view text, size_t from, const PatternMatch& match) {
  from = std::max(match.end, from);
  if (match.end > match.begin) return from;
  do ++from;
  while (from < text.size() && IsContinuation(text[from]));
  return from;
}

}  // namespace headroom::text
