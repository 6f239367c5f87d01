#include "text/chat_format.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "text/white_space.h"

namespace headroom::text {
namespace {

struct Date {
  int year = 0, month = 0, day = 0;
};

Result<Date> ParseDate(std::string_view text) {
  constexpr std::string_view kForm = "0000-00-00";
  Date date;
  bool sound = text.size() == kForm.size();
  for (size_t i = 0; sound && i < kForm.size(); ++i)
    sound = kForm[i] == '-' ? text[i] == '-' : text[i] >= '0' && text[i] <= '9';
  const auto number = [&](size_t at, size_t digits) {
    int value = 0;
    for (size_t i = at; i < at + digits; ++i) value = value * 10 + (text[i] - '0');
    return value;
  };
  if (sound) date = {number(0, 4), number(5, 2), number(8, 2)};
  if (!sound || date.month < 1 || date.month > 12 || date.day < 1 || date.day > 31) {
    return Status::Make(StatusCode::kInvalidArgument, "date \"%.*s\" is not like 2024-07-26",
                        static_cast<int>(std::min<size_t>(text.size(), 32)), text.data());
  }
  return date;
}

// The sample dates in the formats' strings, and how to say another in the same way.
std::string_view DateText(std::string_view sample, const Date& date, std::array<char, 40>& text) {
  constexpr const char* kMonths[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};
  const char* month = kMonths[date.month - 1];
  int bytes = 0;
  if (sample == "26 Jul 2024") {
    bytes = std::snprintf(text.data(), text.size(), "%02d %.3s %04d", date.day, month, date.year);
  } else if (sample == "July 26, 2024") {
    bytes = std::snprintf(text.data(), text.size(), "%s %02d, %04d", month, date.day, date.year);
  } else if (sample == "2024-07-26") {
    bytes =
        std::snprintf(text.data(), text.size(), "%04d-%02d-%02d", date.year, date.month, date.day);
  }
  return {text.data(), static_cast<size_t>(bytes)};
}

std::string_view Trimmed(std::string_view text) {
  const size_t begin = SkipSpaces(text, 0);
  const size_t end = SpacesBefore(text, begin, text.size());
  return text.substr(begin, end - begin);
}

class Writer {
 public:
  Writer(const ChatFormat& format, const ChatRequest& request, const Date& date)
      : format_(format), request_(request), date_(date) {}

  ChatText Write() {
    const auto messages = request_.messages;
    if (request_.done == 0) {
      Add(format_.begin);
      const bool has_system = !messages.empty() && messages[0].role == Role::kSystem;
      if (!has_system && format_.default_system) AddSystem(format_.default_system, false);
    } else if (messages[request_.done - 1].role == Role::kAssistant) {
      AddAfterAnswer();
    }
    for (size_t i = request_.done; i < messages.size(); ++i) AddMessage(i);
    if (!messages.empty() && messages.back().role == Role::kUser) Add(format_.generation);
    return std::move(out_);
  }

 private:
  // Text of the format itself.
  void Add(std::string_view text) {
    std::array<char, 40> shown;
    while (!text.empty()) {
      const size_t open = text.find('{');
      const size_t close = open == text.npos ? text.npos : text.find('}', open);
      const std::string_view date =
          close == text.npos ? "" : DateText(text.substr(open + 1, close - open - 1), date_, shown);
      const size_t taken = date.empty() ? text.size() : close + 1;
      out_.text.append(text.substr(0, date.empty() ? text.size() : open)).append(date);
      text.remove_prefix(taken);
    }
  }

  void AddContent(std::string_view text) {
    if (text.empty()) return;
    out_.content.push_back({out_.text.size(), out_.text.size() + text.size()});
    out_.text.append(text);
  }

  void AddTurn(const ChatTurn& turn, std::string_view text) {
    Add(turn.prefix);
    AddContent(turn.trim ? Trimmed(text) : text);
    Add(turn.suffix);
  }

  void AddSystem(std::string_view text, bool foreign) {
    Add(format_.system.prefix);
    const std::string_view shown = format_.system.trim ? Trimmed(text) : text;
    foreign ? AddContent(shown) : Add(shown);
    Add(format_.system.suffix);
  }

