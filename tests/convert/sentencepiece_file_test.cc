// tokenizer.model as a protocol buffer that nobody has checked.
#include "convert/sentencepiece_file.h"

#include <catch2/catch_test_macros.hpp>

#include "tests/convert/fixture.h"

namespace headroom {
namespace {

using convert::PieceType;

// A field with a length, its number and the length below 128.
std::string Field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}
// A field with a number; those above 15 take two bytes for their tag.
std::string Number(int number, char value) {
  std::string tag(1, static_cast<char>((number << 3 & 0x7f) | (number > 15 ? 0x80 : 0)));
  if (number > 15) tag += static_cast<char>(number >> 4);
  return tag + value;
}
const std::string kScore("\x15\x00\x00\x00\xc0", 5);  // -2

std::string Piece(const std::string& text, char type) {
  return Field(1, Field(1, text) + kScore + Number(3, type));
}

Result<convert::SentencePieceModel> Parse(const std::string& file) {
  return convert::ParseSentencePieceModel(file, "tokenizer.model");
}

bool Refused(const std::string& file, const std::string& part) {
  const auto parsed = Parse(file);
  UNSCOPED_INFO((parsed.ok() ? "accepted" : parsed.status().message()));
  return !parsed.ok() && std::string(parsed.status().message()).find(part) != std::string::npos;
}

const std::string kPieces = Piece("<unk>", 2) + Piece("<s>", 3) + Field(1, Field(1, "a"));

TEST_CASE("pieces, options and defaults are read from tokenizer.model", "[convert][tokenizer]") {
  const auto plain = Parse(kPieces);
  REQUIRE(plain.ok());
  REQUIRE(plain.value().pieces.size() == 3);
  CHECK(plain.value().pieces[0].type == PieceType::kUnknown);
  CHECK(plain.value().pieces[0].score == -2.0f);
  CHECK(plain.value().pieces[2].text == "a");
  CHECK(plain.value().pieces[2].type == PieceType::kNormal);
  CHECK(plain.value().kind == convert::SentencePieceModel::Kind::kUnigram);
  CHECK(plain.value().add_dummy_prefix);
  CHECK(plain.value().remove_extra_whitespaces);
  CHECK(plain.value().escape_whitespaces);
  CHECK(plain.value().begin_token == 1);
  const auto full =
      Parse(Field(2, Number(3, 2) + Number(24, 1) + Number(35, 1) + Number(41, 2)) + kPieces +
            Field(3, Field(2, "map") + Number(3, 0) + Number(4, 0) + Number(5, 0)) +
            Field(4, "tests") + Field(5, Field(1, "name")));
  INFO(full.status().message());
  REQUIRE(full.ok());
  CHECK(full.value().kind == convert::SentencePieceModel::Kind::kBpe);
  CHECK(full.value().whitespace_as_suffix);
  CHECK(full.value().byte_fallback);
  CHECK(full.value().begin_token == 2);
  CHECK(full.value().precompiled_charsmap == "map");
  CHECK_FALSE(full.value().add_dummy_prefix);
  CHECK_FALSE(full.value().remove_extra_whitespaces);
  CHECK_FALSE(full.value().escape_whitespaces);
  CHECK(Parse(kPieces + Field(2, Number(41, 9))).value().begin_token == -1);
}

TEST_CASE("a tokenizer.model cut anywhere is no reason to fall", "[convert][tokenizer]") {
  const std::string whole =
      test::ReadText(test::GoldenFolder("tokenizers/model-unigram") + "/tokenizer.model");
  size_t refused = 0;
  for (size_t bytes = 0; bytes < whole.size(); bytes += 7)
    refused += !Parse(whole.substr(0, bytes)).ok();
  CHECK(refused > whole.size() / 14);  // a cut between fields leaves a shorter, sound file
}

TEST_CASE("damaged protocol buffers are refused by what is wrong", "[convert][tokenizer]") {
  CHECK(Refused("", "no pieces"));
  CHECK(Refused(std::string("\x0a\x7f", 2) + "short", "no protocol buffer"));
  CHECK(Refused("\x0a\xff\xff\xff\xff\x0f", "no protocol buffer"));                   // 4 GiB long
  CHECK(Refused("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "no protocol"));  // no varint
  CHECK(Refused(std::string("\x00", 1), "no protocol buffer"));                       // field 0
  CHECK(Refused("\x0e", "no protocol buffer"));                                       // wire type 6
  CHECK(Refused(Piece("a", 7), "piece 0 has type 7"));
  CHECK(Refused(Piece("a", 0), "piece 0 has type 0"));
  CHECK(Refused(Field(1, Field(1, "a") + std::string("\x15\x00", 2)), "no protocol buffer"));
  CHECK(Refused(kPieces + Field(2, Number(3, 4)), "model type 4"));
  CHECK(Refused(kPieces + Field(5, Field(2, "map")), "denormaliser"));
  CHECK(Parse(Field(1, Number(1, 5))).value().pieces[0].text.empty());  // a text that is a number
}

Status Apply(const std::string& text, convert::SentencePieceModel* out = nullptr) {
  auto model = Parse(kPieces).Take();
  const Status status =
      convert::ApplyTokenizerConfig(convert::ParseJson(text, "test").Take(), model);
  if (out) *out = model;
  return status;
}

TEST_CASE("tokenizer_config.json adds tokens behind the pieces and may leave out the begin token",
          "[convert][tokenizer]") {
  convert::SentencePieceModel model;
  REQUIRE(Apply("{}", &model).ok());
  CHECK(model.add_begin);
  REQUIRE(Apply(R"({"add_bos_token":false})", &model).ok());
  CHECK_FALSE(model.add_begin);
  REQUIRE(Apply(R"({"added_tokens_decoder":{"10":{"content":"x"},"9":{"content":"y"},
      "1":{"content":"<s>","special":true},"3":{"content":"<|end|>","special":true},
      "4":{"content":"t"},"5":{"content":"u"},"6":{"content":"v"},"7":{"content":"w"},
      "8":{"content":"z"}}})",
                &model)
              .ok());
  REQUIRE(model.pieces.size() == 11);
  CHECK(model.pieces[3].type == PieceType::kControl);
  CHECK(model.pieces[4].type == PieceType::kUserDefined);
  CHECK(model.pieces[10].text == "x");
}

TEST_CASE("what tokenizer_config.json says and is not followed is refused by name",
          "[convert][tokenizer]") {
  const auto refused = [](const std::string& text, const std::string& part) {
    const Status status = Apply(text);
    UNSCOPED_INFO(status.message());
    return !status.ok() && std::string(status.message()).find(part) != std::string::npos;
  };
  const auto added = [](const std::string& id, const std::string& rest) {
    return R"({"added_tokens_decoder":{")" + id + R"(":{)" + rest + "}}}";
  };
  CHECK(refused(R"({"add_eos_token":true})", "add_eos_token"));
  CHECK(refused(added("3", R"("content":"x","lstrip":true)"), "lstrip of x"));
  CHECK(refused(added("3", R"("content":"x","single_word":true)"), "single_word"));
  CHECK(refused(added("4", R"("content":"x")"), "gap before added token 4"));
  CHECK(refused(added("2", R"("content":"x")"), "another text of token 2"));
  CHECK(refused(added("-1", R"("content":"x")"), "id -1"));
  CHECK(refused(added("99999999999999999999", R"("content":"x")"), "id 9999"));
  CHECK(refused(added("3", R"("special":true)"), "without content"));
}

}  // namespace
}  // namespace headroom
