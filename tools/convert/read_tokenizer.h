// The tokenizer and the chat template of a Hugging Face folder.
#pragma once

#include "base/status.h"
#include "convert/convert.h"
#include "convert/hrm_writer.h"

namespace headroom::convert {

// Fills description.tokenizer, except end_tokens, from tokenizer.json or else tokenizer.model;
// without either there is a log line and no tokenizer. description.metadata.vocabulary is known.
Status ReadTokenizer(const Options& options, ModelDescription& description);

// tokenizer.chat_format: `wanted`, or else the format that tokenizer.chat_template is. Says so
// where there is a template that is not known.
void SetChatFormat(const std::string& wanted, const std::function<void(const std::string&)>& log,
                   TokenizerDescription& tokenizer);

}  // namespace headroom::convert
