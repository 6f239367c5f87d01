// A conversation with a model in one session: each turn reads only what is new.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <headroom/headroom.h>

#include "headroom/report.h"

namespace headroom::cli {

struct ConversationOptions {
  std::string format;         // empty: the one that the model file names
  std::string system;         // empty: none
  std::string date;           // "2026-11-22"
  uint32_t max_tokens = 512;  // of an answer; 0: until the context is full
  hr_sampler_options sampler = {};
};

// What one turn took.
struct TurnOutcome {
  std::string text;
  int32_t stop_reason = HR_STOP_LIMIT;
  size_t read_tokens = 0;     // prefilled now
  size_t reused_tokens = 0;   // in the session before
  size_t written_tokens = 0;  // generated
  size_t dropped_turns = 0;   // the oldest ones, to make room; all that is left was read again
  uint64_t read_ns = 0, write_ns = 0;
};

class Conversation {
 public:
  // Borrows both. Throws Failure when the model has no such format or no place for the system text.
  Conversation(const hr_model* model, hr_session* session, const ConversationOptions& options);

  // The user's next message and the answer to it. `on_text` sees text as it becomes certain; false
  // stops it. When reading is cancelled the message is forgotten and the outcome says cancelled.
  // Throws Failure; then the message is forgotten, too.
  TurnOutcome Ask(const std::string& message, const std::function<bool(std::string_view)>& on_text);

  // Forgets everything but the system text.
  void Reset();
  // Messages as JSON, and back; what was loaded is read by the next turn. Load throws Failure for
  // what is no conversation of this format; the present one then stays.
  Json Save() const;
  void Load(const std::string& text);

  const std::string& format() const { return format_; }
  size_t turns() const;
  uint32_t tokens() const { return hr_session_position(session_); }
  uint32_t context() const { return context_; }

 private:
  struct Message {
    int32_t role;
    std::string text;
  };

  std::vector<int32_t> Tokens(const std::vector<Message>& messages, size_t done) const;
  std::vector<int32_t> MakeRoom(TurnOutcome& outcome);
  bool Read(const std::vector<int32_t>& tokens, TurnOutcome& outcome);
  void Write(const std::function<bool(std::string_view)>& on_text, TurnOutcome& outcome);
  void Rewind(uint32_t position, size_t done);

  const hr_model* model_;
  hr_session* session_;
  ConversationOptions options_;
  std::string format_, end_;
  uint32_t context_ = 0;
  std::vector<Message> messages_;
  size_t done_ = 0;  // messages in the session
  bool answer_cut_ = false;
};

}  // namespace headroom::cli
