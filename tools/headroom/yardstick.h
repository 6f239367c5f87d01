// How much a cache changes what a model predicts at places that matter, as one smooth number.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <headroom/headroom.h>

#include "headroom/needle.h"

namespace headroom::cli {

// A text, and what may follow it: the predictions from token `first` of a continuation on count.
struct Passage {
  struct Continuation {
    std::vector<int32_t> tokens;
    size_t first = 0;
  };
  std::vector<int32_t> context;
  std::vector<Continuation> continuations;
};

// Needle questions, at most `limit` of them (0: all): the predictions of the answers count.
std::vector<Passage> PassagesOf(const hr_model* model,
                                const std::vector<const NeedleContext*>& contexts, uint32_t limit);
// Windows of the text: the first half is read, predictions of the second are compared.
std::vector<Passage> PassagesOf(const std::vector<int32_t>& tokens, size_t window);

// Tokens of the longest context with a continuation.
size_t LongestOf(const std::vector<Passage>& passages);

// The likeliest next tokens at one place: their ids and log probabilities, and that of all others.
struct Prediction {
  std::vector<int32_t> tokens;
  std::vector<float> log_probabilities;
  float log_rest = 0.0f;
};

class Yardstick {
 public:
  // `options`: of all sessions; their context is what the passages need unless it is given. Reads
  // all passages once with an f32 cache. `on_part` is called with the share done, 0..1. Throws
  // Failure.
  Yardstick(hr_model* model, std::vector<Passage> passages, const hr_session_options& options,
            const std::function<void(double)>& on_part);

  // Mean Kullback-Leibler divergence, in nats, of the predictions with this cache from those with
  // the f32 one. Where the vocabulary is large, the tokens that are not among the likeliest count
  // as one: never more than the divergence itself. Throws Failure.
  double Loss(const std::string& kv, const std::function<void(double)>& on_part) const;

  size_t places() const { return reference_.size(); }
  // Of the sessions.
  const hr_session_options& options() const { return options_; }

 private:
  // Calls `visit` with the logits at every place, in order.
  void Read(const std::string& kv, const std::function<void(double)>& on_part,
            const std::function<void(const float*)>& visit) const;

  hr_model* model_;
  std::vector<Passage> passages_;
  hr_session_options options_;
  size_t vocabulary_ = 0;
  std::vector<Prediction> reference_;
};

}  // namespace headroom::cli
