// Ids as the reference library gives them: tests/golden/tokenizers, made by make_tokenizers.py
// there.
#include <catch2/catch_test_macros.hpp>

#include "convert/json_file.h"
#include "convert/tokenizer_json.h"
#include "tests/convert/fixture.h"
#include "tests/text/owned_spec.h"
#include "text/tokenizer.h"

namespace headroom {
namespace {

using convert::Json;
using Ids = std::vector<int32_t>;

Json Load(const std::string& path) {
  auto json = convert::ReadJsonFile(path, 1u << 26);
  INFO(json.status().message());
  REQUIRE(json.ok());
  return json.Take();
}

// The description as the loader would lend it.
void Fill(const convert::TokenizerDescription& description, test::OwnedSpec& owned) {
  for (const std::string& token : description.tokens) owned.AddToken(token);
  for (const auto& [left, right] : description.merges) {
    owned.AddMergeIds(
        {left, right, owned.id(description.tokens[left] + description.tokens[right])});
  }
  for (const std::string& pattern : description.patterns) owned.AddPattern(pattern);
  owned.spec().special_tokens = description.special_tokens;
  owned.spec().begin_token = description.begin_token;
  owned.spec().add_begin = description.add_begin;
  owned.spec().add_prefix_space = description.add_prefix_space;
  owned.spec().ignore_merges = description.ignore_merges;
}

void CheckCase(const std::string& name) {
  const std::string folder = test::GoldenFolder("tokenizers/" + name);
  auto parsed = convert::ParseTokenizer(Load(folder + "/tokenizer.json"), 600, name);
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  REQUIRE(parsed.value().tokenizer.tokens.size() == 600);
  test::OwnedSpec owned;
  Fill(parsed.value().tokenizer, owned);
  auto tokenizer = text::Tokenizer::Create(owned.spec());
  INFO(tokenizer.status().message());
  REQUIRE(tokenizer.ok());
  size_t compared = 0, tokens = 0;
  for (const Json& row : Load(folder + "/cases.json")) {
    const std::string text = row["text"].get<std::string>();
    for (const auto& [key, flags] : {std::pair("ids", 0u), std::pair("plain", text::kNoBegin)}) {
      const Ids expected = row[key].get<Ids>();
      Ids ids(expected.size() + 4);
      size_t count = 0;
      const Status status = tokenizer.value()->Encode(text, flags, ids, &count);
      INFO(name << " '" << text << "' " << status.message());
      REQUIRE((status.ok() || status.code() == StatusCode::kBufferTooSmall));
      ids.resize(std::min(count, ids.size()));
      REQUIRE(ids == expected);
      tokens += count;
    }
    ++compared;
  }
  CHECK(compared > 100);
  CHECK(tokens > 5000);
}

TEST_CASE("ids equal the reference: GPT-2 splitting", "[convert][tokenizer]") { CheckCase("gpt2"); }
TEST_CASE("ids equal the reference: prefix space", "[convert][tokenizer]") {
  CheckCase("prefix-space");
}
TEST_CASE("ids equal the reference: Llama 3 splitting, whole words, begin token",
          "[convert][tokenizer]") {
  CheckCase("llama3");
}
TEST_CASE("ids equal the reference: Qwen 2 splitting", "[convert][tokenizer]") {
  CheckCase("qwen2");
}
TEST_CASE("ids equal the reference: single digits", "[convert][tokenizer]") { CheckCase("digits"); }

}  // namespace
}  // namespace headroom
