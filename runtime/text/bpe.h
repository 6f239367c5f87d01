// Byte-pair merging over token ids: the vocabulary, the merge ranks, and the merging of one piece.
// Merging begins with the bytes of the piece (byte-level vocabularies) or with its characters
// (SentencePiece), where a character without a token is begun with its bytes' tokens.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "text/token_sink.h"

namespace headroom::text {

// Working memory of one Encode call: grows to the longest piece (28 bytes per byte of it) and is
// reused.
class MergeScratch {
 public:
  struct Symbol {
    uint32_t id;
    uint32_t previous, next;  // indices; kEnd at either side
  };
  struct Candidate {
    uint32_t rank;
    uint32_t left;  // index of the left symbol
  };
  static constexpr uint32_t kEnd = 0xffffffffu;

  // Room for `count` symbols and twice as many candidates. False when the system refuses.
  [[nodiscard]] bool Reserve(size_t count);
  Symbol* symbols() { return symbols_.get(); }
  Candidate* candidates() { return candidates_.get(); }

 private:
  std::unique_ptr<Symbol[]> symbols_;
  std::unique_ptr<Candidate[]> candidates_;
  size_t capacity_ = 0;
};

// Immutable after Build; any number of threads may call the const functions.
// Borrows the spec's tokens and merges, which must outlive it.
class Bpe {
 public:
  // kCorrupt: an id outside the vocabulary, characters without tokens for the 256 bytes; the text
  // names it.
  Status Build(const model::TokenizerSpec& spec);

  // Appends the ids of one piece. Errors: kInvalidArgument (a byte without a token; piece over 2
  // GiB), kOutOfMemory.
  Status EncodePiece(std::string_view piece, MergeScratch& scratch, TokenSink& sink) const;

  // The ordinary (not special, not a byte's) token with exactly these bytes, lowest id; kNone when
  // there is none.
  int32_t Find(std::string_view bytes) const;

  // Heap held by the tables.
  uint64_t table_bytes() const;

 private:
  static constexpr uint32_t kEmpty = 0xffffffffu;

  void BuildVocabulary(const std::vector<bool>& reserved);
  Status BuildMerges(const std::vector<bool>& reserved);
  uint32_t FindMerge(uint32_t left, uint32_t right) const;  // rank or kEmpty
  Status SeedBytes(std::string_view piece, MergeScratch::Symbol* symbols, uint32_t* count) const;
  void SeedCharacters(std::string_view piece, MergeScratch::Symbol* symbols, uint32_t* count) const;
  void Merge(MergeScratch& scratch, size_t count) const;

  const model::TokenizerSpec* spec_ = nullptr;
  std::vector<uint32_t> vocabulary_;         // open addressing: id or kEmpty
  std::vector<uint32_t> ranks_;              // open addressing: rank or kEmpty
  std::array<uint32_t, 256> byte_ids_ = {};  // what a byte alone begins with
};

}  // namespace headroom::text
