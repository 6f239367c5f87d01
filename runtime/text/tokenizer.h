// Text to token ids and back, by the byte-level BPE that a model file carries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/status.h"
#include "model/model.h"
#include "text/byte_bpe.h"
#include "text/splitter.h"

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
  // space). Allocates working memory in proportion to the longest piece and releases it before
  // returning. Errors: kBufferTooSmall (*count is right), kUnsupported (a pattern that backtracks
  // without end), kInvalidArgument (a byte for which this vocabulary has no token), kOutOfMemory.
  Status Encode(std::string_view text, uint32_t flags, std::span<int32_t> out, size_t* count) const;

  // The bytes of `tokens` in order; a character may end in a later token. *bytes: all of them.
  // Errors: kInvalidArgument (id outside the vocabulary; the text names it), kBufferTooSmall.
  Status Decode(std::span<const int32_t> tokens, std::span<char> out, size_t* bytes) const;

  // Bytes of one token; empty for an id outside the vocabulary. Lent by the model.
  std::string_view TokenBytes(int32_t token) const;
  bool IsEndToken(int32_t token) const;
  uint32_t vocabulary() const { return static_cast<uint32_t>(spec_->tokens.size()); }

  // Heap held, for the plan.
  uint64_t table_bytes() const { return sizeof(*this) + bpe_.table_bytes(); }

 private:
  Tokenizer() = default;
  Status EncodeOrdinary(std::string_view text, SplitScratch& split, MergeScratch& merge,
                        TokenSink& sink) const;

  const model::TokenizerSpec* spec_ = nullptr;
  ByteBpe bpe_;
  SpecialMatcher special_;
  PatternSplitter splitter_;
};

}  // namespace headroom::text
