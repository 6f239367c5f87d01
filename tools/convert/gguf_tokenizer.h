// The tokenizer, end tokens, chat template and sampling hints of a GGUF file's metadata.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "convert/gguf.h"
#include "convert/hrm_writer.h"
#include "convert/tokenizer_json.h"

namespace headroom::convert {

// tokenizer.ggml.model gpt2: byte-level BPE, whose split patterns are those of the name under
// tokenizer.ggml.pre; llama: SentencePiece BPE, t5: unigram. Kind kNone where the file has no
// vocabulary. Token ids must be below `vocabulary`. Errors: kCorrupt, kUnsupported (names the key).
Result<ParsedTokenizer> ReadGgufTokenizer(const GgufFile& gguf, uint32_t vocabulary,
                                          const std::string& what);

// Ids that end a text: those the metadata names, and tokens that are known to end a turn.
Result<std::vector<uint32_t>> ReadGgufEndTokens(const GgufFile& gguf, uint32_t vocabulary,
                                                const std::string& what);

model::SamplingHints ReadGgufSampling(const GgufFile& gguf);

// A text of the metadata; empty when there is none.
std::string GgufText(const GgufFile& gguf, std::string_view key);

}  // namespace headroom::convert
