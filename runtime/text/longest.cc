#include "text/longest.h"

#include <vector>

#include "text/vocabulary.h"

namespace headroom::text {

Status Longest::Build(const model::TokenizerSpec& spec) {
  HR_ASSIGN_OR_RETURN(const std::vector<bool> reserved, ReservedTokens(spec));
  std::vector<uint32_t> ordinary;
  for (uint32_t id = 0; id < spec.tokens.size(); ++id) {
    if (!reserved[id] && !spec.tokens[id].empty()) ordinary.push_back(id);
  }
  table_.Build(spec.tokens, std::move(ordinary));
  return {};
}

Status Longest::EncodePiece(std::string_view piece, TokenSink& sink) const {
  while (!piece.empty()) {
    uint32_t id = 0;
    size_t bytes = 0;
    table_.Walk(piece, [&](uint32_t index, size_t length) {
      id = index;
      bytes = length;
    });
    if (bytes == 0) {
      return Status::Make(StatusCode::kInvalidArgument, "no token begins with byte 0x%02x",
                          static_cast<unsigned char>(piece[0]));
    }
    sink.Add(id);
    piece.remove_prefix(bytes);
  }
  return {};
}

}  // namespace headroom::text
