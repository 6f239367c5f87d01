// The tokenizer on vocabularies small enough to check by hand. Agreement with the reference library
// on trained vocabularies is in tests/convert/tokenizer_golden_test.cc.
#include "text/tokenizer.h"

#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <random>
#include <string>
#include <thread>

#include "tests/text/tokenizing.h"

namespace headroom {
namespace {

using test::Decode;
using test::Encode;
using test::Ids;
using test::OwnedSpec;
using text::Tokenizer;

constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// "ab" first, then "bc" and "abc": order of ranks decides.
void AddLetters(OwnedSpec& owned) {
  owned.AddAllBytes();
  owned.AddMerge("a", "b");
  owned.AddMerge("b", "c");
  owned.AddMerge("ab", "c");
  owned.AddMerge("c", "c");
}

TEST_CASE("merges are applied by rank, leftmost first", "[text][tokenizer]") {
  OwnedSpec owned;
  AddLetters(owned);
  const auto tokenizer = test::MakeTokenizer(owned);
  const auto id = [&](const char* s) { return static_cast<int32_t>(owned.id(s)); };
  CHECK(Encode(*tokenizer, "abc") == Ids{id("abc")});
  CHECK(Encode(*tokenizer, "bca") == Ids{id("bc"), id("a")});
  CHECK(Encode(*tokenizer, "ccc") == Ids{id("cc"), id("c")});
  CHECK(Encode(*tokenizer, "abcc") == Ids{id("abc"), id("c")});
  CHECK(Encode(*tokenizer, "bcc") == Ids{id("bc"), id("c")});
  CHECK(Encode(*tokenizer, "") == Ids{});
}

// Quadratic, and nothing but the definition.
Ids NaiveMerge(const OwnedSpec& owned, model::TokenizerSpec& spec, const std::string& word) {
  Ids ids;
  for (const char c : word) ids.push_back(static_cast<int32_t>(owned.id(std::string(1, c))));
  for (;;) {
    size_t best_rank = spec.merges.size(), best_at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (static_cast<int32_t>(spec.merges[rank].left) == ids[i] &&
            static_cast<int32_t>(spec.merges[rank].right) == ids[i + 1]) {
          best_rank = rank;
          best_at = i;
        }
      }
    }
    if (best_rank == spec.merges.size()) return ids;
    ids[best_at] = static_cast<int32_t>(spec.merges[best_rank].result);
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best_at) + 1);
  }
}

TEST_CASE("merging with the heap equals merging by the definition", "[text][tokenizer]") {
  std::mt19937 random(5);
  size_t merged = 0;
  for (int round = 0; round < 30; ++round) {
    OwnedSpec owned;
    owned.AddAllBytes();
    std::vector<std::string> parts = {"a", "b", "c", "d"};
    for (int i = 0; i < 40; ++i) {
      const std::string left = parts[random() % parts.size()],
                        right = parts[random() % parts.size()];
      if (left.size() + right.size() > 9) continue;
      owned.AddMerge(left, right);
      parts.push_back(left + right);
    }
    const auto tokenizer = test::MakeTokenizer(owned);
    for (int n = 0; n < 20; ++n) {
      std::string word(random() % 60, 'a');
      for (char& c : word) c = static_cast<char>('a' + random() % 4);
      const Ids expected = NaiveMerge(owned, owned.spec(), word);
      INFO("round " << round << " word " << word);
      REQUIRE(Encode(*tokenizer, word) == expected);
      merged += word.size() - expected.size();
    }
  }
  CHECK(merged > 3000);  // the comparison was about merges
}

TEST_CASE("any bytes come back unchanged", "[text][tokenizer]") {
  OwnedSpec owned;
  AddLetters(owned);
  owned.AddPattern(kGpt2Pattern);
  const auto tokenizer = test::MakeTokenizer(owned);
  std::mt19937 random(11);
  const std::string_view whole = "ab \xc3\xa9\xe6\xbc\xa2\xf0\x9f\x9a\xa2 c'll 12\r\n";
  for (int n = 0; n < 400; ++n) {
    std::string text;
    for (int i = 0; i < 30; ++i) {
      if (random() % 3 == 0) {
        text += static_cast<char>(random());  // mostly breaks the character before
      } else {
        text += whole[random() % whole.size()];
      }
    }
    REQUIRE(Decode(*tokenizer, Encode(*tokenizer, text)) == text);
  }
  const std::string nul("a\0b", 3);
  CHECK(Decode(*tokenizer, Encode(*tokenizer, nul)) == nul);
}

TEST_CASE("broken bytes stay together and leave their neighbours alone", "[text][tokenizer]") {
  OwnedSpec owned;
  owned.AddAllBytes();
  owned.AddMerge("\xff", "\xff");
  owned.AddMerge("a", "b");
  owned.AddMerge("b", "\xff");  // would win over a piece boundary if there were none
  owned.AddPattern(R"(\p{L}+)");
  const auto tokenizer = test::MakeTokenizer(owned);
  CHECK(Encode(*tokenizer,
               "b\xff\xff"
               "ab") ==
        Ids{'b', static_cast<int32_t>(owned.id("\xff\xff")), static_cast<int32_t>(owned.id("ab"))});
}

