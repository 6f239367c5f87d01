// The spec that the loader would lend from a file with this description.
#pragma once

#include <string>

#include "convert/hrm_writer.h"
#include "tests/text/owned_spec.h"

namespace headroom::test {

inline void FillSpec(const convert::TokenizerDescription& from, OwnedSpec& owned) {
  for (const std::string& token : from.tokens) owned.AddToken(token);
  for (const model::Merge& merge : from.merges) owned.AddMergeIds(merge);
  for (const auto& split : from.splits)
    owned.AddSplit(split.pattern, split.behaviour, split.invert);
  for (const auto& step : from.normal_steps)
    owned.AddStep(step.step, step.pattern, step.text, step.charsmap);
  for (const auto& added : from.added_tokens) owned.AddAdded(added.token, added.text);
  owned.SetSpace(from.space);
  owned.SetByteTokens(from.byte_tokens);
  owned.SetScores(from.scores);
  model::TokenizerSpec& spec = owned.spec();
  spec.kind = from.kind;
  spec.special_tokens = from.special_tokens;
  spec.begin_token = from.begin_token;
  spec.add_begin = from.add_begin;
  spec.add_prefix_space = from.add_prefix_space;
  spec.ignore_merges = from.ignore_merges;
  spec.fuse_unknown = from.fuse_unknown;
  spec.space_prefix = from.space_prefix;
  spec.strip_spaces = from.strip_spaces;
  spec.unknown_token = from.unknown_token;
}

}  // namespace headroom::test
