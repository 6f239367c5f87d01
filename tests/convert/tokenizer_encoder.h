// What the readers of tokenizer files make, as a tokenizer that encodes and decodes.
#pragma once

#include <memory>
#include <string>

#include "convert/json_file.h"
#include "convert/sentencepiece_file.h"
#include "convert/tokenizer_json.h"
#include "tests/convert/fixture.h"
#include "tests/text/described_spec.h"
#include "tests/text/tokenizing.h"

namespace headroom::test {

inline convert::Json LoadJson(const std::string& path) {
  auto json = convert::ReadJsonFile(path, 1u << 28);
  INFO(json.status().message());
  REQUIRE(json.ok());
  return json.Take();
}

struct TokenizerEncoder {
  OwnedSpec owned;
  std::unique_ptr<text::Tokenizer> tokenizer;
  explicit TokenizerEncoder(const Result<convert::ParsedTokenizer>& parsed) {
    INFO(parsed.status().message());
    REQUIRE(parsed.ok());
    FillSpec(parsed.value().tokenizer, owned);
    tokenizer = MakeTokenizer(owned);
  }
};

}  // namespace headroom::test
