// Pieces with scores and types as SentencePiece keeps them, made into the tables of a model file.
#include "convert/sentencepiece_model.h"

#include <catch2/catch_test_macros.hpp>
#include <limits>
#include <map>
#include <random>

#include "tests/text/described_spec.h"
#include "text/tokenizer.h"

namespace headroom {
namespace {

using convert::Piece;
using convert::PieceType;
using convert::SentencePieceModel;

std::string ByteName(int byte) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">";
}

// <unk>, <s>, </s>, the bytes, and then `words` with falling scores.
SentencePieceModel Bpe(const std::vector<std::string>& words) {
  SentencePieceModel model;
  model.kind = SentencePieceModel::Kind::kBpe;
  model.byte_fallback = true;
  model.remove_extra_whitespaces = false;
  model.pieces = {{"<unk>", 0.0f, PieceType::kUnknown},
                  {"<s>", 0.0f, PieceType::kControl},
                  {"</s>", 0.0f, PieceType::kControl}};
  for (int byte = 0; byte < 256; ++byte)
    model.pieces.push_back({ByteName(byte), 0.0f, PieceType::kByte});
  float score = 0.0f;
  for (const std::string& word : words) model.pieces.push_back({word, score -= 1.0f});
  return model;
}

Result<convert::ParsedTokenizer> Make(const SentencePieceModel& model, uint32_t vocabulary = 0) {
  return convert::MakeTokenizer(
      model, vocabulary ? vocabulary : static_cast<uint32_t>(model.pieces.size()), "test");
}

bool Refused(const SentencePieceModel& model, const std::string& part) {
  const auto made = Make(model);
  UNSCOPED_INFO((made.ok() ? "accepted" : made.status().message()));
  return !made.ok() && std::string(made.status().message()).find(part) != std::string::npos;
}

std::vector<int32_t> Encode(const SentencePieceModel& model, const std::string& text,
                            uint32_t flags = 0) {
  const auto made = Make(model);
  INFO(made.status().message());
  REQUIRE(made.ok());
  test::OwnedSpec owned;
  test::FillSpec(made.value().tokenizer, owned);
  auto tokenizer = text::Tokenizer::Create(owned.spec());
  INFO(tokenizer.status().message());
  REQUIRE(tokenizer.ok());
  std::vector<int32_t> ids(text.size() * 4 + 8);
  size_t count = 0;
  REQUIRE(tokenizer.value()->Encode(text, flags, ids, &count).ok());
  ids.resize(count);
  return ids;
}

// By its definition: of all neighbours that make a piece, those of the highest score, leftmost.
std::vector<int32_t> Oracle(const SentencePieceModel& model, const std::string& text) {
  std::map<std::string, int32_t> ids;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type == PieceType::kNormal) ids[model.pieces[id].text] = int32_t(id);
  }
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  for (;;) {
    size_t best = symbols.size();
    float score = -std::numeric_limits<float>::infinity();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ids.find(symbols[i] + symbols[i + 1]);
      if (found == ids.end() || model.pieces[found->second].score <= score) continue;
      best = i;
      score = model.pieces[found->second].score;
    }
    if (best == symbols.size()) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  std::vector<int32_t> out;
  for (const std::string& symbol : symbols) out.push_back(ids.at(symbol));
  return out;
}

TEST_CASE("pieces merge by the score of what they make", "[convert][tokenizer]") {
  SentencePieceModel model = Bpe(
      {"ab", "bc", "abc", "ca", "abca", "bcab", "aa", "aaa", "aab", "cab", "aaab", "a", "b", "c"});
  model.add_dummy_prefix = false;
  std::mt19937 rng(7);
  for (int i = 0; i < 500; ++i) {
    std::string text(1 + rng() % 40, 'a');
    for (char& c : text) c = "abc"[rng() % 3];
    INFO(text);
    CHECK(Encode(model, text) == Oracle(model, text));
  }
}

TEST_CASE("types of pieces decide what text can make", "[convert][tokenizer]") {
  SentencePieceModel model = Bpe({"\u2581a", "ab", "\u2581", "a", "b", "<", "s", ">"});
  model.begin_token = 1;
  model.add_begin = true;
  model.pieces.push_back({"bb", 0.0f, PieceType::kUserDefined});
  model.pieces.push_back({"[PAD]", 0.0f, PieceType::kUnused});
  const int32_t word = 259;
  CHECK(Encode(model, "a") == std::vector<int32_t>{1, word});
  CHECK(Encode(model, "abba") ==
        std::vector<int32_t>{1, word, static_cast<int32_t>(model.pieces.size()) - 2, word + 3});
  CHECK(Encode(model, "<s>") == std::vector<int32_t>{1, 1});
  CHECK(Encode(model, "<s>", text::kNoSpecial) ==
        std::vector<int32_t>{1, word + 2, word + 5, word + 6, word + 7});
  CHECK(Encode(model, "\u00e9") == std::vector<int32_t>{1, word + 2, 3 + 0xc3, 3 + 0xa9});
  const auto made = Make(model, 400);
  REQUIRE(made.ok());
  CHECK(made.value().tokenizer.tokens.size() == 400);
  CHECK(made.value().tokenizer.tokens[model.pieces.size() - 1].empty());
}

