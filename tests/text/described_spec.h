// The spec that the loader would lend from a file with this description.
#pragma once

#include <string>

#include "convert/hrm_writer.h"
#include "tests/text/owned_spec.h"

namespace headroom::test {

inline void FillSpec(const convert::TokenizerDescription& from, OwnedSpec& owned) {
  for (const std::string& token : from.tokens) owned.AddToken(token);
  for (const model::Merge& merge : from.merges) owned.AddMergeIds(merge);
  for (const std::string& pattern : from.patterns) owned.AddPattern(pattern);
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
  spec.normal_form = from.normal_form;
  spec.space_prefix = from.space_prefix;
  spec.strip_spaces = from.strip_spaces;
  spec.unknown_token = from.unknown_token;
}

}  // namespace headroom::test
