// What tokenizer.json may say, and what is refused by name.
#include "convert/tokenizer_json.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/convert/fixture.h"

namespace headroom {
namespace {

using convert::ParsedTokenizer;

// \u0120 is the glyph of a space, \u010a of a line feed.
const std::string kBase =
    R"({"added_tokens":[{"id":6,"content":"<e>","special":true}],"normalizer":null,)"
    R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"post_processor":null,)"
    R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"\u0120":2,)"
    R"("\u010a":3,"ab":4,"\u0120ab":5},"merges":["a b","\u0120 ab"]}})";

Result<ParsedTokenizer> Parse(const std::string& text, uint32_t vocabulary = 8) {
  auto json = convert::ParseJson(text, "test");
  INFO(json.status().message());
  REQUIRE(json.ok());
  return convert::ParseTokenizer(json.value(), vocabulary, "tokenizer.json");
}

std::string Refused(const std::string& from, const std::string& to) {
  const auto parsed = Parse(test::Replaced(kBase, from, to));
  REQUIRE_FALSE(parsed.ok());
  return parsed.status().message();
}

bool Says(const std::string& message, const std::string& part) {
  UNSCOPED_INFO(message);
  return message.find(part) != std::string::npos;
}

TEST_CASE("glyphs become bytes, merges ids, holes empty tokens", "[convert][tokenizer]") {
  const auto parsed = Parse(kBase);
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  const auto& t = parsed.value().tokenizer;
  CHECK(t.tokens == std::vector<std::string>{"a", "b", " ", "\n", "ab", " ab", "<e>", ""});
  CHECK(t.merges == std::vector<std::pair<uint32_t, uint32_t>>{{0, 1}, {2, 4}});
  CHECK(t.special_tokens == std::vector<uint32_t>{6});
  CHECK(t.patterns.size() == 1);
  CHECK_FALSE(t.add_begin);
}

TEST_CASE("merges may be pairs, and white space in patterns is spelled out",
          "[convert][tokenizer]") {
  const auto pairs =
      Parse(test::Replaced(kBase, R"("a b","\u0120 ab")", R"(["a","b"],["\u0120","ab"])"));
  REQUIRE(pairs.ok());
  CHECK(pairs.value().tokenizer.merges.size() == 2);
  const auto split = Parse(test::Replaced(
      kBase, R"({"type":"ByteLevel","add_prefix_space":false})",
      R"({"type":"Split","pattern":{"Regex":"[^\\s\\]]\\S|\\s+"},"behavior":"Isolated"})"));
  REQUIRE(split.ok());
  CHECK(split.value().tokenizer.patterns[0] ==
        R"([^\t-\r\x{20}\x{85}\p{Z}\]][^\t-\r\x{20}\x{85}\p{Z}]|[\t-\r\x{20}\x{85}\p{Z}]+)");
}

TEST_CASE("a template's first token becomes the begin token", "[convert][tokenizer]") {
  const std::string special = R"("special_tokens":{"<e>":{"id":"<e>","ids":[6],"tokens":["<e>"]}})";
  const std::string first = R"({"SpecialToken":{"id":"<e>","type_id":0}})";
  const std::string text = R"({"Sequence":{"id":"A","type_id":0}})";
  const auto with = [&](const std::string& single) {
    return Parse(test::Replaced(kBase, R"("post_processor":null)",
                                R"("post_processor":{"type":"Sequence","processors":[{"type":)"
                                R"("ByteLevel"},{"type":"TemplateProcessing","single":[)" +
                                    single + "]," + special + "}]}"));
  };
  const auto begin = with(first + "," + text);
  REQUIRE(begin.ok());
  CHECK(begin.value().tokenizer.add_begin);
  CHECK(begin.value().tokenizer.begin_token == 6);
  CHECK(Says(with(text + "," + first).status().message(), "behind the text"));
  CHECK(Says(with(first + "," + first + "," + text).status().message(), "behind the text"));
}

