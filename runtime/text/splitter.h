// Cuts text into the pieces that are encoded one by one, by the model's patterns.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "text/pattern.h"

namespace headroom::text {

// The sign for a space becomes a space, as the tokens spell it; with `prefix`, one is put in front.
std::string MapSpaces(std::string_view text, std::string_view sign, bool prefix);

// Applies splits in order. Each match is a piece, and so is the text between matches, as the
// behaviour says; a piece is seen by the next split alone, without its surroundings. Bytes that are
// no UTF-8 are matched by nothing and stay together as pieces of their own. Immutable after Build;
// borrows the spec.
class PatternSplitter {
 public:
  static constexpr size_t kMaxPatterns = 16;

  // kUnsupported: a pattern PCRE2 does not compile; the text quotes its reason and place.
  Status Build(const model::TokenizerSpec& spec);

  // `text_bytes` is the longest text that will be split.
  Status Prepare(size_t text_bytes, PatternScratch* scratch) const {
    return scratch->Prepare(steps_.size(), text_bytes);
  }

  // Whether spaces are mapped by a split rather than before them.
  bool maps_spaces() const { return maps_spaces_; }

  using PieceFunction = Status (*)(void* user_data, std::string_view piece);
  // Calls `function` for each non-empty piece in order; stops at its first error. Takes memory in
  // proportion to the longest piece where spaces are mapped, else none.
  Status Split(std::string_view text, PatternScratch& scratch, PieceFunction function,
               void* user_data) const;

 private:
  struct Step {
    model::Split split;
    std::vector<Pattern> pattern;  // one, or none where spaces are mapped
  };
  struct Visitor {
    PieceFunction function;
    void* user_data;
  };
  class Cutter;
  Status SplitFrom(size_t level, std::string_view text, PatternScratch& scratch,
                   const Visitor& visitor) const;
  Status CutBy(size_t level, std::string_view text, PatternScratch& scratch,
               const Visitor& visitor) const;

  std::vector<Step> steps_;
  std::string_view sign_;
  bool maps_spaces_ = false;
};

}  // namespace headroom::text
