// SentencePiece's table of characters and what they become: a double array over UTF-8 (darts-clone)
// whose values are places in a pool of texts, each ended by a zero byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headroom::text {

// Borrows the table. Nothing of it is trusted: every look into it is checked.
class Charsmap {
 public:
  // kCorrupt: lengths that contradict each other, a pool that does not end.
  Status Build(std::string_view table);

  // Appends what `text` becomes. With `graphemes` as the `tokenizers` library does it: a cluster of
  // under 6 bytes becomes what its shortest known beginning does, any other is taken character by
  // character. Else as SentencePiece: the longest known beginning of what is left. Bytes that are
  // no UTF-8 stay. Stops once `out` is longer than `limit`.
  void Apply(std::string_view text, bool graphemes, size_t limit, std::string& out) const;

 private:
  struct Found {
    size_t bytes = 0;  // of the text; 0: nothing is known
    std::string_view becomes = {};
  };
  uint32_t Unit(size_t place) const;
  Found Find(std::string_view text, bool longest) const;
  size_t ApplyLongest(std::string_view text, std::string& out) const;
  void ApplyCluster(std::string_view cluster, std::string& out) const;

  std::string_view units_, pool_;
};

}  // namespace headroom::text
