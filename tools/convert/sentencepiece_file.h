// tokenizer.model: SentencePiece's own file, a protocol buffer (sentencepiece_model.proto).
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "convert/json_file.h"
#include "convert/sentencepiece_model.h"

namespace headroom::convert {

// Everything in the file is untrusted; memory stays in proportion to it, `kMaxPieces` at most.
// begin_token is the file's, add_begin false. Errors: kCorrupt (no such file, or damaged),
// kUnsupported (models of words or characters, a denormaliser; the text names it).
inline constexpr size_t kMaxPieces = 1u << 22;
Result<SentencePieceModel> ParseSentencePieceModel(std::string_view file, const std::string& what);

// What tokenizer_config.json adds: whether texts begin with the begin token (by default they do,
// where there is one), and tokens behind the pieces. kUnsupported names what would change ids and
// is not followed.
Status ApplyTokenizerConfig(const Json& config, SentencePieceModel& model);

}  // namespace headroom::convert
