// The generation loop: sample, append, deliver text, until something stops it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"
#include "session/session.h"
#include "text/sampler.h"
#include "text/text_stream.h"
#include "text/tokenizer.h"

namespace headroom::text {

// The values of HR_STOP_*.
enum class StopReason : int32_t {
  kLimit = 0,
  kEndToken = 1,
  kSequence = 2,
  kCallback = 3,
  kContext = 4,
  kCancelled = 5,
};

struct GenerateOptions {
  SamplerOptions sampler;
  uint32_t max_tokens = 0;  // 0: until the context is full
  std::span<const std::string_view> stop_sequences;
  bool ignore_end_token = false;
  // Returns false to stop. `token` is the latest one.
  bool (*on_text)(void* user_data, const char* text, size_t bytes, int32_t token) = nullptr;
  void* user_data = nullptr;
};

struct GenerateResult {
  uint32_t tokens = 0;
  StopReason reason = StopReason::kLimit;
};

// The session's next token by its logits. Errors: kWrongState without logits, those of Sample.
Result<int32_t> SampleNext(const session::Session& session, const SamplerOptions& options);

// `tokenizer` may be null: then no text is delivered and stop sequences are refused (kUnsupported).
// `stream` is the caller's, so that nothing is allocated here.
Status Generate(session::Session& session, const Tokenizer* tokenizer,
                std::span<const uint32_t> end_tokens, const GenerateOptions& options,
                TextStream& stream, GenerateResult* result);

}  // namespace headroom::text
