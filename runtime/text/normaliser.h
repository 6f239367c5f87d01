// Brings text into the form that a vocabulary's pieces have, step by step.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "text/charsmap.h"
#include "text/pattern.h"

namespace headroom::text {

// Immutable after Build; any number of threads may call the const functions. Borrows the spec.
class Normaliser {
 public:
  // A text may become so much longer, and no more: kMaxGrowth times and kMaxExtraBytes.
  static constexpr size_t kMaxGrowth = 32;
  static constexpr size_t kMaxExtraBytes = 4096;

  // Errors: kUnsupported (a pattern PCRE2 does not compile, too many steps), kCorrupt (a charsmap).
  Status Build(const std::vector<model::NormalStep>& steps);

  // Whether `text` certainly stays as it is. One pass, no allocation.
  bool Leaves(std::string_view text) const;

  // Takes memory in proportion to the text. Errors: kUnsupported (it becomes too long, a pattern
  // that backtracks without end), kOutOfMemory.
  Result<std::string> Apply(std::string_view text) const;

 private:
  struct Step {
    model::NormalStep step;
    std::vector<Pattern> pattern;  // one for Replace
    Charsmap charsmap;
  };
  static Result<std::string> ApplyStep(const Step& step, std::string_view text, size_t limit);
  static Status Replace(const Step& step, std::string_view run, PatternScratch& scratch,
                        size_t limit, std::string& out);

  std::vector<Step> steps_;
};

}  // namespace headroom::text
