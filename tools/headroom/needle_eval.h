// The needle test itself: a model reads contexts and answers the questions about each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <headroom/headroom.h>

#include "headroom/needle.h"

namespace headroom::cli {

using NeedlesByDistance = std::map<uint32_t, std::vector<const NeedleContext*>>;

// Of the file `path`; empty: those of this program. Throws Failure.
std::vector<NeedleContext> LoadNeedles(const std::string& path);
// Those with questions, of the distances wanted (empty: all). Throws Failure when there are none.
NeedlesByDistance GroupNeedles(const std::vector<NeedleContext>& contexts,
                               const std::vector<uint32_t>& distances, const std::string& path);

inline constexpr uint32_t kAnswerTokens = 16;  // of an answer at most

struct NeedleScore {
  std::string model;  // as the caller calls it
  uint32_t distance = 0;
  std::string kv = "auto";  // "none": the model caches no rows
  uint32_t questions = 0;
  uint32_t right = 0;
  uint32_t context_tokens = 0;  // of the session
  uint64_t state_bytes = 0;     // cached rows and recurrent state
  uint64_t f16_bytes = 0;       // what state_bytes would be with all rows in f16
  uint64_t total_bytes = 0;
  double seconds = 0;

  double Accuracy() const { return questions == 0 ? 0 : static_cast<double>(right) / questions; }
  double Share() const {
    return f16_bytes == 0 ? 0 : static_cast<double>(state_bytes) / static_cast<double>(f16_bytes);
  }
};

struct TokenizedQuestion {
  std::vector<int32_t> prompt;
  const NeedleQuestion* question = nullptr;
};
struct TokenizedContext {
  std::vector<int32_t> text;
  std::vector<TokenizedQuestion> questions;
};

// `limit`: at most so many questions; 0: all. Pointers are into `contexts`.
std::vector<TokenizedContext> TokenizeNeedles(const hr_model* model,
                                              const std::vector<const NeedleContext*>& contexts,
                                              uint32_t limit);

struct NeedleTask {
  hr_model* model = nullptr;
  hr_session_options options = {};  // context_tokens 0: what the texts need; profile: ignored
  uint32_t limit = 0;
  std::function<void()> on_question;  // called when one has been answered
  // Called for a wrong answer.
  std::function<void(const NeedleScore&, const NeedleQuestion&, const std::string& answer)>
      on_wrong;
};

// All contexts of one distance with one type of cache. Throws Failure.
NeedleScore AskNeedles(const NeedleTask& task, uint32_t distance,
                       const std::vector<const NeedleContext*>& contexts, const std::string& kv);

}  // namespace headroom::cli
