#include "headroom/yardstick.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "headroom/api.h"
#include "headroom/needle_eval.h"
#include "headroom/options.h"

namespace headroom::cli {
namespace {

constexpr size_t kLikeliest = 256;
constexpr size_t kRowsPerCall = 32;  // bounds the buffer of logits

double LogSum(const float* logits, size_t count) {
  const double largest = *std::max_element(logits, logits + count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(logits[i] - largest);
  return largest + std::log(sum);
}

// log(1 - sum of these probabilities); rounding may leave nothing of a rest that is there.
float LogRest(double sum) { return static_cast<float>(std::log(std::max(1.0 - sum, 1e-12))); }

Prediction PredictionOf(const float* logits, size_t vocabulary) {
  const size_t count = std::min(kLikeliest, vocabulary);
  Prediction prediction;
  std::vector<int32_t> order(vocabulary);
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(),
                    [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  const double all = LogSum(logits, vocabulary);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const double log_probability = logits[order[i]] - all;
    sum += std::exp(log_probability);
    prediction.tokens.push_back(order[i]);
    prediction.log_probabilities.push_back(static_cast<float>(log_probability));
  }
  prediction.log_rest = LogRest(sum);
  return prediction;
}

double KlFrom(const Prediction& reference, const float* logits, size_t vocabulary) {
  const double all = LogSum(logits, vocabulary);
  double kl = 0, sum = 0;
  for (size_t i = 0; i < reference.tokens.size(); ++i) {
    const double expected = reference.log_probabilities[i];
    const double found = logits[reference.tokens[i]] - all;
    sum += std::exp(found);
    kl += std::exp(expected) * (expected - found);
  }
  if (reference.tokens.size() < vocabulary) {
    kl += std::exp(reference.log_rest) * (reference.log_rest - LogRest(sum));
  }
  return std::max(kl, 0.0);
}

// Logits from `first` on; what lies before it needs none.
void ReadContinuation(hr_session* session, const Passage::Continuation& next, size_t vocabulary,
                      std::vector<float>* rows, const std::function<void(const float*)>& visit) {
  hr_error error = {};
  const int32_t* tokens = next.tokens.data();
  if (next.first > 0) {
    Check(hr_session_prefill(session, tokens, next.first, &error), error, "cannot read on");
  }
  for (size_t at = next.first; at < next.tokens.size();) {
    const size_t count = std::min(kRowsPerCall, next.tokens.size() - at);
    Check(
        hr_session_prefill_logits(session, tokens + at, count, rows->data(), rows->size(), &error),
        error, "cannot compute logits");
    for (size_t row = 0; row < count; ++row) visit(rows->data() + row * vocabulary);
    at += count;
  }
}

}  // namespace

std::vector<Passage> PassagesOf(const hr_model* model,
                                const std::vector<const NeedleContext*>& contexts, uint32_t limit) {
  std::vector<Passage> passages;
  for (const TokenizedContext& context : TokenizeNeedles(model, contexts, limit)) {
    Passage& passage = passages.emplace_back();
    passage.context = context.text;
    for (const TokenizedQuestion& question : context.questions) {
      Passage::Continuation& next = passage.continuations.emplace_back();
      next.tokens = question.prompt;
      next.first = question.prompt.empty() ? 0 : question.prompt.size() - 1;
      const std::vector<int32_t> answer =
          Tokenize(model, question.question->answer, HR_TOKENIZE_NO_BEGIN | HR_TOKENIZE_NO_SPECIAL);
      next.tokens.insert(next.tokens.end(), answer.begin(), answer.end());
    }
  }
  return passages;
}

std::vector<Passage> PassagesOf(const std::vector<int32_t>& tokens, size_t window) {
  std::vector<Passage> passages;
  for (size_t at = 0; at + window <= tokens.size(); at += window) {
    const auto begin = tokens.begin() + static_cast<ptrdiff_t>(at);
    const auto middle = begin + static_cast<ptrdiff_t>(window / 2);
    const auto end = begin + static_cast<ptrdiff_t>(window);
    passages.push_back({{begin, middle}, {{{middle, end}, 0}}});
  }
  return passages;
}

size_t LongestOf(const std::vector<Passage>& passages) {
  size_t longest = 0;
  for (const Passage& passage : passages) {
    for (const Passage::Continuation& next : passage.continuations) {
      longest = std::max(longest, passage.context.size() + next.tokens.size());
    }
  }
  return longest;
}

Yardstick::Yardstick(hr_model* model, std::vector<Passage> passages,
                     const hr_session_options& options, const std::function<void(double)>& on_part)
    : model_(model),
      passages_(std::move(passages)),
      options_(options),
      vocabulary_(FactsOf(model).vocabulary) {
  if (options_.context_tokens == 0) {
    options_.context_tokens = static_cast<uint32_t>(LongestOf(passages_)) + kAnswerTokens;
  }
  Read("f32", on_part,
       [this](const float* logits) { reference_.push_back(PredictionOf(logits, vocabulary_)); });
}

double Yardstick::Loss(const std::string& kv, const std::function<void(double)>& on_part) const {
  double sum = 0;
  size_t place = 0;
  Read(kv, on_part,
       [&](const float* logits) { sum += KlFrom(reference_[place++], logits, vocabulary_); });
  return place == 0 ? 0 : sum / static_cast<double>(place);
}

void Yardstick::Read(const std::string& kv, const std::function<void(double)>& on_part,
                     const std::function<void(const float*)>& visit) const {
  hr_session_options options = options_;
  options.profile = ProfileOf(kv);
  const SessionHandle session = CreateSession(model_, options, LongestOf(passages_));
  std::vector<float> rows(kRowsPerCall * vocabulary_);
  size_t done = 0;
  for (const Passage& passage : passages_) {
    hr_error error = {};
    Check(hr_session_rewind(session.get(), 0, &error), error, "cannot rewind");
    Check(hr_session_prefill(session.get(), passage.context.data(), passage.context.size(), &error),
          error, "cannot read a passage");
    for (const Passage::Continuation& next : passage.continuations) {
      const SessionHandle fork = Fork(session.get());  // a cache that lets rows go cannot rewind
      ReadContinuation(fork.get(), next, vocabulary_, &rows, visit);
    }
    on_part(static_cast<double>(++done) / static_cast<double>(passages_.size()));
  }
}

}  // namespace headroom::cli
