// Vocabularies of SentencePiece small enough to check by hand. Agreement with the reference library
// is in tests/convert/tokenizer_golden_test.cc.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <random>
#include <string>

#include "tests/text/tokenizing.h"
#include "text/text_stream.h"

namespace headroom {
namespace {

using test::Decode;
using test::Encode;
using test::Ids;
using test::OwnedSpec;
using text::Tokenizer;
constexpr const char* kSign = "\u2581";

// The tokens of all bytes take ids 0 to 255.
void AddByteTokens(OwnedSpec& owned) {
  std::vector<uint32_t> ids;
  owned.AddAllBytes();
  for (uint32_t byte = 0; byte < 256; ++byte) ids.push_back(byte);
  owned.SetByteTokens(ids);
}

// Characters a, b, é and space have tokens of their own; "ab", " a", " ab" and "é" pairs merge.
struct Characters {
  OwnedSpec owned;
  uint32_t a, b, e, space;
  Characters() {
    AddByteTokens(owned);
    owned.spec().kind = model::TokenizerKind::kCharacterBpe;
    a = owned.AddToken("a");
    b = owned.AddToken("b");
    e = owned.AddToken("\u00e9");
    space = owned.AddToken(" ");
    Merge(a, b, "ab");
    Merge(space, 260, " ab");
    Merge(e, e, "\u00e9\u00e9");
    owned.SetSpace(kSign);
  }
  void Merge(uint32_t left, uint32_t right, const char* joined) {
    owned.AddMergeIds({left, right, owned.AddToken(joined)});
  }
  int32_t id(const char* token) const { return static_cast<int32_t>(owned.id(token)); }
};

TEST_CASE("characters merge by rank, and those without a token become their bytes",
          "[text][sentencepiece]") {
  Characters c;
  const auto tokenizer = test::MakeTokenizer(c.owned);
  CHECK(Encode(*tokenizer, "ab") == Ids{260});
  CHECK(Encode(*tokenizer, "a ab") == Ids{256, 261});
  CHECK(Encode(*tokenizer, "\u00e9\u00e9\u00e9") == Ids{262, 258});
  CHECK(Encode(*tokenizer,
               "a\u5b88"
               "b") == Ids{256, 0xe5, 0xae, 0x88, 257});
  CHECK(Encode(*tokenizer, "\n") == Ids{'\n'});
}

TEST_CASE("broken UTF-8 becomes byte tokens and comes back", "[text][sentencepiece]") {
  Characters c;
  const auto tokenizer = test::MakeTokenizer(c.owned);
  CHECK(Encode(*tokenizer,
               "a\xff"
               "b\xc3") == Ids{256, 0xff, 257, 0xc3});
  std::mt19937 random(7);
  for (int n = 0; n < 300; ++n) {
    std::string text;
    for (int i = 0; i < 40; ++i) {
      text += random() % 3 ? std::string(1, "ab \xc3\xa9\xe5\xae\x88"[random() % 8])
                           : std::string(1, static_cast<char>(random()));
    }
    if (text.find(kSign) != text.npos) continue;  // becomes a space, as in the reference
    REQUIRE(Decode(*tokenizer, Encode(*tokenizer, text)) == text);
  }
}

TEST_CASE("the sign for a space is a space", "[text][sentencepiece]") {
  Characters c;
  const auto tokenizer = test::MakeTokenizer(c.owned);
  CHECK(Encode(*tokenizer,
               "a\u2581"
               "ab\u2581") == Encode(*tokenizer, "a ab "));
}

TEST_CASE("a space is put in front and not shown again", "[text][sentencepiece]") {
  Characters c;
  c.owned.AddSpecial("<s>");
  c.owned.spec().strip_spaces = 1;
  const int32_t special = c.id("<s>");
  SECTION("always, after special tokens too, and before a space") {
    c.owned.spec().space_prefix = model::SpacePrefix::kAlways;
    const auto tokenizer = test::MakeTokenizer(c.owned);
    CHECK(Encode(*tokenizer, "ab") == Ids{261});
    CHECK(Encode(*tokenizer, "ab<s>ab") == Ids{261, special, 261});
    CHECK(Encode(*tokenizer, " ab") == Ids{259, 261});
    CHECK(Encode(*tokenizer, "") == Ids{});
    CHECK(Decode(*tokenizer, Ids{261, 261}) == "ab ab");
    CHECK(Decode(*tokenizer, Ids{259, 261}) == " ab");
  }
  SECTION("only at the beginning of the input, unless there is one") {
    c.owned.spec().space_prefix = model::SpacePrefix::kFirst;
    const auto tokenizer = test::MakeTokenizer(c.owned);
    CHECK(Encode(*tokenizer, "ab<s>ab") == Ids{261, special, 260});
    CHECK(Encode(*tokenizer, "<s>ab") == Ids{special, 260});
    CHECK(Encode(*tokenizer, " ab") == Ids{261});
  }
}

TEST_CASE("generated text begins without the space, text that goes on keeps it",
          "[text][sentencepiece]") {
  Characters c;
  const int32_t special = static_cast<int32_t>(c.owned.AddSpecial("<s>"));
  c.owned.spec().strip_spaces = 1;
  const auto tokenizer = test::MakeTokenizer(c.owned);
  CHECK(tokenizer->TextBegins({}));
  CHECK(tokenizer->TextBegins(Ids{special}));
  CHECK_FALSE(tokenizer->TextBegins(Ids{special, 261}));
  CHECK(tokenizer->FirstTokenBytes(261) == "ab");
  CHECK(tokenizer->TokenBytes(261) == " ab");
}

TEST_CASE("byte tokens stream as whole characters", "[text][sentencepiece]") {
  Characters c;
  const auto tokenizer = test::MakeTokenizer(c.owned);
  text::TextStream stream;
  REQUIRE(stream.Start({}).ok());
  std::vector<std::string> pieces;
  const text::TextSink sink{[](void* user_data, const char* text, size_t bytes) {
                              static_cast<std::vector<std::string>*>(user_data)->emplace_back(
                                  text, bytes);
                              return true;
                            },
                            &pieces};
  for (const int32_t id : Encode(*tokenizer, "ab\U0001f6a2 ab"))
    (void)stream.Push(tokenizer->TokenBytes(id), sink);
  CHECK(pieces == std::vector<std::string>{"ab", "\U0001f6a2", " ab"});
}

TEST_CASE("added tokens take white space along, and match in normalised text where they say so",
          "[text][sentencepiece]") {
  Characters c;
  c.owned.spec().space_prefix = model::SpacePrefix::kAlways;
  const auto add = [&](const char* bytes, model::AddedToken token, const char* text) {
    token.token = c.owned.AddToken(bytes);
    c.owned.AddAdded(token, text);
    return static_cast<int32_t>(token.token);
  };
  const int32_t right = add("<r>", {0, {}, true, false, false, true}, "");
  const int32_t left = add("<l>", {0, {}, true, false, true, false}, "");
  const int32_t inside = add("<n>", {0, {}, true, true, false, false}, " <n>");
  const int32_t plain = add("<p>", {0, {}, false, false, false, false}, "");
  const auto tokenizer = test::MakeTokenizer(c.owned);
  CHECK(Encode(*tokenizer, "ab<r> \n\u3000ab") == Ids{261, right, 261});
  CHECK(Encode(*tokenizer, "ab \u00a0\t<l>ab") == Ids{261, left, 261});
  CHECK(Encode(*tokenizer, "<r>  <l>") == Ids{right, left});
  CHECK(Encode(*tokenizer, "<n>ab") == Ids{inside, 260});
  CHECK(Encode(*tokenizer, "ab <n>") == Ids{261, inside});
  CHECK(Encode(*tokenizer, "ab<n>") == Ids{261, '<', 'n', '>'});
  CHECK(Encode(*tokenizer, "<n><p>", text::kNoSpecial) == Ids{259, '<', 'n', '>', plain});
}

// Scores of a vocabulary {a, b, ab, ba, aba} and the unknown token, by id.
struct Scored {
  OwnedSpec owned;
  std::vector<double> scores;
  uint32_t Add(const std::string& bytes, double score) {
    scores.push_back(score);
    return owned.AddToken(bytes);
  }
  Scored() { owned.spec().kind = model::TokenizerKind::kUnigram; }
  std::unique_ptr<Tokenizer> Ready() {
    owned.SetScores(scores);
    return test::MakeTokenizer(owned);
  }
};

TEST_CASE("the best of all cuts wins, as by trying all", "[text][sentencepiece]") {
  std::mt19937 random(13);
  for (int round = 0; round < 40; ++round) {
    Scored s;
    for (const char* token : {"a", "b", "c", "ab", "bc", "abc", "aa", "aaa", "cab", "bcab"}) {
      if (random() % 4) s.Add(token, -1.0 - static_cast<double>(random() % 1000) / 100.0);
    }
    s.owned.spec().unknown_token = static_cast<int32_t>(s.Add("<unk>", 0.0));
    s.owned.spec().special_tokens = {static_cast<uint32_t>(s.owned.spec().unknown_token)};
    const auto tokenizer = s.Ready();
    const double unknown = *std::min_element(s.scores.begin(), s.scores.end()) - 10.0;
    const auto& tokens = s.owned.spec().tokens;
    for (int n = 0; n < 25; ++n) {
      std::string word(1 + random() % 9, 'a');
      for (char& letter : word) letter = static_cast<char>('a' + random() % 3);
      double best = -1e30;
      for (uint32_t cuts = 0; cuts < 1u << (word.size() - 1); ++cuts) {
        double score = 0.0;
        for (size_t begin = 0, end = 1; end <= word.size(); ++end) {
          if (end < word.size() && !(cuts >> (end - 1) & 1)) continue;
          const std::string part = word.substr(begin, end - begin);
          double part_score = part.size() == 1 ? unknown : -1e30;
          for (uint32_t id = 0; id + 1 < tokens.size(); ++id) {
            if (tokens[id] == part) part_score = s.scores[id];
          }
          score += part_score;
          begin = end;
        }
        best = std::max(best, score);
      }
      double chosen = 0.0;
      std::string said;
      bool fused = false;
      for (const int32_t id : Encode(*tokenizer, word)) {
        fused |= id == s.owned.spec().unknown_token;
        chosen += s.scores[static_cast<size_t>(id)];
        said += tokens[static_cast<size_t>(id)];
      }
      INFO("round " << round << " word " << word);
      if (fused) continue;  // its share of the score is not in the ids
      REQUIRE(said == word);
      REQUIRE(std::abs(chosen - best) < 1e-9);
    }
  }
}

TEST_CASE("unknown characters make one unknown token, or their bytes, or an error",
          "[text][sentencepiece]") {
  Scored s;
  const int32_t a = static_cast<int32_t>(s.Add("a", -1.0));
  const int32_t unknown = static_cast<int32_t>(s.Add("<unk>", 0.0));
  s.owned.spec().special_tokens = {static_cast<uint32_t>(unknown)};
  SECTION("unknown") {
    s.owned.spec().unknown_token = unknown;
    CHECK(Encode(*s.Ready(),
                 "a\u5b88\xff\u5b88"
                 "a") == Ids{a, unknown, a});
  }
  SECTION("bytes") {
    std::vector<uint32_t> bytes;
    for (int byte = 0; byte < 256; ++byte)
      bytes.push_back(s.Add(std::string(1, static_cast<char>(byte)), 0.0));
    s.owned.SetByteTokens(bytes);
    const auto tokenizer = s.Ready();
    CHECK(Encode(*tokenizer, "a\u00e9\xff") == Ids{a, 2 + 0xc3, 2 + 0xa9, 2 + 0xff});
    CHECK(Decode(*tokenizer, Encode(*tokenizer, "a\u00e9\xff z")) == "a\u00e9\xff z");
  }
  SECTION("neither") {
    size_t count = 0;
    const Status status = s.Ready()->Encode("az", 0, {}, &count);
    CHECK(status.code() == StatusCode::kInvalidArgument);
    CHECK(std::string(status.message()).find("0x7a") != std::string::npos);
  }
}

TEST_CASE("a megabyte without a break takes time in proportion", "[text][sentencepiece]") {
  Characters c;
  const auto bpe = test::MakeTokenizer(c.owned);
  Scored s;
  s.Add("a", -1.0);
  for (size_t length = 2; length <= text::Unigram::kMaxTokenBytes; length *= 2)
    s.Add(std::string(length, 'a'), -2.0);
  s.owned.spec().unknown_token = static_cast<int32_t>(s.Add("<unk>", -3.0));
  const auto unigram = s.Ready();
  const std::string run(1u << 20, 'a');
  // Squared, each would be hours; the test's own time limit is the assertion.
  CHECK(Encode(*unigram, run).size() == run.size() / text::Unigram::kMaxTokenBytes);
  CHECK(Encode(*unigram, std::string(1u << 20, '\xff')) == Ids{s.owned.spec().unknown_token});
  for (const std::string& text : {run, std::string(1u << 20, '\xe5'), std::string(1u << 20, ' ')})
    CHECK(Decode(*bpe, Encode(*bpe, text)) == text);
}

TEST_CASE("many added tokens that begin alike are found in one walk", "[text][sentencepiece]") {
  Characters c;
  for (int i = 0; i < 6000; ++i) c.owned.AddSpecial("<unused" + std::to_string(i) + ">");
  const auto tokenizer = test::MakeTokenizer(c.owned);
  CHECK(Encode(*tokenizer, "<unused77>ab") == Ids{c.id("<unused77>"), 260});
  const std::string near(1u << 20, '<');
  CHECK(Encode(*tokenizer, near).size() == near.size());
}

TEST_CASE("damaged vocabularies of SentencePiece are refused", "[text][sentencepiece]") {
  const auto message = [](OwnedSpec& owned) {
    auto made = Tokenizer::Create(owned.spec());
    REQUIRE_FALSE(made.ok());
    return std::string(made.status().message());
  };
  Characters c;
  c.owned.SetByteTokens({1, 2});
  CHECK(message(c.owned).find("2 byte tokens, not 256") != std::string::npos);
  Scored s;
  s.owned.AddToken("a");
  CHECK(message(s.owned).find("0 scores for 1 tokens") != std::string::npos);
  s.owned.AddToken(std::string(257, 'x'));
  s.owned.SetScores({0.0, 0.0});
  CHECK(message(s.owned).find("257 bytes > 256") != std::string::npos);
  Characters added;
  added.owned.AddAdded({9999, {}, true, false, false, false}, "x");
  CHECK(message(added.owned).find("9999") != std::string::npos);
}

}  // namespace
}  // namespace headroom
