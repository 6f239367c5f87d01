// Changes to a graph that keep it a well-formed FlatBuffer, so that fuzzing spends its time behind
// the verifier.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace headroom::fuzz {

// Rewrites the graph in `data` (its first bytes; room for max_bytes) with a few random edits.
// Returns the new size, or 0 when the bytes are no graph or the result has no room; `data` is then
// unchanged.
size_t MutateGraph(std::span<uint8_t> data, size_t max_bytes, uint32_t seed);

}  // namespace headroom::fuzz
