// The golden checkpoints of tests/golden, converted once per process, and sessions on them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "session/engine.h"
#include "session/session.h"

namespace headroom::test {

struct Golden {
  std::string name;
  std::vector<int32_t> tokens;  // [T]
  std::vector<float> logits;    // [T, V] by transformers, or by llama.cpp
  uint32_t vocabulary = 0;
  uint32_t layers = 0, hidden = 0;
  std::shared_ptr<session::Engine> engine;  // f32 weights

  size_t count() const { return tokens.size(); }
  const float* row(size_t token) const { return logits.data() + token * vocabulary; }
  float LargestLogit() const;
  // What rounding may move a logit of an f32 run by: every layer rounds some ten intermediate
  // vectors, each the end of sums over `hidden` terms whose errors add like a random walk.
  float Allowance() const;
};

// Every case folder with a Hugging Face checkpoint, sorted.
std::vector<std::string> GoldenNames();
// Converted to `weights` ("f32", "f16", "int8", "int8/32", "int4") and opened; cached for the
// process.
const Golden& LoadGolden(const std::string& name, const std::string& weights = "f32");

// A folder removed at exit.
std::string ScratchPath(const std::string& leaf);

// Limits with everything small and explicit.
plan::Limits TestLimits(uint32_t context = 64, uint32_t chunk = 8,
                        plan::CodecChoice codec = plan::CodecChoice::kF32, uint32_t threads = 1);
std::unique_ptr<session::Session> MakeSession(const Golden& golden, const plan::Limits& limits);

// Largest |a - b|; infinity when one is not finite.
float LargestDifference(const float* a, const float* b, size_t count);

}  // namespace headroom::test
