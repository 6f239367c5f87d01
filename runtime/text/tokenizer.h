// Text to token ids and back, by the tokenizer that a model file carries: byte-level BPE, the
// BPE and the unigram model of SentencePiece, or longest match.
//
//   text -> cut at special tokens -> normaliser -> spaces mapped and prefixed -> cut by patterns
//        -> encoder
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "text/bpe.h"
#include "text/longest.h"
#include "text/normaliser.h"
#include "text/special_matcher.h"
#include "text/splitter.h"
#include "text/unigram.h"

namespace headroom::text {

// Flags of Encode; the values of HR_TOKENIZE_* in headroom.h.
inline constexpr uint32_t kNoBegin = 1;    // do not prepend the begin token
inline constexpr uint32_t kNoSpecial = 2;  // special tokens in the text are ordinary text

// Immutable: any number of threads may encode and decode at once. Borrows the spec (and the model
// file behind it), which must outlive it.
class Tokenizer {
 public:
  // Errors: kUnsupported (no tokenizer in the file, a pattern PCRE2 refuses), kCorrupt.
  static Result<std::unique_ptr<Tokenizer>> Create(const model::TokenizerSpec& spec);

  // `text` may hold any bytes. Writes the first out.size() ids and sets *count to the number of all
  // of them. Decoding the ids gives `text` back, byte for byte (after a begin token and a prefix
  // space; U+2581 as a space with SentencePiece; unknown characters of a unigram model without
  // byte tokens are lost). Allocates working memory in proportion to the text and releases it
  // before returning. Errors: kBufferTooSmall (*count is right), kUnsupported (a pattern that
  // backtracks without end), kInvalidArgument (a byte for which this vocabulary has no token),
  // kOutOfMemory. No special token is matched in or across a range of `plain`; all else is as
  // without them.
  Status Encode(std::string_view text, uint32_t flags, std::span<int32_t> out, size_t* count,
                std::span<const TextRange> plain = {}) const;

  // The bytes of `tokens` in order; a character may end in a later token. The first token goes
  // without the leading space that encoding would put there. *bytes: all of them.
  // Errors: kInvalidArgument (id outside the vocabulary; the text names it), kBufferTooSmall.
  Status Decode(std::span<const int32_t> tokens, std::span<char> out, size_t* bytes) const;

  // Bytes of one token; empty for an id outside the vocabulary. Lent by the model.
  std::string_view TokenBytes(int32_t token) const;
  // The same without what Decode leaves out of a text's first token.
  std::string_view FirstTokenBytes(int32_t token) const;
  // Whether all of `tokens` are special, so that the next token is the first of a text.
  bool TextBegins(std::span<const int32_t> tokens) const;
  bool IsEndToken(int32_t token) const;
  uint32_t vocabulary() const { return static_cast<uint32_t>(spec_->tokens.size()); }

  // Heap held, for the plan.
  uint64_t table_bytes() const;

 private:
  // What one Encode call works with.
  struct Work {
    TokenSink sink;
    PatternScratch split;
    MergeScratch merge;
    UnigramScratch unigram;
    SpecialRule rule;
  };

  Tokenizer() = default;
  Result<std::string> Prepare(std::string_view text, std::vector<TextRange>* plain) const;
  Status EncodeOrdinary(std::string_view text, TextRange part, Work& work) const;
  Status EncodePieces(std::string_view text, bool first, Work& work) const;
  Status BuildEncoder();
  Status EncodePiece(std::string_view piece, Work& work) const;

  const model::TokenizerSpec* spec_ = nullptr;
  Bpe bpe_;  // of the three, the one that the kind asks for is built
  Unigram unigram_;
  Longest longest_;
  SpecialMatcher special_;     // in the text as it comes
  SpecialMatcher normalised_;  // in the text with its spaces mapped
  Normaliser normaliser_;
  PatternSplitter splitter_;
};

}  // namespace headroom::text
