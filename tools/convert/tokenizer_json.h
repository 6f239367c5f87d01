// tokenizer.json as the tables of the model file: byte-level BPE, and what SentencePiece makes (BPE
// with byte fallback, unigram). Anything in it that would change ids and that the runtime cannot do
// is refused by its name.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "convert/hrm_writer.h"
#include "convert/json_file.h"

namespace headroom::convert {

struct ParsedTokenizer {
  TokenizerDescription tokenizer;  // end_tokens and chat_template are not in this file
  std::vector<std::string> notes;  // what a person should know, in words
};

// The cut that GPT-2 published, which a ByteLevel pre-tokenizer makes by itself.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// kUnsupported: a part of a tokenizer, in words, and what else can be done. `what` names the file.
Status RefuseTokenizer(const std::string& what, const std::string& part);

// Token ids must be below `vocabulary`; ids without a token become empty tokens up to it. `what`
// names the file in messages. Errors: kCorrupt, kUnsupported (names the part and its type).
Result<ParsedTokenizer> ParseTokenizer(const Json& json, uint32_t vocabulary,
                                       const std::string& what);

// Removes the tokens that the post-processor puts behind a text where tokenizer_config.json says
// add_eos_token false, as transformers' classes do that read it. What follows is to be generated.
void DropTokensBehind(const Json& config, Json& tokenizer);

}  // namespace headroom::convert
