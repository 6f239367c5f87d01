#include "text/prefix_table.h"

namespace headroom::text {

void PrefixTable::Build(const model::TokenTable& strings, std::vector<uint32_t> indices) {
  strings_ = strings;
  sorted_ = std::move(indices);
  std::erase_if(sorted_, [&](uint32_t i) { return strings[i].empty(); });
  // Compares bytes as unsigned, as the walk does.
  std::sort(sorted_.begin(), sorted_.end(), [&](uint32_t a, uint32_t b) {
    const int order = strings[a].compare(strings[b]);
    return order != 0 ? order < 0 : a < b;
  });
  const auto equal = [&](uint32_t a, uint32_t b) { return strings[a] == strings[b]; };
  sorted_.erase(std::unique(sorted_.begin(), sorted_.end(), equal), sorted_.end());
  begin_ = {};
  for (const uint32_t i : sorted_) ++begin_[ByteAt(i, 0) + 1];
  for (size_t b = 1; b < begin_.size(); ++b) begin_[b] += begin_[b - 1];
}

}  // namespace headroom::text
