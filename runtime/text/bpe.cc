#include "text/bpe.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <new>

#include "text/utf8.h"
#include "text/vocabulary.h"

namespace headroom::text {
namespace {

// Power of two at least twice `count`, so that probing stays short.
size_t TableSize(size_t count) { return std::bit_ceil(std::max<size_t>(count * 2, 16)); }

uint64_t HashPair(uint32_t left, uint32_t right) {
  uint64_t x = uint64_t{left} << 32 | right;
  x ^= x >> 32;
  x *= 0x9e3779b97f4a7c15u;
  return x ^ x >> 29;
}

// Heap order: lowest rank first, then leftmost.
bool After(const MergeScratch::Candidate& a, const MergeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

}  // namespace

bool MergeScratch::Reserve(size_t count) {
  if (count <= capacity_) return true;
  const size_t capacity = std::max<size_t>(std::bit_ceil(count), 256);
  symbols_.reset(new (std::nothrow) Symbol[capacity]);
  candidates_.reset(new (std::nothrow) Candidate[2 * capacity]);
  capacity_ = symbols_ && candidates_ ? capacity : 0;
  return capacity_ != 0;
}

Status Bpe::Build(const model::TokenizerSpec& spec) {
  spec_ = &spec;
  HR_ASSIGN_OR_RETURN(const std::vector<bool> reserved, ReservedTokens(spec));
  const bool characters = spec.kind == model::TokenizerKind::kCharacterBpe;
  const bool unknown = spec.byte_tokens.empty() && spec.unknown_token >= 0 &&
                       static_cast<size_t>(spec.unknown_token) < spec.tokens.size();
  if (characters && !unknown && spec.byte_tokens.size() != byte_ids_.size()) {
    return Status::Make(StatusCode::kCorrupt,
                        "tokenizer: %zu byte tokens, not %zu, and no unknown token",
                        spec.byte_tokens.size(), byte_ids_.size());
  }
  BuildVocabulary(reserved);
  for (size_t value = 0; !(characters && unknown) && value < byte_ids_.size(); ++value) {
    const char byte = static_cast<char>(value);
    const int32_t id =
        characters ? static_cast<int32_t>(spec.byte_tokens[value]) : Find({&byte, 1});
    byte_ids_[value] = id == model::kNone ? kEmpty : static_cast<uint32_t>(id);
  }
  return BuildMerges(reserved);
}

void Bpe::BuildVocabulary(const std::vector<bool>& reserved) {
  const size_t count = reserved.size();
  vocabulary_.assign(TableSize(count), kEmpty);
  const size_t mask = vocabulary_.size() - 1;
  for (uint32_t id = 0; id < count; ++id) {
    const std::string_view bytes = spec_->tokens[id];
    if (bytes.empty() || reserved[id] || Find(bytes) != model::kNone) continue;
    size_t slot = XXH3_64bits(bytes.data(), bytes.size()) & mask;
    while (vocabulary_[slot] != kEmpty) slot = (slot + 1) & mask;
    vocabulary_[slot] = id;
  }
}

Status Bpe::BuildMerges(const std::vector<bool>& reserved) {
  const model::TokenizerSpec& spec = *spec_;
  const size_t count = spec.tokens.size();
  if (spec.merges.size() >= kEmpty / 4) {
    return Status::Make(StatusCode::kCorrupt, "tokenizer: %zu merges > %u", spec.merges.size(),
                        kEmpty / 4);
  }
  ranks_.assign(TableSize(spec.merges.size()), kEmpty);
  const size_t mask = ranks_.size() - 1;
  for (uint32_t rank = 0; rank < spec.merges.size(); ++rank) {
    const model::Merge& merge = spec.merges[rank];
    if (merge.left >= count || merge.right >= count || merge.result >= count) {
      return Status::Make(StatusCode::kCorrupt,
                          "tokenizer: merge %u of tokens %u and %u to %u; vocabulary %zu", rank,
                          merge.left, merge.right, merge.result, count);
    }
    if (reserved[merge.result]) continue;  // see ReservedTokens
    if (FindMerge(merge.left, merge.right) != kEmpty)
      continue;  // listed twice: the earlier rank counts
    size_t slot = HashPair(merge.left, merge.right) & mask;
    while (ranks_[slot] != kEmpty) slot = (slot + 1) & mask;
    ranks_[slot] = rank;
  }
  return {};
}

int32_t Bpe::Find(std::string_view bytes) const {
  const size_t mask = vocabulary_.size() - 1;
  for (size_t slot = XXH3_64bits(bytes.data(), bytes.size()) & mask;; slot = (slot + 1) & mask) {
    const uint32_t id = vocabulary_[slot];
    if (id == kEmpty) return model::kNone;
    if (spec_->tokens[id] == bytes) return static_cast<int32_t>(id);
  }
}

uint32_t Bpe::FindMerge(uint32_t left, uint32_t right) const {
  const size_t mask = ranks_.size() - 1;
  for (size_t slot = HashPair(left, right) & mask;; slot = (slot + 1) & mask) {
    const uint32_t rank = ranks_[slot];
    if (rank == kEmpty) return kEmpty;
    if (spec_->merges[rank].left == left && spec_->merges[rank].right == right) return rank;
  }
}

// Joins the pair of lowest rank (leftmost first) until none is left. Every symbol starts alone in a
// linked list; a candidate in the heap is stale when the pair at its place is no longer the one it
// was made for.
void Bpe::Merge(MergeScratch& scratch, size_t count) const {
  constexpr uint32_t kEnd = MergeScratch::kEnd;
  MergeScratch::Symbol* symbols = scratch.symbols();
  MergeScratch::Candidate* heap = scratch.candidates();
  size_t live = 0;
  const auto add = [&](uint32_t left) {
    if (left == kEnd || symbols[left].next == kEnd) return;
    const uint32_t rank = FindMerge(symbols[left].id, symbols[symbols[left].next].id);
    if (rank == kEmpty) return;
    // At most count - 1 at the start and one more per merge (one taken, two added): 2 * count fit.
    heap[live++] = {rank, left};
  };
  for (uint32_t i = 0; i + 1 < count; ++i) add(i);
  std::make_heap(heap, heap + live, After);
  while (live > 0) {
    std::pop_heap(heap, heap + live, After);
    const MergeScratch::Candidate best = heap[--live];
    MergeScratch::Symbol& left = symbols[best.left];
    if (left.id == kEmpty || left.next == kEnd) continue;
    MergeScratch::Symbol& right = symbols[left.next];
    const model::Merge& merge = spec_->merges[best.rank];
    if (merge.left != left.id || merge.right != right.id) continue;
    left.id = merge.result;
    left.next = right.next;
    if (right.next != kEnd) symbols[right.next].previous = best.left;
    right.id = kEmpty;  // gone
    for (const uint32_t start : {left.previous, best.left}) {
      const size_t before = live;
      add(start);
      if (live > before) std::push_heap(heap, heap + live, After);
    }
  }
}

// The symbol before the first is 0 - 1, which is kEnd.
static_assert(MergeScratch::kEnd == 0u - 1u);

Status Bpe::SeedBytes(std::string_view piece, MergeScratch::Symbol* symbols,
                      uint32_t* count) const {
  for (const char value : piece) {
    const uint8_t byte = static_cast<uint8_t>(value);
    if (byte_ids_[byte] == kEmpty) {
      return Status::Make(StatusCode::kInvalidArgument,
                          "text: byte 0x%02x has no token in this vocabulary", byte);
    }
    symbols[*count] = {byte_ids_[byte], *count - 1, *count + 1};
    ++*count;
  }
  return {};
}

// Bytes that are no character are said by their tokens, so that they come back unchanged.
void Bpe::SeedCharacters(std::string_view piece, MergeScratch::Symbol* symbols,
                         uint32_t* count) const {
  const auto add = [&](uint32_t id) {
    symbols[*count] = {id, *count - 1, *count + 1};
    ++*count;
  };
  bool unknown = false;  // the character before was
  while (!piece.empty()) {
    const Utf8Scan scan = ScanUtf8(piece);
    const std::string_view character = piece.substr(0, scan.bytes);
    piece.remove_prefix(scan.bytes);
    const int32_t id = scan.kind == Utf8::kWhole ? Find(character) : model::kNone;
    if (id != model::kNone) {
      add(static_cast<uint32_t>(id));
    } else if (spec_->byte_tokens.empty()) {
      const auto unknown_id = static_cast<uint32_t>(spec_->unknown_token);
      if (!spec_->fuse_unknown || !unknown) add(unknown_id);
      unknown = true;
      continue;
    } else {
      for (const char byte : character) add(byte_ids_[static_cast<uint8_t>(byte)]);
    }
    unknown = false;
  }
}

Status Bpe::EncodePiece(std::string_view piece, MergeScratch& scratch, TokenSink& sink) const {
  if (spec_->ignore_merges) {
    if (const int32_t id = Find(piece); id != model::kNone) {
      sink.Add(static_cast<uint32_t>(id));
      return {};
    }
  }
  if (piece.size() > INT32_MAX) {
    return Status::Make(StatusCode::kInvalidArgument, "text: a word of %zu bytes > %d",
                        piece.size(), INT32_MAX);
  }
  if (!scratch.Reserve(piece.size())) {
    return Status::Make(StatusCode::kOutOfMemory, "text: no memory to merge a word of %zu bytes",
                        piece.size());
  }
  MergeScratch::Symbol* symbols = scratch.symbols();
  uint32_t count = 0;
  if (spec_->kind == model::TokenizerKind::kCharacterBpe) {
    SeedCharacters(piece, symbols, &count);
  } else {
    HR_RETURN_IF_ERROR(SeedBytes(piece, symbols, &count));
  }
  if (count == 0) return {};
  symbols[count - 1].next = MergeScratch::kEnd;
  Merge(scratch, count);
  for (uint32_t i = 0; i != MergeScratch::kEnd; i = symbols[i].next) sink.Add(symbols[i].id);
  return {};
}

uint64_t Bpe::table_bytes() const {
  return (vocabulary_.capacity() + ranks_.capacity()) * sizeof(uint32_t);
}

}  // namespace headroom::text
