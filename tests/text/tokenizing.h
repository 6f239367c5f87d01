// Encoding and decoding in tests: all ids, all bytes, or the test fails.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/text/owned_spec.h"
#include "text/tokenizer.h"

namespace headroom::test {

using Ids = std::vector<int32_t>;

inline std::unique_ptr<text::Tokenizer> MakeTokenizer(OwnedSpec& owned) {
  auto made = text::Tokenizer::Create(owned.spec());
  INFO(made.status().message());
  REQUIRE(made.ok());
  return made.Take();
}

inline Ids Encode(const text::Tokenizer& tokenizer, std::string_view text, uint32_t flags = 0,
                  std::span<const text::TextRange> plain = {}) {
  size_t count = 0;
  const Status counted = tokenizer.Encode(text, flags, {}, &count, plain);
  INFO("'" << text << "' " << counted.message());
  REQUIRE(counted.code() == (count ? StatusCode::kBufferTooSmall : StatusCode::kOk));
  Ids ids(count, -7);
  REQUIRE(tokenizer.Encode(text, flags, ids, &count, plain).ok());
  REQUIRE(count == ids.size());
  return ids;
}

inline std::string Decode(const text::Tokenizer& tokenizer, const Ids& ids) {
  size_t bytes = 0;
  (void)tokenizer.Decode(ids, {}, &bytes);  // says how many there are
  std::string text(bytes, '\0');
  REQUIRE(tokenizer.Decode(ids, text, &bytes).ok());
  REQUIRE(bytes == text.size());
  return text;
}

}  // namespace headroom::test
