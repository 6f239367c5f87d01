// Cuts text into the pieces that are encoded one by one, by the model's patterns.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace headroom::text {

// What one Encode call needs to run patterns; not shared between threads.
class SplitScratch {
 public:
  SplitScratch() = default;
  SplitScratch(const SplitScratch&) = delete;
  ~SplitScratch();

 private:
  friend class PatternSplitter;
  // One per pattern, since pieces of one pattern are cut by the next while it is still at work.
  std::vector<pcre2_real_match_data_8*> matches_;
  pcre2_real_match_context_8* context_ = nullptr;
};

// Applies split patterns in order. Each match is a piece, and so is the text between matches; a
// piece is seen by the next pattern alone, without its surroundings. Bytes that are no UTF-8 are
// matched by nothing and stay together as pieces of their own. Immutable after Build.
class PatternSplitter {
 public:
  static constexpr size_t kMaxPatterns = 16;
  static constexpr size_t kMaxPatternBytes = 16384;

  PatternSplitter() = default;
  PatternSplitter(const PatternSplitter&) = delete;
  ~PatternSplitter();

  // kUnsupported: a pattern PCRE2 does not compile; the text quotes its reason and place.
  Status Build(const std::vector<std::string_view>& patterns);

  // Work allowed per search grows with the text, so a pattern that backtracks without end is an
  // error (kUnsupported) and not a hang. `text_bytes` is the longest text that will be split.
  Status Prepare(size_t text_bytes, SplitScratch* scratch) const;

  using PieceFunction = Status (*)(void* user_data, std::string_view piece);
  // Calls `function` for each non-empty piece in order; stops at its first error.
  Status Split(std::string_view text, SplitScratch& scratch, PieceFunction function,
               void* user_data) const;

 private:
  struct Visitor {
    PieceFunction function;
    void* user_data;
  };
  Status SplitFrom(size_t level, std::string_view text, SplitScratch& scratch,
                   const Visitor& visitor) const;

  std::vector<pcre2_real_code_8*> codes_;
};

}  // namespace headroom::text
