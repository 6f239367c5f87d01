// Ids as the reference library gives them: tests/golden/tokenizers, made by make_tokenizers.py
// there.
#include <catch2/catch_test_macros.hpp>

#include "convert/json_file.h"
#include "convert/tokenizer_json.h"
#include "tests/convert/fixture.h"
#include "tests/text/described_spec.h"
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

// What the reference shows for the ids, which is what we decode: byte for byte unless bytes of the
// text are missing from the vocabulary.
void CheckText(const text::Tokenizer& tokenizer, const Ids& ids, const std::string& expected) {
  std::string text(expected.size() + 16, '\0');
  size_t bytes = 0;
  REQUIRE(tokenizer.Decode(ids, text, &bytes).ok());
  text.resize(bytes);
  REQUIRE(text == expected);
}

void CheckCase(const std::string& name, uint32_t vocabulary = 600) {
  const std::string folder = test::GoldenFolder("tokenizers/" + name);
  auto parsed = convert::ParseTokenizer(Load(folder + "/tokenizer.json"), vocabulary, name);
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  REQUIRE(parsed.value().tokenizer.tokens.size() == vocabulary);
  test::OwnedSpec owned;
  test::FillSpec(parsed.value().tokenizer, owned);
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
    if (row.contains("decoded")) {
      INFO(name << " '" << text << "'");
      CheckText(*tokenizer.value(), row["plain"].get<Ids>(), row["decoded"].get<std::string>());
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

TEST_CASE("ids and texts equal the reference: Llama 2", "[convert][tokenizer]") {
  CheckCase("llama2", 800);
}
TEST_CASE("ids and texts equal the reference: Llama 2, special tokens matched in normalised text",
          "[convert][tokenizer]") {
  CheckCase("llama2-normalised", 800);
}
TEST_CASE("ids and texts equal the reference: Llama 2, Metaspace", "[convert][tokenizer]") {
  CheckCase("llama2-metaspace", 800);
}
TEST_CASE("ids and texts equal the reference: Gemma", "[convert][tokenizer]") {
  CheckCase("gemma", 800);
}
TEST_CASE("ids and texts equal the reference: unigram", "[convert][tokenizer]") {
  CheckCase("unigram", 400);
}
TEST_CASE("ids and texts equal the reference: unigram with byte fallback", "[convert][tokenizer]") {
  CheckCase("unigram-bytes", 700);
}

}  // namespace
}  // namespace headroom
