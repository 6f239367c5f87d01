// The needle test: does a model still find facts in its context, and with which cache?
//
// A data set is JSON lines, one context each:
//   {"distance": 500, "context": "...", "questions": [{"prompt": "Question: ...\nAnswer:",
//   "answer": " ..."}]}
// distance: about how many tokens lie between a fact and its question.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace headroom::cli {

struct NeedleQuestion {
  std::string prompt;
  std::string answer;  // blanks around it do not count
};

struct NeedleContext {
  uint32_t distance = 0;
  std::string text;
  std::vector<NeedleQuestion> questions;
};

// The data set that is part of this program; empty when it was built without one.
std::string_view EmbeddedNeedles();

// Throws Failure naming `file`, the line that is not as above, and what is wrong with it.
std::vector<NeedleContext> ParseNeedles(std::string_view json_lines, const std::string& file);

// Without the blanks (space, tab, newline) at both ends.
std::string_view Trim(std::string_view text);

}  // namespace headroom::cli