TEST_CASE("special tokens are matched verbatim, longest first", "[text][tokenizer]") {
  OwnedSpec owned;
  AddLetters(owned);
  const int32_t end = static_cast<int32_t>(owned.AddSpecial("<end>"));
  const int32_t longer = static_cast<int32_t>(owned.AddSpecial("<end>c"));
  const auto tokenizer = test::MakeTokenizer(owned);
  CHECK(Encode(*tokenizer, "a<end>b") == Ids{'a', end, 'b'});
  CHECK(Encode(*tokenizer, "a<end>cc") == Ids{'a', longer, 'c'});
  CHECK(Encode(*tokenizer, "<end><end>") == Ids{end, end});
  CHECK(Encode(*tokenizer, "<end") == Ids{'<', 'e', 'n', 'd'});
  CHECK(Encode(*tokenizer, "<end>", text::kNoSpecial) == Ids{'<', 'e', 'n', 'd', '>'});
}

TEST_CASE("untrusted text cannot spell a special token", "[text][tokenizer]") {
  OwnedSpec owned;
  owned.AddAllBytes();
  owned.AddSpecial("<e>");
  owned.spec().ignore_merges = true;  // takes whole words from the vocabulary
  const auto tokenizer = test::MakeTokenizer(owned);
  CHECK(Encode(*tokenizer, "<e>", text::kNoSpecial) == Ids{'<', 'e', '>'});

  OwnedSpec merging;  // nor by merges that a file lists
  merging.AddAllBytes();
  merging.AddSpecial("<e");
  merging.AddMerge("<", "e");
  CHECK(Encode(*test::MakeTokenizer(merging), "<e", text::kNoSpecial) == Ids{'<', 'e'});
}

TEST_CASE("the begin token is prepended unless the caller says no", "[text][tokenizer]") {
  OwnedSpec owned;
  AddLetters(owned);
  const int32_t begin = static_cast<int32_t>(owned.AddSpecial("<s>"));
  owned.spec().begin_token = begin;
  owned.spec().add_begin = true;
  owned.spec().end_tokens = {7, 9};
  const auto tokenizer = test::MakeTokenizer(owned);
  CHECK(Encode(*tokenizer, "a") == Ids{begin, 'a'});
  CHECK(Encode(*tokenizer, "") == Ids{begin});
  CHECK(Encode(*tokenizer, "a", text::kNoBegin) == Ids{'a'});
  CHECK(tokenizer->IsEndToken(9));
  CHECK_FALSE(tokenizer->IsEndToken(8));
  CHECK_FALSE(tokenizer->IsEndToken(-1));
}

TEST_CASE("a word in the vocabulary is taken whole where the model says so", "[text][tokenizer]") {
  OwnedSpec owned;
  AddLetters(owned);
  const int32_t word = static_cast<int32_t>(owned.AddToken("cab"));
  CHECK(Encode(*test::MakeTokenizer(owned), "cab") ==
        Ids{'c', static_cast<int32_t>(owned.id("ab"))});
  owned.spec().ignore_merges = true;
  CHECK(Encode(*test::MakeTokenizer(owned), "cab") == Ids{word});
}

TEST_CASE("patterns are applied in order, each to pieces of the one before", "[text][tokenizer]") {
  OwnedSpec owned;
  owned.AddAllBytes();
  owned.AddMerge("1", "2");
  owned.AddMerge("a", "1");
  owned.AddMerge("a", "a");
  owned.AddPattern(R"(\p{N})");
  owned.AddPattern(R"(a)");
  CHECK(Encode(*test::MakeTokenizer(owned), "aa12") == Ids{'a', 'a', '1', '2'});
}

TEST_CASE("a prefix space is put before text and after special tokens", "[text][tokenizer]") {
  OwnedSpec owned;
  owned.AddAllBytes();
  const int32_t end = static_cast<int32_t>(owned.AddSpecial("<e>"));
  owned.spec().add_prefix_space = true;
  CHECK(Encode(*test::MakeTokenizer(owned), "a<e>b<e> c") ==
        Ids{' ', 'a', end, ' ', 'b', end, ' ', 'c'});
}

TEST_CASE("a small buffer is filled and the whole count reported", "[text][tokenizer]") {
  OwnedSpec owned;
  owned.AddAllBytes();
  const auto tokenizer = test::MakeTokenizer(owned);
  Ids two = {-1, -1};
  size_t count = 0;
  const Status status = tokenizer->Encode("xyz", 0, two, &count);
  CHECK(status.code() == StatusCode::kBufferTooSmall);
  CHECK(count == 3);
  CHECK(two == Ids{'x', 'y'});
  std::string text(2, '?');
  CHECK(tokenizer->Decode(Ids{'x', 'y', 'z'}, text, &count).code() == StatusCode::kBufferTooSmall);
  CHECK(count == 3);
  CHECK(text == "xy");
}

