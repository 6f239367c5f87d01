#include "headroom/head_labels.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>

#include "headroom/api.h"
#include "headroom/files.h"
#include "headroom/needle_eval.h"
#include "headroom/progress.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr double kEchoShare = 14;  // the paper's 14 % by induction to 1 % by echo

// What one layer's queries and keys are while a session reads: a row for each token.
class LayerWatcher {
 public:
  LayerWatcher(hr_session* session, size_t layer)
      : session_(session), name_("attention." + std::to_string(layer) + ".") {
    hr_error error = {};
    Check(hr_session_observe_inputs(session, &LayerWatcher::See, this, &error), error,
          "cannot watch the session");
  }
  ~LayerWatcher() { (void)hr_session_observe_inputs(session_, nullptr, nullptr, nullptr); }
  LayerWatcher(const LayerWatcher&) = delete;
  LayerWatcher& operator=(const LayerWatcher&) = delete;

  size_t rows() const { return key_columns_ == 0 ? 0 : keys_.size() / key_columns_; }
  void Forget(size_t from) {
    keys_.resize(std::min(keys_.size(), from * key_columns_));
    queries_.resize(std::min(queries_.size(), from * query_columns_));
  }
  const float* query(size_t token) const { return queries_.data() + token * query_columns_; }
  const float* keys() const { return keys_.data(); }
  size_t key_columns() const { return key_columns_; }

 private:
  static void See(void* self, const char* tensor, size_t tensor_bytes, const float* x, size_t rows,
                  size_t columns) {
    auto* watcher = static_cast<LayerWatcher*>(self);
    const std::string name(tensor, tensor_bytes);
    if (name == watcher->name_ + "queries") {
      watcher->query_columns_ = columns;
      watcher->queries_.insert(watcher->queries_.end(), x, x + rows * columns);
    } else if (name == watcher->name_ + "keys") {
      watcher->key_columns_ = columns;
      watcher->keys_.insert(watcher->keys_.end(), x, x + rows * columns);
    }
  }

  hr_session* session_;
  std::string name_;
  std::vector<float> queries_, keys_;
  size_t query_columns_ = 0, key_columns_ = 0;
};

void CheckPlain(const model::Model& spec) {
  for (size_t i = 0; i < spec.attentions.size(); ++i) {
    const model::AttentionSpec& attention = spec.attentions[i];
    if (!attention.query.matrix.present() && !attention.tail.present()) continue;
    throw Failure(
        HR_UNSUPPORTED,
        "attention layer " + std::to_string(i) + " is latent: its heads have no keys to label",
        "Let tune measure the heads instead (without --label).");
  }
}

SessionHandle F32Session(hr_model* model, size_t tokens) {
  hr_session_options options = {};
  options.struct_size = sizeof(options);
  options.kv = HR_KV_F32;
  options.context_tokens = static_cast<uint32_t>(tokens);
  return CreateSession(model, options, tokens);
}

void Prefill(hr_session* session, const std::vector<int32_t>& tokens) {
  hr_error error = {};
  Check(hr_session_prefill(session, tokens.data(), tokens.size(), &error), error, "cannot read");
}

// The weights of one query head on all rows up to the query's token.
std::vector<double> WeightsOf(const model::AttentionSpec& spec, const LayerWatcher& watcher,
                              uint32_t head, size_t token) {
  const size_t width = spec.key.width;
  const float* keys = watcher.keys() + spec.views[spec.head_map[head]].key * width;
  return AttentionWeights(spec, watcher.query(token) + head * width, keys, watcher.key_columns(),
                          token + 1);
}

// Adds `value` where it is the largest of the KV head's query heads.
void TakeLargest(const model::AttentionSpec& spec, const std::vector<double>& by_query_head,
                 std::vector<double>* labels) {
  labels->assign(spec.kv_heads(), 0.0);
  for (uint32_t head = 0; head < spec.query_heads; ++head) {
    double& label = (*labels)[spec.head_map[head]];
    label = std::max(label, by_query_head[head]);
  }
}

std::vector<int32_t> RandomTokens(uint32_t vocabulary, uint32_t tokens, uint32_t copies) {
  std::vector<int32_t> ids(vocabulary);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), std::mt19937(20260101));
  ids.resize(std::min(tokens, vocabulary));  // all different, so that a copy has one place a round
  std::vector<int32_t> all;
  for (uint32_t i = 0; i < copies; ++i) all.insert(all.end(), ids.begin(), ids.end());
  return all;
}

// 0 for the largest value, up to nearly 1 for the smallest: the share of heads before it.
HeadLabels Ranks(const HeadLabels& scores) {
  std::vector<double> sorted;
  for (const auto& layer : scores) sorted.insert(sorted.end(), layer.begin(), layer.end());
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  HeadLabels ranks = scores;
  for (auto& layer : ranks) {
    for (double& value : layer) {
      const auto before = std::lower_bound(sorted.begin(), sorted.end(), value, std::greater<>());
      value = static_cast<double>(before - sorted.begin()) / static_cast<double>(sorted.size());
    }
  }
  return ranks;
}

}  // namespace

