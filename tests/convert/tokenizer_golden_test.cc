// Ids as the reference library gives them: tests/golden/tokenizers, made by make_tokenizers.py
// there.
#include <catch2/catch_test_macros.hpp>

#include "tests/convert/tokenizer_encoder.h"

namespace headroom {
namespace {

using convert::Json;
using test::Ids;

void CheckRows(const std::string& name, const text::Tokenizer& tokenizer, uint32_t always) {
  size_t compared = 0, tokens = 0;
  for (const Json& row : test::LoadJson(test::GoldenFolder("tokenizers/" + name) + "/cases.json")) {
    const std::string text = row["text"].get<std::string>();
    for (const auto& [key, flags] : {std::pair("ids", 0u), std::pair("plain", text::kNoBegin)}) {
      INFO(name << " '" << text << "'");
      const Ids ids = test::Encode(tokenizer, text, flags | always);
      REQUIRE(ids == row[key].get<Ids>());
      tokens += ids.size();
    }
    // What the reference shows for the ids is what we decode: byte for byte unless bytes of the
    // text are missing from the vocabulary.
    if (row.contains("decoded")) {
      INFO(name << " '" << text << "'");
      REQUIRE(test::Decode(tokenizer, row["plain"].get<Ids>()) ==
              row["decoded"].get<std::string>());
    }
    ++compared;
  }
  CHECK(compared > 100);
  CHECK(tokens > 5000);
}

void CheckCase(const std::string& name, uint32_t vocabulary = 600) {
  const std::string file = test::GoldenFolder("tokenizers/" + name) + "/tokenizer.json";
  const test::TokenizerEncoder encoder(
      convert::ParseTokenizer(test::LoadJson(file), vocabulary, name));
  REQUIRE(encoder.tokenizer->vocabulary() == vocabulary);
  CheckRows(name, *encoder.tokenizer, 0);
}

// SentencePiece reads no special token out of a text.
void CheckModel(const std::string& name, uint32_t vocabulary) {
  const std::string file = test::GoldenFolder("tokenizers/" + name) + "/tokenizer.model";
  auto model = convert::ParseSentencePieceModel(test::ReadText(file), name);
  INFO(model.status().message());
  REQUIRE(model.ok());
  REQUIRE(model.value().pieces.size() == vocabulary);
  REQUIRE(convert::ApplyTokenizerConfig(Json::object(), model.value()).ok());
  const test::TokenizerEncoder encoder(convert::MakeTokenizer(model.value(), vocabulary, name));
  CheckRows(name, *encoder.tokenizer, text::kNoSpecial);
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

TEST_CASE("ids equal the reference: added tokens of all kinds", "[convert][tokenizer]") {
  CheckCase("added");
}
TEST_CASE("ids equal the reference: steps of a normaliser, tokens that stand alone",
          "[convert][tokenizer]") {
  CheckCase("normaliser");
}
TEST_CASE("ids equal the reference: what matches goes with its neighbours",
          "[convert][tokenizer]") {
  CheckCase("cuts");
}
TEST_CASE("ids equal the reference: what matches is left out", "[convert][tokenizer]") {
  CheckCase("cuts-removed");
}
TEST_CASE("ids and texts equal the reference: unigram behind a charsmap and words",
          "[convert][tokenizer]") {
  CheckCase("unigram-charsmap", 400);
}
TEST_CASE("ids and texts equal the reference: BPE with unknown characters",
          "[convert][tokenizer]") {
  CheckCase("bpe-unknown", 600);
}
TEST_CASE("ids and texts equal SentencePiece's: unigram behind its normaliser",
          "[convert][tokenizer]") {
  CheckModel("model-unigram-nfkc", 320);
}
TEST_CASE("ids and texts equal SentencePiece's: BPE with unknown characters",
          "[convert][tokenizer]") {
  CheckModel("model-bpe-unknown", 400);
}
TEST_CASE("ids equal the reference: normal form D", "[convert][tokenizer]") { CheckCase("nfd"); }
TEST_CASE("ids equal the reference: normal form KC", "[convert][tokenizer]") { CheckCase("nfkc"); }

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

TEST_CASE("ids and texts equal SentencePiece's: BPE", "[convert][tokenizer]") {
  CheckModel("model-bpe", 600);
}
TEST_CASE("ids and texts equal SentencePiece's: BPE, symbols of the user, no prefix",
          "[convert][tokenizer]") {
  CheckModel("model-bpe-unprefixed", 640);
}
TEST_CASE("ids and texts equal SentencePiece's: unigram", "[convert][tokenizer]") {
  CheckModel("model-unigram", 260);
}
TEST_CASE("ids and texts equal SentencePiece's: unigram with byte fallback",
          "[convert][tokenizer]") {
  CheckModel("model-unigram-bytes", 540);
}

}  // namespace
}  // namespace headroom
