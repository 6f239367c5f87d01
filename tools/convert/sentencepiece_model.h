// A vocabulary as SentencePiece keeps it, pieces with scores and types, as the tables of the model
// file. tokenizer.model and GGUF files of this kind both hold it; who reads one of them fills the
// struct and calls MakeTokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "convert/tokenizer_json.h"

namespace headroom::convert {

// The numbers of SentencePiece's own file and of GGUF's token types.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,      // one at most: what stands for characters without a piece
  kControl = 3,      // never made from text: <s>, <|im_end|>
  kUserDefined = 4,  // matched verbatim, before anything is merged
  kUnused = 5,       // never made
  kByte = 6,         // "<0x0A>"
};

struct Piece {
  std::string text;  // a space is spelled as U+2581 where escape_whitespaces says so
  float score = 0.0f;
  PieceType type = PieceType::kNormal;
};

// The defaults are those of SentencePiece's file format.
struct SentencePieceModel {
  enum class Kind : uint8_t { kUnigram, kBpe };

  Kind kind = Kind::kUnigram;
  std::vector<Piece> pieces;  // by id
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;
  bool byte_fallback = false;        // the pieces of type kByte are used
  std::string precompiled_charsmap;  // the normaliser's table; empty: text stays as it is
  int32_t begin_token = -1;          // -1: none
  bool add_begin = false;            // begin every text with it
};

// Pieces must be fewer than or as many as `vocabulary`; ids behind them become empty tokens.
//
// BPE merges are not in the file: every cut of a piece into two pieces is one. They rank by the
// score of what they make, highest first; cuts of one piece by the ids of the halves.
// (SentencePiece takes the leftmost place among equal scores. Ranks say the same unless two pieces
// share a score; the notes then say so.) Time and memory are bounded: the squares of the pieces'
// bytes may add up to kMaxCutWork.
//
// Errors: kCorrupt (types, scores or byte pieces that contradict each other, too many),
// kUnsupported (names the option). `what` names the file in messages.
inline constexpr uint64_t kMaxCutWork = uint64_t{1} << 28;
Result<ParsedTokenizer> MakeTokenizer(const SentencePieceModel& model, uint32_t vocabulary,
                                      const std::string& what);

// ---- shared with the reader of tokenizer.json

// "<0x0A>" says byte 10; -1 for all else.
int ByteOfPiece(std::string_view piece);

// `text` with every `sign` as a space.
std::string SpellSpaces(std::string text, std::string_view sign);

// Tokens must differ once spaces are spelled as such, and merges must make tokens, never from or to
// a single byte's. Empty when all is well, else what is wrong, in words.
std::string SpellingFault(const TokenizerDescription& tokenizer);

}  // namespace headroom::convert
