// What tokenizer.json of SentencePiece's vocabularies may say, and what is refused by name.
#include <catch2/catch_test_macros.hpp>

#include "convert/tokenizer_json.h"
#include "tests/convert/fixture.h"

namespace headroom {
namespace {

Result<convert::ParsedTokenizer> Parse(const std::string& text, uint32_t vocabulary = 800) {
  auto json = convert::ParseJson(text, "test");
  INFO(json.status().message());
  REQUIRE(json.ok());
  return convert::ParseTokenizer(json.value(), vocabulary, "tokenizer.json");
}

// A file of the golden cases with something replaced.
struct File {
  std::string text;
  explicit File(const std::string& name)
      : text(test::ReadText(test::GoldenFolder("tokenizers/" + name) + "/tokenizer.json")) {}
  // Whether it is refused with all of `part` in the message.
  bool Refused(const std::string& from, const std::string& to, const std::string& part) const {
    const auto parsed = Parse(test::Replaced(text, from, to));
    UNSCOPED_INFO((parsed.ok() ? "accepted" : parsed.status().message()));
    return !parsed.ok() && std::string(parsed.status().message()).find(part) != std::string::npos;
  }
};

const std::string kReplace = R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"})";

TEST_CASE("a sign for a space is stored as a space", "[convert][tokenizer]") {
  const auto parsed = Parse(File("llama2").text);
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  const auto& t = parsed.value().tokenizer;
  CHECK(t.kind == model::TokenizerKind::kCharacterBpe);
  CHECK(t.space == "\u2581");
  CHECK(t.space_prefix == model::SpacePrefix::kAlways);
  CHECK(t.strip_spaces == 1);
  CHECK(t.unknown_token == 0);
  REQUIRE(t.byte_tokens.size() == 256);
  CHECK(t.tokens[t.byte_tokens[0x0a]] == "\n");
  for (const std::string& token : t.tokens) CHECK(token.find(t.space) == token.npos);
  CHECK(t.special_tokens == std::vector<uint32_t>{0, 1, 2});
  REQUIRE(t.added_tokens.size() == 2);
  CHECK(t.added_tokens[0].token.strip_right);
  CHECK(t.added_tokens[1].token.strip_left);
}

TEST_CASE("added tokens that text can also make are no special ones", "[convert][tokenizer]") {
  const auto parsed = Parse(File("gemma").text);
  REQUIRE(parsed.ok());
  const auto& t = parsed.value().tokenizer;
  CHECK(t.special_tokens.size() == 5);  // and one with a true space, which nothing else makes
  REQUIRE(t.added_tokens.size() == 5);
  CHECK(t.added_tokens[2].text == "\u2581\u2581");
  CHECK(t.tokens[t.added_tokens[2].token.token] == "  ");
  CHECK_FALSE(t.added_tokens[2].token.special);
}

TEST_CASE("a byte's token may be that of its character", "[convert][tokenizer]") {
  // As Gemma's files have it for the tabulator.
  const File gemma("gemma");
  const auto parsed = Parse(test::Replaced(gemma.text, R"("<0x01>":)", R"("\u0001":)"));
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  const auto& t = parsed.value().tokenizer;
  const auto whole = Parse(gemma.text);
  REQUIRE(whole.ok());
  CHECK(t.byte_tokens == whole.value().tokenizer.byte_tokens);
  CHECK(t.tokens[t.byte_tokens[1]] == "\x01");
  CHECK(gemma.Refused(R"("<0x01>":)", R"("<none>":)", "256 byte tokens only \"255\""));
  CHECK(File("unigram-bytes").Refused(R"("<0x01>")", R"("\u0001")", "256 byte tokens only"));
}

TEST_CASE("scores keep every digit", "[convert][tokenizer]") {
  const auto parsed = Parse(File("unigram-bytes").text);
  REQUIRE(parsed.ok());
  const auto& t = parsed.value().tokenizer;
  CHECK(t.kind == model::TokenizerKind::kUnigram);
  CHECK(t.scores.size() == 800);
  size_t wide = 0;
  for (const double score : t.scores)
    wide += static_cast<double>(static_cast<float>(score)) != score;
  CHECK(wide > 100);
}

TEST_CASE("normalizers and pre-tokenizers that are not understood are refused by name",
          "[convert][tokenizer]") {
  const File llama("llama2");
  CHECK(llama.Refused(kReplace, R"({"type":"NFKC"})", "normalizer \"NFKC\""));  // behind Prepend
  CHECK(llama.Refused(kReplace, R"({"type":"Precompiled","precompiled_charsmap":"AAAA"})",
                      "normalizer \"Precompiled\""));
  CHECK(llama.Refused(kReplace, R"({"type":"Replace","pattern":{"String":"a"},"content":"b"})",
                      "Replace of a"));
  CHECK(llama.Refused(kReplace, R"({"type":"Replace","pattern":{"Regex":" "},"content":"b"})",
                      "Replace of "));
  CHECK(llama.Refused(kReplace, R"({"type":"Replace","pattern":{"String":" "},"content":"_"})",
                      "sign for a space"));
  CHECK(llama.Refused(R"("pre_tokenizer":null)", R"("pre_tokenizer":{"type":"WhitespaceSplit"})",
                      "WhitespaceSplit"));
  CHECK(llama.Refused(R"("pre_tokenizer":null)",
                      R"("pre_tokenizer":{"type":"Metaspace","replacement":"\u2581"})",
                      "behind Prepend"));
  const File first("llama2-metaspace");
  CHECK(first.Refused(R"("prepend_scheme":"first")", R"("prepend_scheme":"last")", "last"));
  CHECK(first.Refused(R"("prepend_scheme":"first")",
                      R"("prepend_scheme":"first","add_prefix_space":false)", "add_prefix_space"));
}

TEST_CASE("decoders that do not undo the rest are refused", "[convert][tokenizer]") {
  const File llama("llama2");
  CHECK(llama.Refused(R"({"type":"ByteFallback"},)", "", "ByteFallback"));
  CHECK(llama.Refused(R"({"type":"Fuse"},)", "", "Strip before"));
  CHECK(llama.Refused(R"("start":1)", R"("start":2)", "Strip"));
  CHECK(llama.Refused(R"({"type":"Replace","pattern":{"String":"\u2581"},"content":" "},)", "",
                      "turn back"));
  CHECK(llama.Refused(R"({"type":"Fuse"})", R"({"type":"WordPiece"})", "WordPiece"));
}

TEST_CASE("damaged vocabularies of SentencePiece are refused by what is wrong",
          "[convert][tokenizer]") {
  const File llama("llama2");
  CHECK(llama.Refused(R"("<0x0A>":13)", R"("<0x0a>":13)", "byte tokens only \"255\""));
  CHECK(llama.Refused(R"("<0x0A>":13)", R"("<0x0A>":12)", "two tokens with id 12"));
  CHECK(llama.Refused(R"("<0x0A>":13)", R"("<0x0A>":800)", "no id below 800"));
  CHECK(llama.Refused(R"("<mask>":782)", R"("<mask>":782,"a b":799)", "a b"));
  CHECK(llama.Refused(R"("merges":[)", R"("merges":[["<0x0A>","<0x0A>"],)", "merge 0"));
  CHECK(llama.Refused(R"("dropout":null)", R"("dropout":0.5)", "dropout"));
  const File unigram("unigram");
  CHECK(unigram.Refused(R"(["<unk>",0.0])", R"(["<unk>"])", "token 0"));
  CHECK(unigram.Refused(R"(["<unk>",0.0])", R"(["<unk>","x"])", "token 0"));
  CHECK(unigram.Refused(R"("unk_id":0)", R"("unk_id":900)", "no id below 800"));
  CHECK(unigram.Refused(R"("byte_fallback":false)", R"("byte_fallback":true)", "ByteFallback"));
  CHECK(unigram.Refused(R"(["<s>",0.0])", R"(["</s>",0.0])", "two tokens that read"));
  const auto small = Parse(unigram.text, 100);
  REQUIRE_FALSE(small.ok());
  CHECK(std::string(small.status().message()).find("tokens > vocabulary 100") != std::string::npos);
}

}  // namespace
}  // namespace headroom
