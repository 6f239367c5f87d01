// Which of many strings does a text begin with? All of them, in one walk along the text.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/model.h"

namespace headroom::text {

// Sorted indices into a table of strings, 4 bytes each. A walk costs a binary search for each byte
// that some string still shares with the text. Immutable after Build; borrows the strings.
class PrefixTable {
 public:
  // `indices`: the strings that take part, below strings.size(). Empty strings never match; of
  // equal ones only the lowest index does.
  void Build(const model::TokenTable& strings, std::vector<uint32_t> indices);

  // Calls visit(index, bytes) for each string that `text` begins with, shortest first.
  template <typename Visit>
  void Walk(std::string_view text, Visit&& visit) const;

  uint64_t table_bytes() const { return sorted_.capacity() * sizeof(uint32_t) + sizeof(begin_); }

 private:
  uint8_t ByteAt(uint32_t index, size_t depth) const {
    return static_cast<uint8_t>(strings_[index][depth]);
  }

  model::TokenTable strings_;
  std::vector<uint32_t> sorted_;
  std::array<uint32_t, 257> begin_ = {};  // first byte b: sorted_[begin_[b] .. begin_[b + 1])
};

template <typename Visit>
void PrefixTable::Walk(std::string_view text, Visit&& visit) const {
  if (text.empty() || sorted_.empty()) return;
  const uint8_t first = static_cast<uint8_t>(text[0]);
  const uint32_t* low = sorted_.data() + begin_[first];
  const uint32_t* high = sorted_.data() + begin_[first + 1];
  for (size_t depth = 1; low != high; ++depth) {
    if (strings_[*low].size() == depth) visit(*low++, depth);
    if (depth == text.size()) return;
    const uint8_t byte = static_cast<uint8_t>(text[depth]);
    if (low == high) return;
    if (ByteAt(*low, depth) == byte && ByteAt(high[-1], depth) == byte) continue;  // all of them
    low = std::partition_point(low, high, [&](uint32_t i) { return ByteAt(i, depth) < byte; });
    high = std::partition_point(low, high, [&](uint32_t i) { return ByteAt(i, depth) == byte; });
  }
}

}  // namespace headroom::text
