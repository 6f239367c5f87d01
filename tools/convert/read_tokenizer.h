// The tokenizer and the chat template of a Hugging Face folder.
#pragma once

#include "base/status.h"
#include "convert/convert.h"
#include "convert/hrm_writer.h"

namespace headroom::convert {

// Fills description.tokenizer, except end_tokens, from tokenizer.json or else tokenizer.model;
// without either there is a log line and no tokenizer. description.metadata.vocabulary is known.
Status ReadTokenizer(const Options& options, ModelDescription& description);

}  // namespace headroom::convert
