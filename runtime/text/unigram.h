// The unigram language model of SentencePiece: of all ways to cut a piece into tokens, the one
// whose scores add up highest.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "text/prefix_table.h"
#include "text/token_sink.h"

namespace headroom::text {

// Working memory of one Encode call: grows to the longest piece, 16 bytes per byte of it.
class UnigramScratch {
 public:
  // The best way to reach one place in the piece: its score, and its last token.
  struct Node {
    double score;
    uint32_t start;  // where that token begins; kNever: not reached
    uint32_t id;     // kUnknown: a character without a token
  };
  static constexpr uint32_t kNever = 0xffffffffu;
  static constexpr uint32_t kUnknown = 0xffffffffu;

  // Room for `count` nodes, none reached. False when the system refuses.
  [[nodiscard]] bool Reserve(size_t count);
  Node* nodes() { return nodes_.get(); }

 private:
  std::unique_ptr<Node[]> nodes_;
  size_t capacity_ = 0;
};

// Viterbi's algorithm over the bytes of a piece, at whole characters. A character without a token
// of its own costs the lowest score less 10 (the constant of SentencePiece) and becomes its bytes'
// tokens where the vocabulary has them, else the unknown token, one for a run. Broken UTF-8 counts
// as such characters. Immutable after Build; borrows the spec.
class Unigram {
 public:
  // Longest token: bounds the work for one byte of text.
  static constexpr size_t kMaxTokenBytes = 256;

  // kCorrupt: a score is missing. kUnsupported: a token longer than kMaxTokenBytes.
  Status Build(const model::TokenizerSpec& spec);

  // Appends the ids of one piece. Errors: kInvalidArgument (a character without a token where the
  // vocabulary has no unknown token either; piece over 2 GiB), kOutOfMemory.
  Status EncodePiece(std::string_view piece, UnigramScratch& scratch, TokenSink& sink) const;

  uint64_t table_bytes() const { return table_.table_bytes(); }

 private:
  double Score(uint32_t id) const {
    return spec_->double_scores.empty() ? static_cast<double>(spec_->scores[id])
                                        : spec_->double_scores[id];
  }
  void Forward(std::string_view piece, UnigramScratch::Node* nodes) const;
  Status EmitUnknown(std::string_view text, bool* run, TokenSink& sink) const;

  const model::TokenizerSpec* spec_ = nullptr;
  PrefixTable table_;
  double unknown_score_ = 0.0;
};

}  // namespace headroom::text
