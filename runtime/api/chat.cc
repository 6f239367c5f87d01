// extern "C" shims: conversations. No logic.
#include <vector>

#include "api/guard.h"
#include "api/handles.h"
#include "text/chat_format.h"

using headroom::Result;
using headroom::Status;
using headroom::StatusCode;
using headroom::api::CopyIn;
using headroom::api::CopyName;
using headroom::api::CopyOut;
using headroom::api::Guarded;
using headroom::api::NullArgument;
using headroom::api::Report;
namespace text = headroom::text;

namespace {

Result<const text::ChatFormat*> FormatOf(const hr_model& model, const char* name) {
  if (model.tokenizer == nullptr) return headroom::api::NoTokenizer();
  const std::string_view stored = model.engine->model().tokenizer.chat_format;
  if (name == nullptr && stored.empty()) {
    return Status::Make(StatusCode::kUnsupported, "this model names no chat format");
  }
  HR_ASSIGN_OR_RETURN(const text::ChatFormat* format,
                      text::FindChatFormat(name == nullptr ? stored : name));
  HR_RETURN_IF_ERROR(text::CheckChatFormat(*format, *model.tokenizer));
  return format;
}

Result<text::ChatText> TextOf(const hr_model& model, std::span<const hr_chat_message> given,
                              const hr_chat_options& options) {
  HR_ASSIGN_OR_RETURN(const text::ChatFormat* format, FormatOf(model, options.format));
  std::vector<text::ChatMessage> messages;
  for (const hr_chat_message& message : given) {
    if (message.text == nullptr && message.bytes != 0)
      return Status::Make(StatusCode::kInvalidArgument, "the text of a message is NULL");
    messages.push_back(
        {static_cast<text::Role>(message.role), std::string_view(message.text, message.bytes)});
  }
  text::ChatRequest request;
  request.messages = messages;
  request.done = options.done;
  request.answer_cut = options.answer_cut;
  if (options.date != nullptr) request.date = options.date;
  return text::FormatChat(*format, request);
}

}  // namespace

extern "C" {

hr_status hr_chat_tokens(const hr_model* model, const hr_chat_message* messages, size_t count,
                         const hr_chat_options* options, int32_t* tokens, size_t capacity,
                         size_t* out_count, hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_count == nullptr) return NullArgument("out_count", error);
    *out_count = 0;
    if (messages == nullptr && count != 0) return NullArgument("messages", error);
    if (tokens == nullptr && capacity != 0) return NullArgument("tokens", error);
    const auto chat = TextOf(*model, {messages, count}, CopyIn(options));
    if (!chat.ok()) return Report(chat.status(), error);
    return Report(model->tokenizer->Encode(chat.value().text, text::kNoBegin, {tokens, capacity},
                                           out_count, chat.value().content),
                  error);
  });
}

hr_status hr_chat_get_facts(const hr_model* model, const char* format, hr_chat_facts* out_facts,
                            hr_error* error) {
  return Guarded(error, [&]() -> hr_status {
    if (model == nullptr) return NullArgument("model", error);
    if (out_facts == nullptr) return NullArgument("out_facts", error);
    const auto found = FormatOf(*model, format);
    if (!found.ok()) return Report(found.status(), error);
    hr_chat_facts facts = {};
    CopyName(found.value()->name, facts.format);
    CopyName(found.value()->end, facts.end);
    facts.takes_system = found.value()->place != text::SystemPlace::kNone;
    CopyOut(facts, out_facts);
    return Report({}, error);
  });
}

const char* hr_chat_format_name(size_t index) {
  const auto formats = text::ChatFormats();
  return index < formats.size() ? formats[index].name.data() : nullptr;  // literals, terminated
}

}  // extern "C"