  // Behind an answer the session has its end already, unless it was cut short.
  void AddAfterAnswer() {
    const std::string_view suffix = format_.assistant.suffix;
    if (request_.answer_cut || format_.end.empty()) return Add(suffix);
    const size_t end = suffix.find(format_.end);
    if (end != suffix.npos) Add(suffix.substr(end + format_.end.size()));
  }

  void AddMessage(size_t i) {
    const ChatMessage& message = request_.messages[i];
    if (message.role == Role::kAssistant) {
      AddTurn(format_.assistant, message.text);
    } else if (message.role == Role::kUser) {
      AddUser(message.text, i == 1 && request_.messages[0].role == Role::kSystem);
    } else if (format_.place == SystemPlace::kTurn) {
      AddSystem(message.text, true);
    }
  }

  void AddUser(std::string_view text, bool after_system) {
    const bool both = after_system && format_.place != SystemPlace::kTurn;
    if (!both) return AddTurn(format_.user, text);
    const std::string_view system = request_.messages[0].text;
    Add(format_.user.prefix);
    AddSystem(system, true);
    // Trimmed together, the white space between the two stays.
    if (format_.place == SystemPlace::kTrimmedUser) {
      AddContent(text.substr(0, SpacesBefore(text, 0, text.size())));
    } else {
      AddContent(format_.user.trim ? Trimmed(text) : text);
    }
    Add(format_.user.suffix);
  }

  const ChatFormat& format_;
  const ChatRequest& request_;
  const Date date_;
  ChatText out_;
};

Status CheckMessages(const ChatFormat& format, const ChatRequest& request) {
  constexpr const char* kNames[] = {"system", "user", "assistant"};
  if (request.done > request.messages.size()) {
    return Status::Make(StatusCode::kInvalidArgument, "%zu messages done of %zu", request.done,
                        request.messages.size());
  }
  Role before = Role::kSystem;
  for (size_t i = 0; i < request.messages.size(); ++i) {
    const Role role = request.messages[i].role;
    const auto number = static_cast<int32_t>(role);
    if (number < 0 || number > 2) {
      return Status::Make(StatusCode::kInvalidArgument, "message %zu has role %d, known are 0..2",
                          i, number);
    }
    const bool fits = role == Role::kSystem      ? i == 0
                      : role == Role::kAssistant ? before == Role::kUser
                                                 : before != Role::kUser;
    if (!fits) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "message %zu is %s; a conversation is system (or none), then user and "
                          "assistant in turn",
                          i, kNames[number]);
    }
    before = role;
  }
  if (format.place == SystemPlace::kNone && !request.messages.empty() &&
      request.messages[0].role == Role::kSystem) {
    return Status::Make(StatusCode::kUnsupported, "chat format %s takes no system text",
                        std::string(format.name).c_str());
  }
  return {};
}

}  // namespace

Result<const ChatFormat*> FindChatFormat(std::string_view name) {
  for (const ChatFormat& format : ChatFormats()) {
    if (format.name == name) return &format;
  }
  return Status::Make(StatusCode::kUnsupported, "there is no chat format \"%.*s\"",
                      static_cast<int>(std::min<size_t>(name.size(), 64)), name.data());
}

Result<ChatText> FormatChat(const ChatFormat& format, const ChatRequest& request) {
  HR_RETURN_IF_ERROR(CheckMessages(format, request));
  HR_ASSIGN_OR_RETURN(const Date date, ParseDate(request.date));
  return Writer(format, request, date).Write();
}

Status CheckChatFormat(const ChatFormat& format, const Tokenizer& tokenizer) {
  for (const std::string_view token : format.tokens) {
    if (token.empty()) continue;
    int32_t id = 0;
    size_t count = 0;
    const Status status = tokenizer.Encode(token, kNoBegin, {&id, 1}, &count);
    if (!status.ok() || count != 1 || !tokenizer.TextBegins({&id, 1})) {
      return Status::Make(
          StatusCode::kUnsupported,
          "chat format %.*s needs the special token %.*s, which this vocabulary lacks",
          static_cast<int>(format.name.size()), format.name.data(), static_cast<int>(token.size()),
          token.data());
    }
  }
  return {};
}

}  // namespace headroom::text
