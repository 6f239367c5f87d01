// Conversations as the text a model was trained on: who speaks is said by strings around each turn.
// A format is a row of data; user text can never become a special token (see Tokenizer::Encode).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/special_matcher.h"
#include "text/tokenizer.h"

namespace headroom::text {

// The values of HR_ROLE_*.
enum class Role : int32_t { kSystem = 0, kUser = 1, kAssistant = 2 };

struct ChatMessage {
  Role role = Role::kUser;
  std::string_view text;
};

struct ChatTurn {
  std::string_view prefix, suffix;
  bool trim = false;  // white space around the message goes
};

enum class SystemPlace : uint8_t {
  kTurn,         // a turn of its own, first
  kInUser,       // inside the first user turn, before the user's text
  kTrimmedUser,  // the same, and white space around both together goes
  kNone,         // the model takes no system text
};

// In the strings, "{26 Jul 2024}", "{July 26, 2024}" and "{2024-07-26}" stand for the date.
struct ChatFormat {
  std::string_view name;
  std::string_view begin;  // once, before everything
  ChatTurn system, user, assistant;
  std::string_view generation;  // asks for an answer
  // What the model says to end an answer. Conversations go on behind it in assistant.suffix; where
  // that does not hold it, with nothing.
  std::string_view end;
  SystemPlace place = SystemPlace::kTurn;
  // Stands in for a system message that is not there; null: there is no system turn then.
  const char* default_system = nullptr;
  std::string_view tokens[3];  // special tokens that the strings need
};

std::span<const ChatFormat> ChatFormats();

// kUnsupported when there is none of this name.
Result<const ChatFormat*> FindChatFormat(std::string_view name);

struct ChatRequest {
  std::span<const ChatMessage>
      messages;             // system first, if at all; then user and assistant in turn
  size_t done = 0;          // so many of them are in the session already
  bool answer_cut = false;  // the last of those is an answer without its end
  std::string_view date = "2024-07-26";
};

// The text that goes into the session next: what follows the messages that are done, the others,
// and, after a message of the user, what asks for an answer. `content`: the messages' own bytes.
// What was generated stays as it was generated; later turns do not rewrite it, as some published
// templates do. Errors: kInvalidArgument (roles out of order, a date that is none), kUnsupported (a
// system message where the format has no place for it).
struct ChatText {
  std::string text;
  std::vector<TextRange> content;
};
Result<ChatText> FormatChat(const ChatFormat& format, const ChatRequest& request);

// Whether the vocabulary has the special tokens of the format. kUnsupported names one that it
// lacks.
Status CheckChatFormat(const ChatFormat& format, const Tokenizer& tokenizer);

}  // namespace headroom::text
