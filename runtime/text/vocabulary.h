// What every kind of vocabulary has in common.
#pragma once

#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace headroom::text {

// For each id: is it never made from ordinary text? So it is with special tokens, which untrusted
// text must not be able to spell, and with the tokens of single bytes, whose bytes another token
// may spell too. kCorrupt: no tokens, too many, or an id outside of them.
Result<std::vector<bool>> ReservedTokens(const model::TokenizerSpec& spec);

}  // namespace headroom::text
