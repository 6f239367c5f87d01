#include "text/unigram.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <new>

#include "text/utf8.h"
#include "text/vocabulary.h"

namespace headroom::text {
namespace {

constexpr double kUnknownPenalty = 10.0;

using Node = UnigramScratch::Node;

// The first of two equal scores stays, as in the reference.
void Reach(Node& node, double score, size_t start, uint32_t id) {
  if (node.start != UnigramScratch::kNever && score <= node.score) return;
  node = {score, static_cast<uint32_t>(start), id};
}

}  // namespace

bool UnigramScratch::Reserve(size_t count) {
  if (count > capacity_) {
    capacity_ = 0;
    const size_t capacity = std::max<size_t>(std::bit_ceil(count), 256);
    nodes_.reset(new (std::nothrow) Node[capacity]);
    if (!nodes_) return false;
    capacity_ = capacity;
  }
  std::fill_n(nodes_.get(), count, Node{0.0, kNever, kUnknown});
  return true;
}

Status Unigram::Build(const model::TokenizerSpec& spec) {
  spec_ = &spec;
  const size_t count = spec.tokens.size();
  if (spec.scores.size() != count && spec.double_scores.size() != count) {
    return Status::Make(StatusCode::kCorrupt, "tokenizer: %zu scores for %zu tokens",
                        std::max(spec.scores.size(), spec.double_scores.size()), count);
  }
  HR_ASSIGN_OR_RETURN(const std::vector<bool> reserved, ReservedTokens(spec));
  std::vector<uint32_t> ordinary;
  double lowest = std::numeric_limits<double>::infinity();
  for (uint32_t id = 0; id < count; ++id) {
    lowest = std::min(lowest, Score(id));
    if (reserved[id] || spec.tokens[id].empty()) continue;
    if (spec.tokens[id].size() > kMaxTokenBytes) {
      return Status::Make(StatusCode::kUnsupported,
                          "tokenizer: unigram token %u has %zu bytes > %zu", id,
                          spec.tokens[id].size(), kMaxTokenBytes);
    }
    ordinary.push_back(id);
  }
  unknown_score_ = lowest - kUnknownPenalty;
  table_.Build(spec.tokens, std::move(ordinary));
  return {};
}

void Unigram::Forward(std::string_view piece, Node* nodes) const {
  nodes[0] = {0.0, 0, UnigramScratch::kUnknown};
  for (size_t at = 0; at < piece.size();) {
    const size_t character = ScanUtf8(piece.substr(at)).bytes;
    const double score = nodes[at].score;
    bool single = false;
    table_.Walk(piece.substr(at), [&](uint32_t id, size_t bytes) {
      Reach(nodes[at + bytes], score + Score(id), at, id);
      single |= bytes == character;
    });
    if (!single) {
      Reach(nodes[at + character], score + unknown_score_, at, UnigramScratch::kUnknown);
    }
    at += character;
  }
}

// `run`: the token before was unknown, too.
Status Unigram::EmitUnknown(std::string_view text, bool* run, TokenSink& sink) const {
  if (!spec_->byte_tokens.empty()) {
    for (const char byte : text) sink.Add(spec_->byte_tokens[static_cast<uint8_t>(byte)]);
    return {};
  }
  if (spec_->unknown_token < 0) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "text: byte 0x%02x begins a character without a token, and this vocabulary "
                        "has no unknown token",
                        static_cast<uint8_t>(text[0]));
  }
  if (!*run) sink.Add(static_cast<uint32_t>(spec_->unknown_token));
  *run = true;
  return {};
}

Status Unigram::EncodePiece(std::string_view piece, UnigramScratch& scratch,
                            TokenSink& sink) const {
  if (piece.size() > INT32_MAX) {
    return Status::Make(StatusCode::kInvalidArgument, "text: a word of %zu bytes > %d",
                        piece.size(), INT32_MAX);
  }
  if (!scratch.Reserve(piece.size() + 1)) {
    return Status::Make(StatusCode::kOutOfMemory, "text: no memory to cut a word of %zu bytes",
                        piece.size());
  }
  Node* nodes = scratch.nodes();
  Forward(piece, nodes);
  // The best path, from its end, packed into the nodes behind it: a token has at least a byte, so
  // no node is overwritten that is still to be read.
  size_t first = piece.size() + 1;
  for (size_t end = piece.size(); end > 0;) {
    const Node node = nodes[end];
    nodes[--first] = node;
    end = node.start;
  }
  bool run = false;
  for (size_t i = first; i <= piece.size(); ++i) {
    const size_t end = i == piece.size() ? piece.size() : nodes[i + 1].start;
    if (nodes[i].id != UnigramScratch::kUnknown) {
      sink.Add(nodes[i].id);
      run = false;
    } else {
      HR_RETURN_IF_ERROR(
          EmitUnknown(piece.substr(nodes[i].start, end - nodes[i].start), &run, sink));
    }
  }
  return {};
}

}  // namespace headroom::text
