#include "headroom/conversation.h"

#include <algorithm>
#include <iterator>

#include "headroom/api.h"
#include "headroom/options.h"

namespace headroom::cli {
namespace {

constexpr const char* kRoles[] = {"system", "user", "assistant"};

struct TextReceiver {
  const std::function<bool(std::string_view)>& on_text;
  std::string& text;

  static bool OnText(void* user_data, const char* text, size_t bytes, int32_t) {
    TextReceiver& receiver = *static_cast<TextReceiver*>(user_data);
    receiver.text.append(text, bytes);
    return receiver.on_text({text, bytes});
  }
};

[[noreturn]] void RefuseFile(const std::string& fact) {
  throw Failure(HR_CORRUPT, "the file is no conversation: " + fact);
}

}  // namespace

Conversation::Conversation(const hr_model* model, hr_session* session,
                           const ConversationOptions& options)
    : model_(model), session_(session), options_(options) {
  hr_chat_facts facts = {};
  facts.struct_size = sizeof(facts);
  hr_error error = {};
  const char* wanted = options.format.empty() ? nullptr : options.format.c_str();
  const hr_status status = hr_chat_get_facts(model, wanted, &facts, &error);
  if (status == HR_UNSUPPORTED) {
    throw Failure(status, std::string("cannot hold a conversation: ") + error.text,
                  "Say how with --template NAME: " + ChatFormatNames() +
                      ". A model that was not trained on conversations takes plain or "
                      "question-answer.");
  }
  Check(status, error, "cannot hold a conversation");
  format_ = facts.format;
  end_ = facts.end;
  if (!options.system.empty() && !facts.takes_system) {
    throw Failure(HR_UNSUPPORTED, "chat format " + format_ + " takes no system text",
                  "Leave --system out, or say it in the first message.");
  }
  hr_plan_report plan = {};
  plan.struct_size = sizeof(plan);
  Check(hr_session_get_plan(session, &plan), hr_error{}, "cannot read the plan");
  context_ = plan.context_tokens;
  Reset();
}

size_t Conversation::turns() const {
  const auto asked = [](const Message& message) { return message.role == HR_ROLE_USER; };
  return static_cast<size_t>(std::count_if(messages_.begin(), messages_.end(), asked));
}

void Conversation::Rewind(uint32_t position, size_t done) {
  hr_error error = {};
  if (position != 0 && hr_session_rewind(session_, position, &error) == HR_OK) {
    done_ = done;
    return;
  }
  // To the beginning it always can; the next turn reads everything again.
  Check(hr_session_rewind(session_, 0, &error), error, "cannot rewind the session");
  done_ = 0;
  answer_cut_ = false;
}

void Conversation::Reset() {
  messages_.clear();
  if (!options_.system.empty()) messages_.push_back({HR_ROLE_SYSTEM, options_.system});
  Rewind(0, 0);
}

std::vector<int32_t> Conversation::Tokens(const std::vector<Message>& messages, size_t done) const {
  std::vector<hr_chat_message> lent;
  for (const Message& message : messages)
    lent.push_back({message.role, message.text.data(), message.text.size()});
  hr_chat_options options = {};
  options.struct_size = sizeof(options);
  options.format = format_.c_str();
  options.date = options_.date.empty() ? nullptr : options_.date.c_str();
  options.done = done;
  options.answer_cut = answer_cut_;
  hr_error error = {};
  size_t count = 0;
  hr_status status =
      hr_chat_tokens(model_, lent.data(), lent.size(), &options, nullptr, 0, &count, &error);
  if (status != HR_BUFFER_TOO_SMALL) Check(status, error, "cannot spell the conversation");
  std::vector<int32_t> tokens(count);
  Check(hr_chat_tokens(model_, lent.data(), lent.size(), &options, tokens.data(), tokens.size(),
                       &count, &error),
        error, "cannot spell the conversation");
  return tokens;
}

// What is to be read for the newest message. Where it and a quarter of the context for the answer
// do not fit behind the rest, the oldest turns are dropped and the others read again.
std::vector<int32_t> Conversation::MakeRoom(TurnOutcome& outcome) {
  const bool has_system = messages_[0].role == HR_ROLE_SYSTEM;
  std::vector<Message> alone;
  if (has_system) alone.push_back(messages_[0]);
  alone.push_back(messages_.back());
  const size_t smallest = Tokens(alone, 0).size();
  if (smallest >= context_) {
    throw Failure(HR_CONTEXT_FULL,
                  "the message takes " + std::to_string(smallest) +
                      " tokens by itself, the context has " + std::to_string(context_),
                  "Shorten it, or start with a larger --context.");
  }
  const uint32_t quarter = context_ / 4;
  const uint32_t answer = options_.max_tokens ? std::min(options_.max_tokens, quarter) : quarter;
  std::vector<int32_t> tokens = Tokens(messages_, done_);
  while (tokens.size() + this->tokens() + answer > context_ && turns() > 1) {
    const auto oldest = messages_.begin() + (has_system ? 1 : 0);
    messages_.erase(oldest, oldest + 2);  // of the user, and its answer
    ++outcome.dropped_turns;
    Rewind(0, 0);
    tokens = Tokens(messages_, 0);
  }
  return tokens;
}

// False when it was cancelled; the session is then as it was, or empty.
bool Conversation::Read(const std::vector<int32_t>& tokens, TurnOutcome& outcome) {
  const uint32_t before = this->tokens();
  const hr_session_stats start = StatsOf(session_);
  hr_error error = {};
  const hr_status status = hr_session_prefill(session_, tokens.data(), tokens.size(), &error);
  if (status == HR_CANCELLED) {
    Rewind(before, done_);
    return false;
  }
  Check(status, error, "cannot read the message");
  const hr_session_stats now = StatsOf(session_);
  outcome.reused_tokens = before;
  outcome.read_tokens = tokens.size();
  outcome.read_ns = now.prefill_ns + now.decode_ns - start.prefill_ns - start.decode_ns;
  return true;
}

void Conversation::Write(const std::function<bool(std::string_view)>& on_text,
                         TurnOutcome& outcome) {
  const hr_session_stats start = StatsOf(session_);
  TextReceiver receiver{on_text, outcome.text};
  const char* end = end_.c_str();
  hr_generate_options options = {};
  options.struct_size = sizeof(options);
  options.sampler = options_.sampler;
  options.sampler.struct_size = sizeof(options.sampler);
  options.max_tokens = options_.max_tokens;
  options.stop_sequences = &end;
  options.stop_sequence_count = end_.empty() ? 0 : 1;
  options.on_text = TextReceiver::OnText;
  options.user_data = &receiver;
  hr_generate_result result = {};
  result.struct_size = sizeof(result);
  hr_error error = {};
  Check(hr_session_generate(session_, &options, &result, &error), error, "cannot answer");
  outcome.stop_reason = result.stop_reason;
  outcome.written_tokens = result.tokens;
  outcome.write_ns = StatsOf(session_).decode_ns - start.decode_ns;
}

TurnOutcome Conversation::Ask(const std::string& message,
                              const std::function<bool(std::string_view)>& on_text) {
  TurnOutcome outcome;
  messages_.push_back({HR_ROLE_USER, message});
  const bool was_cut = answer_cut_;
  try {
    if (!Read(MakeRoom(outcome), outcome)) {
      messages_.pop_back();
      outcome.stop_reason = HR_STOP_CANCELLED;
      return outcome;
    }
    done_ = messages_.size();
    Write(on_text, outcome);
  } catch (...) {
    messages_.pop_back();
    if (done_ > messages_.size()) Rewind(0, 0);
    answer_cut_ = was_cut && done_ != 0;
    throw;
  }
  messages_.push_back({HR_ROLE_ASSISTANT, outcome.text});
  done_ = messages_.size();
  answer_cut_ = outcome.stop_reason != HR_STOP_END_TOKEN && outcome.stop_reason != HR_STOP_SEQUENCE;
  return outcome;
}

Json Conversation::Save() const {
  Json list = Json::array();
  for (const Message& message : messages_)
    list.push_back({{"role", kRoles[message.role]}, {"content", message.text}});
  return {{"chat_format", format_}, {"messages", list}};
}

void Conversation::Load(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("messages") || !json["messages"].is_array())
    RefuseFile("there is no list \"messages\"");
  std::vector<Message> loaded;
  for (const Json& entry : json["messages"]) {
    const bool sound = entry.is_object() && entry.contains("role") && entry["role"].is_string() &&
                       entry.contains("content") && entry["content"].is_string();
    if (!sound) RefuseFile("message " + std::to_string(loaded.size()) + " lacks role or content");
    const auto role = std::find(std::begin(kRoles), std::end(kRoles),
                                entry["role"].get_ref<const std::string&>());
    if (role == std::end(kRoles))
      RefuseFile("message " + std::to_string(loaded.size()) + " has an unknown role");
    loaded.push_back({static_cast<int32_t>(role - std::begin(kRoles)), entry["content"]});
  }
  if (!loaded.empty() && loaded.back().role == HR_ROLE_USER)
    RefuseFile("its last message has no answer");
  const bool was_cut = answer_cut_;
  answer_cut_ = false;
  try {
    Tokens(loaded, 0);  // says what is wrong with the order of roles
  } catch (...) {
    answer_cut_ = was_cut;
    throw;
  }
  messages_ = std::move(loaded);
  Rewind(0, 0);
}

}  // namespace headroom::cli
