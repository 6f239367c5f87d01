// RWKV's World vocabulary: each token is the longest that the rest of the text begins with.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "model/model.h"
#include "text/prefix_table.h"
#include "text/token_sink.h"

namespace headroom::text {

// Immutable after Build; borrows the spec.
class Longest {
 public:
  Status Build(const model::TokenizerSpec& spec);
  // Appends the ids of one piece, in time proportional to its length times that of a token.
  // kInvalidArgument: a byte that no token begins with.
  Status EncodePiece(std::string_view piece, TokenSink& sink) const;
  uint64_t table_bytes() const { return table_.table_bytes(); }

 private:
  PrefixTable table_;
};

}  // namespace headroom::text