TEST_CASE("a unigram vocabulary takes what an unknown character costs from normal pieces",
          "[convert][tokenizer]") {
  SentencePieceModel model;
  model.remove_extra_whitespaces = model.add_dummy_prefix = false;
  model.pieces = {{"<unk>", 0.0f, PieceType::kUnknown},
                  {"<s>", -99.0f, PieceType::kControl},
                  {"a", -2.0f},
                  {"ab", -3.0f},
                  {"b", -9.0f},
                  {"old", -50.0f, PieceType::kUnused}};
  const auto made = Make(model);
  REQUIRE(made.ok());
  CHECK(made.value().tokenizer.scores == std::vector<double>{-9, -9, -2, -3, -9, -9});
  CHECK(Encode(model, "abaxb") == std::vector<int32_t>{3, 2, 0, 4});
}

TEST_CASE("vocabularies that contradict themselves are refused by what is wrong",
          "[convert][tokenizer]") {
  const SentencePieceModel good = Bpe({"ab", "a", "b"});
  REQUIRE(Make(good).ok());
  const auto with = [&](auto change) {
    SentencePieceModel model = good;
    change(model);
    return model;
  };
  using Model = SentencePieceModel;
  CHECK(Refused(with([](Model& m) { m.pieces.clear(); }), "no pieces"));
  CHECK(Refused(with([](Model& m) { m.pieces[259].text.clear(); }), "piece 259 is empty"));
  CHECK(Refused(with([](Model& m) { m.pieces[260].text = "b"; }), "two pieces read as"));
  CHECK(Refused(with([](Model& m) { m.pieces[260].score = NAN; }), "score of piece 260"));
  CHECK(Refused(with([](Model& m) { m.pieces[260].text = "a "; }), "a space beside a sign"));
  CHECK(Refused(with([](Model& m) { m.pieces[260].type = PieceType(9); }), "has type 9"));
  CHECK(Refused(with([](Model& m) { m.pieces[3].text = "<0x-1>"; }), "piece 3 \"<0x-1>\""));
  CHECK(Refused(with([](Model& m) { m.pieces[3].type = PieceType::kControl; }), "255 byte"));
  CHECK(Refused(with([](Model& m) { m.pieces[1].type = PieceType::kUnknown; }), "second unknown"));
  CHECK(Refused(with([](Model& m) { m.byte_fallback = false; }), "is a byte, without"));
  CHECK(Refused(with([](Model& m) { m.begin_token = 262; }), "begin token 262"));
  CHECK(Refused(with([](Model& m) { m.add_begin = true; }), "begin token -1"));
  CHECK(Refused(with([](Model& m) {
                  m.remove_extra_whitespaces = true;
                  m.pieces[260].type = PieceType::kUserDefined;
                }),
                "normaliser beside pieces of the user"));
  CHECK(Refused(with([](Model& m) { m.whitespace_as_suffix = true; }), "whitespace_as_suffix"));
  CHECK(Refused(with([](Model& m) { m.pieces[259].type = PieceType::kUnused; }), "pass through"));
  const auto many = Make(good, 100);
  REQUIRE_FALSE(many.ok());
  CHECK(many.status().code() == StatusCode::kCorrupt);
}

TEST_CASE("pieces too long to be cut in bounded time are refused", "[convert][tokenizer]") {
  CHECK(Refused(Bpe({"a", std::string(20'000, 'a')}), "too long to be cut"));
  std::vector<std::string> words = {"a"};
  for (size_t bytes = 2; bytes <= 600; ++bytes) words.push_back(std::string(bytes, 'a'));
  const auto made = Make(Bpe(words));  // every cut of every piece is a merge
  REQUIRE(made.ok());
  CHECK(made.value().tokenizer.merges.size() == 599 * 600 / 2);
}

TEST_CASE("pieces that share a score are spoken of", "[convert][tokenizer]") {
  SentencePieceModel model = Bpe({"ab", "bc", "a", "b", "c"});
  REQUIRE(Make(model).value().notes.empty());
  model.pieces[260].score = model.pieces[259].score;
  REQUIRE(Make(model).value().notes.size() == 1);
}

}  // namespace
}  // namespace headroom