std::vector<double> AttentionWeights(const model::AttentionSpec& spec, const float* query,
                                     const float* keys, size_t stride, size_t rows) {
  std::vector<double> weights(rows, 0.0);
  const auto visible = [&](size_t row) {
    return spec.left == kUnlimited || row < spec.sinks || row + spec.left + 1 >= rows;
  };
  double largest = -INFINITY;
  for (size_t row = 0; row < rows; ++row) {
    if (!visible(row)) continue;
    double logit = 0;
    for (uint32_t d = 0; d < spec.key.width; ++d)
      logit += double{query[d]} * keys[row * stride + d];
    logit *= static_cast<double>(spec.scale);
    const auto cap = static_cast<double>(spec.softcap);
    weights[row] = cap > 0 ? cap * std::tanh(logit / cap) : logit;
    largest = std::max(largest, weights[row]);
  }
  double sum = 0;
  for (size_t row = 0; row < rows; ++row) {
    weights[row] = visible(row) ? std::exp(weights[row] - largest) : 0.0;
    sum += weights[row];
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

HeadLabels CombineScores(const HeadLabels& echo, const HeadLabels& induction) {
  const HeadLabels by_echo = Ranks(echo);
  HeadLabels labels = Ranks(induction);
  for (size_t layer = 0; layer < labels.size(); ++layer) {
    for (size_t head = 0; head < labels[layer].size(); ++head) {
      labels[layer][head] = 1 - std::min(labels[layer][head], kEchoShare * by_echo[layer][head]);
    }
  }
  return labels;
}

HeadLabels RandomLabels(hr_model* model, const model::Model& spec, uint32_t tokens,
                        uint32_t copies) {
  CheckPlain(spec);
  const std::vector<int32_t> text = RandomTokens(FactsOf(model).vocabulary, tokens, copies);
  const size_t round = text.size() / copies;
  const SessionHandle session = F32Session(model, text.size());
  HeadLabels echo(spec.attentions.size()), induction(spec.attentions.size());
  ProgressBar bar("labelling");
  for (size_t layer = 0; layer < spec.attentions.size(); ++layer) {
    const model::AttentionSpec& attention = spec.attentions[layer];
    if (attention.source_attention != model::kNone) continue;
    hr_error error = {};
    Check(hr_session_rewind(session.get(), 0, &error), error, "cannot rewind");
    const LayerWatcher watcher(session.get(), layer);
    Prefill(session.get(), text);
    std::vector<double> echoes(attention.query_heads, 0.0), inductions(attention.query_heads, 0.0);
    for (uint32_t head = 0; head < attention.query_heads; ++head) {
      for (size_t token = round; token < text.size(); ++token) {
        const std::vector<double> weights = WeightsOf(attention, watcher, head, token);
        for (size_t copy = token % round; copy < token; copy += round) {
          echoes[head] += weights[copy];
          inductions[head] += weights[copy + 1];
        }
      }
    }
    TakeLargest(attention, echoes, &echo[layer]);
    TakeLargest(attention, inductions, &induction[layer]);
    bar.Update(static_cast<double>(layer + 1) / static_cast<double>(spec.attentions.size()));
  }
  return CombineScores(echo, induction);
}

HeadLabels RetrievalLabels(hr_model* model, const model::Model& spec,
                           const std::vector<Passage>& passages) {
  CheckPlain(spec);
  const SessionHandle session = F32Session(model, LongestOf(passages));
  HeadLabels labels(spec.attentions.size());
  ProgressBar bar("labelling");
  for (size_t layer = 0; layer < spec.attentions.size(); ++layer) {
    const model::AttentionSpec& attention = spec.attentions[layer];
    if (attention.source_attention != model::kNone) continue;
    std::vector<double> hits(attention.query_heads, 0.0);
    double steps = 0;
    LayerWatcher watcher(session.get(), layer);
    for (const Passage& passage : passages) {
      hr_error error = {};
      Check(hr_session_rewind(session.get(), 0, &error), error, "cannot rewind");
      watcher.Forget(0);
      Prefill(session.get(), passage.context);
      for (const Passage::Continuation& next : passage.continuations) {
        const size_t begin = passage.context.size();
        Check(hr_session_rewind(session.get(), static_cast<uint32_t>(begin), &error), error,
              "cannot rewind");
        watcher.Forget(begin);
        Prefill(session.get(), next.tokens);
        // The row behind each step that goes on with the token that comes next.
        for (size_t at = next.first; at + 1 < next.tokens.size(); ++at, ++steps) {
          for (uint32_t head = 0; head < attention.query_heads; ++head) {
            const auto weights = WeightsOf(attention, watcher, head, begin + at);
            const auto most = static_cast<size_t>(std::max_element(weights.begin(), weights.end()) -
                                                  weights.begin());
            if (most < begin && passage.context[most] == next.tokens[at + 1]) ++hits[head];
          }
        }
      }
      const auto done =
          static_cast<double>(layer) + static_cast<double>(&passage - passages.data() + 1) /
                                           static_cast<double>(passages.size());
      bar.Update(done / static_cast<double>(spec.attentions.size()));
    }
    for (double& hit : hits) hit /= std::max(steps, 1.0);
    TakeLargest(attention, hits, &labels[layer]);
  }
  return labels;
}

HeadLabels ReadLabels(const std::string& path) {
  std::istringstream lines(ReadWholeFile(path, "the table of heads"));
  HeadLabels labels;
  for (std::string line; std::getline(lines, line);) {
    std::vector<double>& layer = labels.emplace_back();
    std::istringstream numbers(line);
    for (std::string word; numbers >> word;) {
      char* end = nullptr;
      layer.push_back(std::strtod(word.c_str(), &end));
      if (*end == '\0' && std::isfinite(layer.back())) continue;
      throw Failure(HR_INVALID_ARGUMENT, path + ", line " + std::to_string(labels.size()) + ": \"" +
                                             EscapeControls(word) + "\" is no number");
    }
  }
  return labels;
}

}  // namespace headroom::cli
