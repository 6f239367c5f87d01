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
  REQUIRE(t.merges.size() == 2);
  CHECK((t.merges[0].left == 0 && t.merges[0].right == 1 && t.merges[0].result == 4));
  CHECK((t.merges[1].left == 2 && t.merges[1].right == 4 && t.merges[1].result == 5));
  CHECK(t.special_tokens == std::vector<uint32_t>{6});
  CHECK(t.splits.size() == 1);
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
      R"({"type":"Sequence","pretokenizers":[)"
      R"({"type":"Split","pattern":{"Regex":"[^\\s\\]]\\S|\\s+"},"behavior":"Isolated"},)"
      R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})"));
  REQUIRE(split.ok());
  CHECK(split.value().tokenizer.splits[0].pattern ==
        R"([^\t-\r\x{20}\x{85}\p{Z}\]][^\t-\r\x{20}\x{85}\p{Z}]|[\t-\r\x{20}\x{85}\p{Z}]+)");
}

TEST_CASE("a BPE of characters is not taken for one of bytes", "[convert][tokenizer]") {
  const auto characters =
      Parse(test::Replaced(kBase, R"({"type":"ByteLevel","add_prefix_space":false})", "null"));
  CHECK(characters.status().code() == StatusCode::kUnsupported);
  CHECK(std::string(characters.status().message()).find("ByteLevel") != std::string::npos);
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

TEST_CASE("normalisers that are Unicode normal forms are kept in their order",
          "[convert][tokenizer]") {
  const auto with = [](const std::string& normalizer) {
    return Parse(test::Replaced(kBase, R"("normalizer":null)", R"("normalizer":)" + normalizer));
  };
  const auto parsed = with(R"({"type":"NFC"})");
  REQUIRE(parsed.ok());
  CHECK(parsed.value().notes.empty());
  REQUIRE(parsed.value().tokenizer.normal_steps.size() == 1);
  CHECK(parsed.value().tokenizer.normal_steps[0].step.form == model::NormalForm::kNfc);
  const auto listed = with(R"({"type":"Sequence","normalizers":[{"type":"NFKD"}]})");
  REQUIRE(listed.ok());
  REQUIRE(listed.value().tokenizer.normal_steps.size() == 1);
  CHECK(listed.value().tokenizer.normal_steps[0].step.form == model::NormalForm::kNfkd);
  const auto both = with(R"({"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"NFKC"}]})");
  REQUIRE(both.ok());
  REQUIRE(both.value().tokenizer.normal_steps.size() == 2);
  CHECK(both.value().tokenizer.normal_steps[1].step.form == model::NormalForm::kNfkc);
}

TEST_CASE("parts that would change ids are refused by name", "[convert][tokenizer]") {
  const std::string byte_level = R"({"type":"ByteLevel","add_prefix_space":false})";
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"WordPiece")"), "model \"WordPiece\""));
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"Unigram")"), "pre_tokenizer \"ByteLevel\""));
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"BPE","dropout":0.1)"), "dropout"));
  CHECK(Says(Refused(R"("type":"BPE")", R"("type":"BPE","end_of_word_suffix":"</w>")"),
             "end_of_word_suffix"));
  CHECK(Says(Refused(R"("normalizer":null)", R"("normalizer":{"type":"BertNormalizer"})"),
             "BertNormalizer"));
  CHECK(Says(Refused(byte_level, R"({"type":"Metaspace"})"), "Metaspace"));
  CHECK(Says(Refused(byte_level, R"({"type":"Sequence","pretokenizers":[)" + byte_level +
                                     R"(,{"type":"Digits"}]})"),
             "after ByteLevel"));
  CHECK(Says(Refused(byte_level, R"({"type":"Sequence","pretokenizers":[{"type":"Digits"},)"
                                 R"({"type":"ByteLevel","add_prefix_space":true}]})"),
             "add_prefix_space"));
  CHECK(Says(Refused(byte_level, R"({"type":"Split","pattern":{"Regex":"a"},"behavior":"Kept"})"),
             "behavior \"Kept\""));
  CHECK(Says(Refused(byte_level, R"({"type":"Split","behavior":"Isolated"})"), "Split pattern"));
  CHECK(Says(Refused(byte_level, R"({"type":"UnicodeScripts"})"), "UnicodeScripts"));
  for (const char* pattern :
       {"[[a]b]", "[a&&b]", R"(\\h+)", "a{1,3}+", "[]a]", R"(\\bx)", R"([\\W])"}) {
    CHECK(Says(Refused(byte_level, std::string(R"({"type":"Split","pattern":{"Regex":")") +
                                       pattern + R"("},"behavior":"Isolated"})"),
               "Split pattern"));
    CHECK(Says(Refused(R"("normalizer":null)",
                       std::string(R"("normalizer":{"type":"Replace","pattern":{"Regex":")") +
                           pattern + R"("},"content":""})"),
               "Replace pattern"));
  }
  const std::string long_text(65, 'x');
  CHECK(Says(Refused(R"("normalizer":null)",
                     R"("normalizer":{"type":"Prepend","prepend":")" + long_text + "\"}"),
             "Prepend text"));
  CHECK(Says(Refused(R"("normalizer":null)",
                     R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"*"})"),
             "no base 64"));
  CHECK(Says(Refused(R"("post_processor":null)", R"("post_processor":{"type":"BertProcessing"})"),
             "BertProcessing"));
  CHECK(Says(Refused(R"("decoder":{"type":"ByteLevel"})", R"("decoder":{"type":"WordPiece"})"),
             "WordPiece"));
}

