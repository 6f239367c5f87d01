#include "text/generate.h"

#include <algorithm>

namespace headroom::text {
namespace {

// What the text sink needs to hand on to the app's callback.
struct Delivery {
  const GenerateOptions* options;
  int32_t token = 0;
};

bool WriteToApp(void* user_data, const char* text, size_t bytes) {
  const Delivery& delivery = *static_cast<const Delivery*>(user_data);
  if (delivery.options->on_text == nullptr) return true;
  return delivery.options->on_text(delivery.options->user_data, text, bytes, delivery.token);
}

bool IsEnd(std::span<const uint32_t> end_tokens, int32_t token) {
  return std::find(end_tokens.begin(), end_tokens.end(), static_cast<uint32_t>(token)) !=
         end_tokens.end();
}

Status CheckStart(const session::Session& session, const Tokenizer* tokenizer,
                  const GenerateOptions& options) {
  if (session.logits().empty()) {
    return Status::Make(StatusCode::kWrongState, "no logits: prefill at least one token first");
  }
  if (tokenizer == nullptr && !options.stop_sequences.empty()) {
    return Status::Make(StatusCode::kUnsupported,
                        "stop sequences need a tokenizer; this model has none");
  }
  return CheckSamplerOptions(options.sampler);
}

}  // namespace

Result<int32_t> SampleNext(const session::Session& session, const SamplerOptions& options) {
  if (session.logits().empty()) {
    return Status::Make(StatusCode::kWrongState, "no logits: prefill at least one token first");
  }
  return Sample(session.logits(), session.tokens(), session.position(), options,
                session.caller_scratch());
}

Status Generate(session::Session& session, const Tokenizer* tokenizer,
                std::span<const uint32_t> end_tokens, const GenerateOptions& options,
                TextStream& stream, GenerateResult* result) {
  HR_RETURN_IF_ERROR(CheckStart(session, tokenizer, options));
  HR_RETURN_IF_ERROR(stream.Start(options.stop_sequences));
  Delivery delivery{&options};
  const TextSink sink{WriteToApp, &delivery};
  *result = {};
  bool begins = tokenizer != nullptr && tokenizer->TextBegins(session.tokens());
  TextStream::Outcome outcome = TextStream::Outcome::kContinue;
  while (true) {
    if (options.max_tokens != 0 && result->tokens == options.max_tokens) break;
    if (session.position() == session.plan().context) {
      result->reason = StopReason::kContext;
      break;
    }
    HR_ASSIGN_OR_RETURN(delivery.token, SampleNext(session, options.sampler));
    if (const Status status = session.Append({&delivery.token, 1}, nullptr); !status.ok()) {
      if (status.code() != StatusCode::kCancelled) return status;
      result->reason = StopReason::kCancelled;
      break;
    }
    ++result->tokens;
    if (!options.ignore_end_token && IsEnd(end_tokens, delivery.token)) {
      result->reason = StopReason::kEndToken;
      break;
    }
    if (tokenizer == nullptr) {  // no text to show, but the app still sees every token
      if (!WriteToApp(&delivery, "", 0)) outcome = TextStream::Outcome::kRefused;
    } else {
      outcome = stream.Push(begins ? tokenizer->FirstTokenBytes(delivery.token)
                                   : tokenizer->TokenBytes(delivery.token),
                            sink);
      begins = begins && tokenizer->TextBegins({&delivery.token, 1});
    }
    if (outcome != TextStream::Outcome::kContinue) break;
  }
  if (outcome == TextStream::Outcome::kContinue) outcome = stream.Finish(sink);
  if (outcome == TextStream::Outcome::kStopSequence) result->reason = StopReason::kSequence;
  if (outcome == TextStream::Outcome::kRefused) result->reason = StopReason::kCallback;
  session.Rest();
  return {};
}

}  // namespace headroom::text
