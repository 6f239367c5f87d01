// Tokens that are matched verbatim in text, before anything else looks at it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/normaliser.h"
#include "text/prefix_table.h"

namespace headroom::text {

// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0, end = 0;
};

// Where special tokens may be matched: nowhere, or everywhere but in and across `plain` ranges.
struct SpecialRule {
  bool special = true;
  std::span<const TextRange> plain;

  bool Allows(size_t begin, size_t end) const {
    for (const TextRange& range : plain) {
      if (begin < range.end && end > range.begin) return false;
    }
    return special;
  }
};

// Finds special and added tokens; the leftmost one, and the longest where several begin. Holds
// copies of their texts. Immutable after Build, and not to be moved.
class SpecialMatcher {
 public:
  SpecialMatcher() = default;
  SpecialMatcher(const SpecialMatcher&) = delete;

  // `normaliser` picks the added tokens that are matched in normalised text, and brings theirs into
  // that form; nullptr those before, and special_tokens. kCorrupt: an id outside the vocabulary or
  // without bytes.
  Status Build(const model::TokenizerSpec& spec, const Normaliser* normaliser);

  struct Match {
    size_t begin = 0, end = 0;  // with the white space it takes along
    uint32_t id = 0;
  };
  // First match at or after `from`; false when there is none. Tokens that may be switched off are
  // passed over where `rule` does not allow them.
  bool Next(std::string_view text, size_t from, const SpecialRule& rule, Match* match) const;

  uint64_t table_bytes() const;

 private:
  struct Entry {
    uint32_t id;
    bool special, strip_left, strip_right, single_word;
  };
  Status Add(const model::TokenizerSpec& spec, std::string_view text, const Entry& entry,
             const Normaliser* normaliser);

  std::vector<Entry> entries_;
  std::vector<uint32_t> ends_;  // of entry i's text in bytes_
  std::string bytes_;
  PrefixTable table_;
};

}  // namespace headroom::text