TEST_CASE("a long word takes time in proportion, not squared", "[text][tokenizer]") {
  OwnedSpec owned;
  AddLetters(owned);
  owned.AddPattern(kGpt2Pattern);
  const auto tokenizer = test::MakeTokenizer(owned);
  std::string word(2'000'000, 'a');
  for (size_t i = 0; i < word.size(); ++i) word[i] = "abcc"[i * 2654435761u >> 7 & 3];
  // Squared, this would be hours; the test's own time limit is the assertion.
  const Ids ids = Encode(*tokenizer, word);
  CHECK(ids.size() < word.size());
  CHECK(Decode(*tokenizer, ids) == word);
  const std::string spaces(1'000'000, ' ');
  CHECK(Decode(*tokenizer, Encode(*tokenizer, spaces)) == spaces);
  std::string words;
  while (words.size() < 1'000'000) words += "ab c ";
  CHECK(Decode(*tokenizer, Encode(*tokenizer, words)) == words);
}

TEST_CASE("several threads may encode at once", "[text][tokenizer]") {
  OwnedSpec owned;
  AddLetters(owned);
  owned.AddPattern(kGpt2Pattern);
  const auto tokenizer = test::MakeTokenizer(owned);
  const Ids expected = Encode(*tokenizer, "abc cab bcc");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int n = 0; n < 200; ++n) {
        Ids ids(expected.size());
        size_t count = 0;
        const bool ok = tokenizer->Encode("abc cab bcc", 0, ids, &count).ok();
        wrong[t] += !ok || ids != expected;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("damaged or foreign specs are refused by name", "[text][tokenizer]") {
  const auto refused = [](OwnedSpec& owned) {
    auto made = Tokenizer::Create(owned.spec());
    REQUIRE_FALSE(made.ok());
    return std::pair(made.status().code(), std::string(made.status().message()));
  };
  SECTION("no tokenizer") {
    OwnedSpec owned;
    owned.spec().kind = model::TokenizerKind::kNone;
    CHECK(refused(owned).first == StatusCode::kUnsupported);
  }
  SECTION("merge outside the vocabulary") {
    OwnedSpec owned;
    owned.AddAllBytes();
    owned.AddMergeIds({1, 2, 999});
    CHECK(refused(owned).second.find("merge 0 of tokens 1 and 2 to 999; vocabulary 256") !=
          std::string::npos);
  }
  SECTION("special token outside the vocabulary") {
    OwnedSpec owned;
    owned.AddAllBytes();
    owned.spec().special_tokens = {256};
    CHECK(refused(owned).second.find("special token 256 >= vocabulary 256") != std::string::npos);
  }
  SECTION("empty special token") {
    OwnedSpec owned;
    owned.AddAllBytes();
    owned.AddSpecial("");
    CHECK(refused(owned).first == StatusCode::kCorrupt);
  }
  SECTION("begin token outside the vocabulary") {
    OwnedSpec owned;
    owned.AddAllBytes();
    owned.spec().add_begin = true;
    CHECK(refused(owned).second.find("begin token -1") != std::string::npos);
  }
  SECTION("pattern that does not compile") {
    OwnedSpec owned;
    owned.AddAllBytes();
    owned.AddPattern("a(b");
    const auto [code, message] = refused(owned);
    CHECK(code == StatusCode::kUnsupported);
    CHECK(message.find("split pattern 0 at byte 3") != std::string::npos);
  }
}

TEST_CASE("a pattern that backtracks without end is an error, not a hang", "[text][tokenizer]") {
  OwnedSpec owned;
  owned.AddAllBytes();
  owned.AddPattern("(a+)+$");
  const auto tokenizer = test::MakeTokenizer(owned);
  size_t count = 0;
  const Status status = tokenizer->Encode(std::string(60, 'a') + "b", 0, {}, &count);
  CHECK(status.code() == StatusCode::kUnsupported);
}

TEST_CASE("patterns that match nothing, or empty, still keep every byte", "[text][tokenizer]") {
  for (const char* pattern : {"x*", "(?=b)", "\\b", "^", "(?=ab\\K)", "(?<=a)"}) {
    OwnedSpec owned;
    owned.AddAllBytes();
    owned.AddPattern(pattern);
    // Older and newer PCRE2 differ in whether \K may stand in a lookahead; either way nothing is
    // lost.
    auto made = Tokenizer::Create(owned.spec());
    if (!made.ok()) continue;
    INFO(pattern);
    CHECK(Decode(*made.value(), Encode(*made.value(), "ab \xc3\xa9x\xe6\xbc\xa2 xx")) ==
          "ab \xc3\xa9x\xe6\xbc\xa2 xx");
  }
}

TEST_CASE("a byte or id that the vocabulary lacks is named", "[text][tokenizer]") {
  OwnedSpec owned;
  owned.AddToken("a");
  const auto tokenizer = test::MakeTokenizer(owned);
  size_t count = 0;
  CHECK(std::string(tokenizer->Encode("ab", 0, {}, &count).message()).find("0x62") !=
        std::string::npos);
  for (const int32_t id : {-1, 1, INT32_MAX}) {
    CHECK(tokenizer->Decode(Ids{0, id}, {}, &count).code() == StatusCode::kInvalidArgument);
    CHECK(tokenizer->TokenBytes(id).empty());
  }
}

}  // namespace
}  // namespace headroom