TEST_CASE("a normaliser that is a Unicode normal form is kept, one of them",
          "[convert][tokenizer]") {
  const auto with = [](const std::string& normalizer) {
    return Parse(test::Replaced(kBase, R"("normalizer":null)", R"("normalizer":)" + normalizer));
  };
  const auto parsed = with(R"({"type":"NFC"})");
  REQUIRE(parsed.ok());
  CHECK(parsed.value().notes.empty());
  CHECK(parsed.value().tokenizer.normal_form == model::NormalForm::kNfc);
  const auto listed = with(R"({"type":"Sequence","normalizers":[{"type":"NFKD"}]})");
  REQUIRE(listed.ok());
  CHECK(listed.value().tokenizer.normal_form == model::NormalForm::kNfkd);
  const auto both = with(R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"NFKC"}]})");
  CHECK(Says(both.status().message(), "second normal form \"NFKC\""));
}

TEST_CASE("parts that would change ids are refused by name", "[convert][tokenizer]") {
  const std::string byte_level = R"({"type":"ByteLevel","add_prefix_space":false})";
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"WordPiece")"), "model \"WordPiece\""));
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"Unigram")"), "pre_tokenizer \"ByteLevel\""));
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"BPE","dropout":0.1)"), "dropout"));
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"BPE","end_of_word_suffix":"</w>")"),
             "end_of_word_suffix"));
  CHECK(Says(Refused(R"("normalizer":null)", R"("normalizer":{"type":"Lowercase"})"), "Lowercase"));
  CHECK(Says(Refused(byte_level, R"({"type":"Metaspace"})"), "Metaspace"));
  CHECK(Says(Refused(byte_level, R"({"type":"Sequence","pretokenizers":[)" + byte_level +
                                     R"(,{"type":"Digits"}]})"),
             "after ByteLevel"));
  CHECK(Says(Refused(byte_level, R"({"type":"Sequence","pretokenizers":[{"type":"Digits"},)"
                                 R"({"type":"ByteLevel","add_prefix_space":true}]})"),
             "add_prefix_space"));
  CHECK(Says(Refused(byte_level, R"({"type":"Split","pattern":{"Regex":"a"},"behavior":)"
                                 R"("MergedWithNext"})"),
             "MergedWithNext"));
  CHECK(Says(Refused(byte_level, R"({"type":"Split","pattern":{"String":" "},"behavior":)"
                                 R"("Isolated"})"),
             "String"));
  for (const char* pattern : {"[[a]b]", "[a&&b]", R"(\\h+)", "a{1,3}+", "[]a]"}) {
    CHECK(Says(Refused(byte_level, std::string(R"({"type":"Split","pattern":{"Regex":")") +
                                       pattern + R"("},"behavior":"Isolated"})"),
               "split pattern"));
  }
  CHECK(Says(Refused(R"("post_processor":null)", R"("post_processor":{"type":"BertProcessing"})"),
             "BertProcessing"));
  CHECK(Says(Refused(R"("decoder":{"type":"ByteLevel"})", R"("decoder":{"type":"WordPiece"})"),
             "WordPiece"));
  CHECK(Says(Refused(R"("special":true)", R"("special":true,"lstrip":true)"), "lstrip"));
}

TEST_CASE("damaged tokenizers are refused by what is wrong", "[convert][tokenizer]") {
  CHECK(Says(Refused(R"("id":6)", R"("id":8)"), "no id below 8"));
  CHECK(Says(Refused(R"("id":6)", R"("id":-1)"), "no id below 8"));
  CHECK(Says(Refused(R"("ab":4)", R"("ab":1)"), "two tokens with id 1"));
  CHECK(Says(Refused(R"("ab":4)", R"("\u4e00":4)"), "not byte-level"));
  CHECK(Says(Refused(R"("a b")", R"("a z")"), "merge 0"));
  CHECK(Says(Refused(R"("a b")", R"("ab")"), "merge 0"));
  CHECK(Says(Refused(R"("a b")", R"(7)"), "merge 0"));
  CHECK(Says(Refused(R"("content":"<e>")", R"("content":"")"), "empty"));
  CHECK(Says(Parse("[]").status().message(), "no object"));
  CHECK(Says(Parse("{}").status().message(), "lacks \"model\""));
  CHECK(Says(Parse(kBase, 3).status().message(), "no id below 3"));
}

}  // namespace
}  // namespace headroom
