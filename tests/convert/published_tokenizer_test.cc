// Published tokenizers against the ids that tests/golden/tokenizers/make_published.py has written
// beside them. Hidden: their files are no part of the repository.
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <set>

#include "convert/gguf.h"
#include "convert/gguf_tokenizer.h"
#include "tests/convert/tokenizer_encoder.h"

namespace headroom {
namespace {

namespace fs = std::filesystem;
using convert::Json;
using test::Ids;

constexpr uint32_t kAnyVocabulary = 1u << 19;

struct Tally {
  size_t texts = 0, tokens = 0, differences = 0;
  std::string first = {};  // difference, in words

  void Differ(const std::string& what, const Json& row) {
    if (differences++ == 0) first = what + " of " + row["text"].dump().substr(0, 200);
  }
};

Result<convert::ParsedTokenizer> Parse(const fs::path& folder) {
  if (fs::exists(folder / "tokenizer.json")) {
    HR_ASSIGN_OR_RETURN(Json json, convert::ReadJsonFile(folder / "tokenizer.json", 1u << 28));
    const fs::path config = folder / "tokenizer_config.json";
    if (fs::exists(config)) convert::DropTokensBehind(test::LoadJson(config), json);
    return convert::ParseTokenizer(json, kAnyVocabulary, "tokenizer.json");
  }
  if (fs::exists(folder / "tokenizer.model")) {
    const std::string file = test::ReadText(folder / "tokenizer.model");
    HR_ASSIGN_OR_RETURN(convert::SentencePieceModel model,
                        convert::ParseSentencePieceModel(file, "tokenizer.model"));
    return convert::MakeTokenizer(model, kAnyVocabulary, "tokenizer.model");
  }
  HR_ASSIGN_OR_RETURN(const auto opened, convert::OpenGguf(folder / "vocab.gguf"));
  return convert::ReadGgufTokenizer(opened.gguf, kAnyVocabulary, "vocab.gguf");
}

// SentencePiece and llama.cpp's list read no special token out of a text.
void CompareRow(const text::Tokenizer& tokenizer, const Json& row, Tally& tally) {
  const std::string text = row["text"].get<std::string>();
  const uint32_t always = row.contains("ids") ? 0 : text::kNoSpecial;
  const std::pair<const char*, uint32_t> kinds[] = {
      {"ids", 0},
      {"plain", text::kNoBegin | always},
      {"ordinary", text::kNoBegin | text::kNoSpecial}};
  for (const auto& [key, flags] : kinds) {
    if (!row.contains(key)) continue;
    const Ids expected = row[key].get<Ids>();
    tally.tokens += expected.size();
    if (test::Encode(tokenizer, text, flags) != expected) tally.Differ(key, row);
  }
  if (row.contains("decoded") &&
      test::Decode(tokenizer, row["plain"].get<Ids>()) != row["decoded"].get<std::string>()) {
    tally.Differ("decoded text", row);
  }
  ++tally.texts;
}

TEST_CASE("published tokenizers give the ids and texts of their references", "[.published]") {
  const char* root = std::getenv("HEADROOM_TOKENIZERS");
  REQUIRE(root != nullptr);
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (fs::exists(entry.path() / "cases.json")) folders.insert(entry.path());
  }
  REQUIRE(!folders.empty());
  for (const fs::path& folder : folders) {
    const std::string name = folder.filename();
    const auto parsed = Parse(folder);
    if (!parsed.ok()) {
      std::printf("%-16s refused: %s\n", name.c_str(), parsed.status().message());
      CHECK(name == "");
      continue;
    }
    const test::TokenizerEncoder encoder(parsed);
    Tally tally;
    for (const Json& row : test::LoadJson(folder / "cases.json"))
      CompareRow(*encoder.tokenizer, row, tally);
    std::printf("%-16s %5zu texts %8zu tokens %4zu differ %s\n", name.c_str(), tally.texts,
                tally.tokens, tally.differences, tally.first.c_str());
    CHECK(tally.texts > 0);
    CHECK(tally.differences == 0);
  }
}

}  // namespace
}  // namespace headroom
