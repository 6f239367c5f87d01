// A TokenizerSpec with its own storage, for tests: what the loader would lend from a file.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "model/model.h"

namespace headroom::test {

class OwnedSpec {
 public:
  OwnedSpec() { spec_.kind = model::TokenizerKind::kByteBpe; }
  OwnedSpec(const OwnedSpec&) = delete;

  // Returns the id.
  uint32_t AddToken(const std::string& bytes) {
    bytes_ += bytes;
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
    ids_.emplace(bytes, static_cast<uint32_t>(ends_.size() - 1));
    return static_cast<uint32_t>(ends_.size() - 1);
  }
  void AddAllBytes() {
    for (int b = 0; b < 256; ++b) AddToken(std::string(1, static_cast<char>(b)));
  }
  // Makes the joined token too, unless it exists.
  void AddMerge(const std::string& left, const std::string& right) {
    if (!ids_.count(left + right)) AddToken(left + right);
    merges_.push_back({ids_.at(left), ids_.at(right), ids_.at(left + right)});
  }
  uint32_t AddSpecial(const std::string& bytes) {
    const uint32_t id = AddToken(bytes);
    spec_.special_tokens.push_back(id);
    return id;
  }
  void AddPattern(const std::string& pattern) { AddSplit(pattern); }
  void AddSplit(const std::string& pattern,
                model::SplitBehaviour behaviour = model::SplitBehaviour::kIsolated,
                bool invert = false) {
    spec_.splits.push_back({texts_.emplace_back(pattern), behaviour, invert});
  }
  void AddStep(model::NormalStep step, const std::string& pattern, const std::string& text,
               const std::string& charsmap = "") {
    step.pattern = texts_.emplace_back(pattern);
    step.text = texts_.emplace_back(text);
    step.charsmap = texts_.emplace_back(charsmap);
    spec_.normal_steps.push_back(step);
  }
  void AddForm(model::NormalForm form) {
    model::NormalStep step;
    step.form = form;
    AddStep(step, "", "");
  }
  void AddAdded(model::AddedToken token, const std::string& text) {
    added_.push_back(token);
    added_texts_.push_back(text);
  }
  void SetSpace(const std::string& sign) { space_ = sign; }
  void SetByteTokens(std::vector<uint32_t> ids) { byte_tokens_ = std::move(ids); }
  void SetScores(std::vector<double> scores) { scores_ = std::move(scores); }
  void AddMergeIds(model::Merge merge) { merges_.push_back(merge); }

  // Valid until the next Add.
  model::TokenizerSpec& spec() {
    spec_.tokens = model::TokenTable(ends_, bytes_.data());
    spec_.merges = merges_;
    for (size_t i = 0; i < added_.size(); ++i) added_[i].text = added_texts_[i];
    spec_.added_tokens = added_;
    spec_.space = space_;
    spec_.byte_tokens = byte_tokens_;
    spec_.double_scores = scores_;
    return spec_;
  }
  uint32_t id(const std::string& bytes) const { return ids_.at(bytes); }

 private:
  std::string bytes_;
  std::vector<uint32_t> ends_;
  std::map<std::string, uint32_t> ids_;
  std::vector<model::Merge> merges_;
  std::deque<std::string> texts_;
  std::vector<model::AddedToken> added_;
  std::deque<std::string> added_texts_;
  std::string space_;
  std::vector<uint32_t> byte_tokens_;
  std::vector<double> scores_;
  model::TokenizerSpec spec_;
};

}  // namespace headroom::test
