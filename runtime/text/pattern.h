// Compiled PCRE2 patterns, and searching text with them in bounded time.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/status.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace headroom::text {

// What searches with one or several patterns need; not shared between threads.
class PatternScratch {
 public:
  PatternScratch() = default;
  PatternScratch(const PatternScratch&) = delete;
  ~PatternScratch();

  // Room for `patterns` patterns. Work allowed per search grows with the text, so a pattern that
  // backtracks without end is an error and not a hang. `text_bytes` is the longest text that will
  // be searched. Error: kOutOfMemory.
  Status Prepare(size_t patterns, size_t text_bytes);

 private:
  friend class Pattern;
  // One per pattern, since what one pattern cuts is searched by the next while it is still at work.
  std::vector<pcre2_real_match_data_8*> matches_;
  pcre2_real_match_context_8* context_ = nullptr;
};

struct PatternMatch {
  size_t begin = 0, end = 0;
};

class Pattern {
 public:
  static constexpr size_t kMaxBytes = 16384;

  // kUnsupported: PCRE2 does not compile it; the text quotes its reason and place, and names the
  // pattern by `what` and `index`.
  static Result<Pattern> Compile(std::string_view pattern, const char* what, size_t index);
  Pattern(Pattern&& other) noexcept : code_(other.code_) { other.code_ = nullptr; }
  Pattern(const Pattern&) = delete;
  ~Pattern();

  // The first match at or after `from`, not before `done`; *found false without one. `text` is
  // valid UTF-8. `index` picks the place in the scratch and names the pattern in errors:
  // kUnsupported (it gave up), kOutOfMemory.
  Status Find(std::string_view text, size_t from, size_t done, size_t index,
              PatternScratch& scratch, PatternMatch* match, bool* found) const;

 private:
  explicit Pattern(pcre2_real_code_8* code) : code_(code) {}
  pcre2_real_code_8* code_;
};

// Where to search on behind `match`: an empty one must not be found again.
size_t SearchOn(std::string_view text, size_t from, const PatternMatch& match);

}  // namespace headroom::text
