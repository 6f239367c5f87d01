// RWKV's World vocabulary: a line a token in its authors' file, and the same texts in GGUF files.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "convert/tokenizer_json.h"

namespace headroom::convert {

// The file's name in a checkpoint's folder, but for its date.
inline constexpr std::string_view kRwkvVocabularyPrefix = "rwkv_vocab";

// Lines "ID LITERAL BYTES": Python's literal of a text or of bytes, and how many bytes that are.
// Token 0, which ends a text, has no line. Ids must be below `vocabulary`; those without a line
// become empty tokens. `what` names the file. Errors: kCorrupt, naming the line.
Result<ParsedTokenizer> ParseRwkvVocabulary(std::string_view file, uint32_t vocabulary,
                                            const std::string& what);

// What stands between the quotes of such a literal, as bytes; `is_text`: \x and \u are characters,
// else \x is a byte. kCorrupt: an escape that Python does not write.
Result<std::string> UnescapePython(std::string_view literal, bool is_text);

}  // namespace headroom::convert