TEST_CASE("tokens that are no glyphs are shown and never made", "[convert][tokenizer]") {
  // Cohere's files: the mark as itself, and as its bytes' glyphs.
  const std::string marks =
      test::Replaced(kBase, R"("ab":4)", R"("\u2122":7,"\u00e2\u0126\u00a2":8,"ab":4)");
  const auto parsed = Parse(test::Replaced(marks, R"(["a b",)", R"(["a \u2122","a b",)"), 16);
  CHECK(Says(parsed.status().message(), "merge 0"));
  const auto sound = Parse(marks, 16);
  INFO(sound.status().message());
  REQUIRE(sound.ok());
  CHECK(sound.value().tokenizer.tokens[7] == "\u2122");
  CHECK(sound.value().tokenizer.tokens[8] == "\u2122");
  CHECK(sound.value().tokenizer.merges.size() == 2);
  // A merge with such a token is dropped: nothing makes its half.
  const auto merged =
      Parse(test::Replaced(test::Replaced(marks, R"("ab":4)", R"("a\u2122":9,"ab":4)"), R"("a b",)",
                           R"("a \u2122","a b",)"),
            16);
  INFO(merged.status().message());
  REQUIRE(merged.ok());
  CHECK(merged.value().tokenizer.merges.size() == 2);
  CHECK(Says(
      Parse(test::Replaced(marks, R"("type":"BPE")", R"("type":"BPE","ignore_merges":true)"), 16)
          .status()
          .message(),
      "not byte-level"));
}

TEST_CASE("what an added token may be made from follows from its flags and the vocabulary",
          "[convert][tokenizer]") {
  const auto with = [](const std::string& tokens) {
    auto parsed =
        Parse(test::Replaced(kBase, R"({"id":6,"content":"<e>","special":true})", tokens), 16);
    INFO(parsed.status().message());
    REQUIRE(parsed.ok());
    return parsed.Take().tokenizer;
  };
  const auto t = with(R"({"id":6,"content":"<e>"},{"id":8,"content":"  ","normalized":true},)"
                      R"({"id":9,"content":"\u00fc"},{"id":4,"content":"ab"},)"
                      R"({"id":10,"content":"<s>","special":true,"rstrip":true})");
  REQUIRE(t.added_tokens.size() == 5);
  CHECK(t.special_tokens.empty());  // none without a note: the first is normalised by default
  CHECK(t.added_tokens[0].token.special);
  CHECK((!t.added_tokens[1].token.special && t.added_tokens[1].token.normalised));
  CHECK_FALSE(t.added_tokens[2].token.special);
  CHECK_FALSE(t.added_tokens[3].token.special);
  CHECK((t.added_tokens[4].token.special && t.added_tokens[4].token.strip_right));
}

TEST_CASE("an added token that the model has no row for is left out with a note",
          "[convert][tokenizer]") {
  const auto parsed = Parse(test::Replaced(kBase, R"("id":6)", R"("id":8)"));
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  CHECK(parsed.value().tokenizer.special_tokens.empty());
  REQUIRE(parsed.value().notes.size() == 1);
  CHECK(Says(parsed.value().notes[0], "added token \"<e>\" is left out: id 8 >= vocabulary 8"));
}

TEST_CASE("tokens behind the text are left off where the configuration says so",
          "[convert][tokenizer]") {
  const std::string behind =
      R"("post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},)"
      R"({"SpecialToken":{"id":"<e>"}}],"special_tokens":{"<e>":{"ids":[6]}}})";
  auto json = convert::ParseJson(test::Replaced(kBase, R"("post_processor":null)", behind), "test");
  REQUIRE(json.ok());
  convert::Json tokenizer = json.Take();
  const auto refused = [&] {
    const auto parsed = convert::ParseTokenizer(tokenizer, 8, "tokenizer.json");
    return !parsed.ok() && Says(parsed.status().message(), "behind the text");
  };
  for (const char* config :
       {"{}", "[]", R"({"add_eos_token":null})", R"({"add_eos_token":true})"}) {
    convert::DropTokensBehind(convert::ParseJson(config, "test").value(), tokenizer);
    CHECK(refused());
  }
  convert::DropTokensBehind(convert::ParseJson(R"({"add_eos_token":false})", "test").value(),
                            tokenizer);
  CHECK_FALSE(refused());
  for (const char* odd :
       {"[]", "{}", R"({"post_processor":7})", R"({"post_processor":{"single":[]}})",
        R"({"post_processor":{"single":[7]}})"}) {
    convert::Json none = convert::ParseJson(odd, "test").Take();
    convert::DropTokensBehind(convert::ParseJson(R"({"add_eos_token":false})", "test").value(),
                              none);
    CHECK(none == convert::ParseJson(odd, "test").value());
  }
}

TEST_CASE("damaged tokenizers are refused by what is wrong", "[convert][tokenizer]") {
  CHECK(Says(Refused(R"("id":6)", R"("id":-1)"), "no id below 8"));
  CHECK(Says(Refused(R"("ab":4)", R"("ab":1)"), "two tokens with id 1"));
  CHECK(Says(Refused(R"("ab":4)", R"("ab":4," ":7)"), "not byte-level"));
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
