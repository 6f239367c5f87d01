// The first byte chooses: 'j' the rest is a tokenizer.json, 't' text for a sound tokenizer, 's' the
// tables of a tokenizer. Whatever is accepted must encode, and decode to the bytes it was given.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_json.h"
#include "tests/text/described_spec.h"
#include "text/tokenizer.h"

namespace headroom {
namespace {

constexpr const char* kPatterns[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"};

constexpr std::pair<const char*, const char*> kMerges[] = {
    {"a", "b"},  {"ab", "a"},      {"\xc3", "\xa9"}, {" ", " "},
    {"  ", " "}, {"\xff", "\xfe"}, {"a", "a"}};

// With all of the text plain, no special token is matched: as with the flag that says so.
void CheckPlain(const text::Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> plain(4 * text.size() + 8), flagged(plain.size());
  size_t plain_count = 0, flagged_count = 0;
  const text::TextRange whole{0, text.size()};
  const Status by_range = tokenizer.Encode(text, 0, plain, &plain_count, {&whole, 1});
  const Status by_flag = tokenizer.Encode(text, text::kNoSpecial, flagged, &flagged_count);
  if (by_range.code() != by_flag.code() || plain_count != flagged_count || plain != flagged)
    __builtin_trap();
  if (text.empty()) return;
  const text::TextRange part{text.size() / 3, text.size() - text.size() / 3};
  (void)tokenizer.Encode(text, 0, plain, &plain_count, {&part, 1});
}

// Encodes and checks the round trip where the vocabulary can say every byte.
void Exercise(const text::Tokenizer& tokenizer, std::string_view text, uint32_t flags, bool exact) {
  size_t count = 0;
  std::vector<int32_t> ids(text.size() + 2);  // a token is at least a byte; begin and prefix space
  const Status status = tokenizer.Encode(text, flags, ids, &count);
  if (!status.ok()) {
    if (exact) __builtin_trap();
    return;
  }
  ids.resize(count);
  CheckPlain(tokenizer, text);
  size_t bytes = 0;
  std::string back(text.size() + 4096, '\0');
  if (tokenizer.Decode(ids, back, &bytes).ok() && exact &&
      std::string_view(back).substr(0, bytes) != text) {
    __builtin_trap();
  }
}

// Tokens of all bytes, some longer ones, some merges; no sign for a space, so that text comes back
// exactly.
void AddSentencePiece(test::OwnedSpec& owned, model::TokenizerKind kind) {
  std::vector<uint32_t> bytes;
  std::vector<double> scores;
  owned.AddAllBytes();
  for (uint32_t id = 0; id < 256; ++id) bytes.push_back(id);
  for (const char* token : {"a", "b", "\xc3\xa9", " "}) owned.AddToken(token);
  owned.AddMergeIds({256, 257, owned.AddToken("ab")});
  owned.AddMergeIds({258, 258, owned.AddToken("\xc3\xa9\xc3\xa9")});
  owned.AddMergeIds({259, 260, owned.AddToken(" ab")});
  owned.AddSpecial("<e>");
  owned.AddAdded({owned.AddToken("<f>"), {}, false, false, false, false}, "");
  for (uint32_t id = 0; id < owned.spec().tokens.size(); ++id) scores.push_back(-1.0 - id % 7);
  owned.SetByteTokens(bytes);
  owned.SetScores(scores);
  owned.spec().kind = kind;
}

void FuzzText(std::string_view text) {
  struct Sound {
    test::OwnedSpec owned;
    std::unique_ptr<text::Tokenizer> tokenizer;
  };
  static const std::vector<std::unique_ptr<Sound>> kSound = [] {
    std::vector<std::unique_ptr<Sound>> made;
    for (const char* pattern : kPatterns) {
      made.push_back(std::make_unique<Sound>());
      test::OwnedSpec& owned = made.back()->owned;
      owned.AddAllBytes();
      for (const auto& [left, right] : kMerges) owned.AddMerge(left, right);
      owned.AddSpecial("<e>");
      owned.AddSpecial("<e>a");
      owned.AddPattern(pattern);
      made.back()->tokenizer = text::Tokenizer::Create(owned.spec()).Take();
    }
    for (const auto kind : {model::TokenizerKind::kCharacterBpe, model::TokenizerKind::kUnigram}) {
      made.push_back(std::make_unique<Sound>());
      AddSentencePiece(made.back()->owned, kind);
      made.back()->tokenizer = text::Tokenizer::Create(made.back()->owned.spec()).Take();
    }
    return made;
  }();
  for (const auto& sound : kSound) {
    Exercise(*sound->tokenizer, text, 0, true);
    Exercise(*sound->tokenizer, text, text::kNoSpecial, true);
  }
}

void FuzzJson(std::string_view json) {
  const auto parsed = convert::ParseJson(json, "input");
  if (!parsed.ok()) return;
  const auto tokenizer = convert::ParseTokenizer(parsed.value(), 512, "input");
  if (!tokenizer.ok()) return;
  test::OwnedSpec owned;
  test::FillSpec(tokenizer.value().tokenizer, owned);
  const auto made = text::Tokenizer::Create(owned.spec());
  if (made.ok()) Exercise(*made.value(), "a b ab <e> 12 \xe2\x96\x81\xc3\xa9\xff", 0, false);
}

// Reads small numbers off the front of the input.
struct Bytes {
  std::string_view rest;
  uint8_t Next() {
    if (rest.empty()) return 0;
    const uint8_t byte = static_cast<uint8_t>(rest[0]);
    rest.remove_prefix(1);
    return byte;
  }
  std::string Take(size_t count) {
    const std::string taken(rest.substr(0, count));
    rest.remove_prefix(taken.size());
    return taken;
  }
};

void AddTextSteps(Bytes& bytes, test::OwnedSpec& owned) {
  for (int i = bytes.Next() % 4; i > 0; --i) {
    model::NormalStep step;
    step.kind = static_cast<model::NormalStepKind>(bytes.Next() % 6);
    step.form = static_cast<model::NormalForm>(bytes.Next() % 5);
    const uint8_t sides = bytes.Next();
    step.left = sides & 1;
    step.right = sides & 2;
    step.graphemes = sides & 4;
    const std::string pattern = bytes.Take(bytes.Next() % 8), text = bytes.Take(bytes.Next() % 4);
    owned.AddStep(step, pattern, text, bytes.Take(bytes.Next() % 64));
  }
  for (int i = bytes.Next() % 4; i > 0; --i) {
    const uint8_t how = bytes.Next();
    owned.AddSplit(bytes.Take(bytes.Next() % 8), static_cast<model::SplitBehaviour>(how % 5),
                   how & 64);
  }
}

void FuzzSpec(std::string_view data) {
  Bytes bytes{data};
  test::OwnedSpec owned;
  const uint8_t shape = bytes.Next();
  if (shape & 1) owned.AddAllBytes();
  for (int i = bytes.Next() % 16; i > 0; --i) owned.AddToken(bytes.Take(bytes.Next() % 6));
  for (int i = bytes.Next() % 32; i > 0; --i) {
    const uint32_t left = bytes.Next(), right = bytes.Next();
    owned.AddMergeIds({left, right, 256u + bytes.Next() % 16});
  }
  for (int i = bytes.Next() % 4; i > 0; --i)
    owned.spec().special_tokens.push_back(256u + bytes.Next() % 16);
  if (shape & 2) owned.AddPattern(bytes.Take(bytes.Next() % 24));
  if (shape & 64) {
    owned.spec().kind =
        shape & 128 ? model::TokenizerKind::kUnigram : model::TokenizerKind::kCharacterBpe;
    owned.SetScores(std::vector<double>(owned.spec().tokens.size(), -1.5));
    owned.SetSpace(shape & 8 ? "b" : "");
    owned.spec().space_prefix = static_cast<model::SpacePrefix>(shape >> 1 & 1);
    owned.spec().unknown_token = shape & 4 ? 0 : -1;
    std::vector<uint32_t> ids(shape & 1 ? 256 : 0);
    for (uint32_t id = 0; id < ids.size(); ++id) ids[id] = id;
    owned.SetByteTokens(ids);
    owned.AddAdded({bytes.Next(), {}, (shape & 1) != 0, (shape & 2) != 0, (shape & 4) != 0, true},
                   bytes.Take(2));
  }
  if (const uint8_t form = bytes.Next() % 8; form < 5) {
    owned.AddForm(static_cast<model::NormalForm>(form));
  } else {
    AddTextSteps(bytes, owned);
  }
  owned.spec().ignore_merges = shape & 4;
  owned.spec().add_prefix_space = shape & 8;
  owned.spec().add_begin = shape & 16;
  owned.spec().begin_token = shape & 32 ? bytes.Next() : -1;
  const auto made = text::Tokenizer::Create(owned.spec());
  if (made.ok()) Exercise(*made.value(), bytes.rest.substr(0, 64), 0, false);
}

}  // namespace
}  // namespace headroom

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  if (bytes == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, bytes - 1);
  switch (data[0]) {
    case 'j':
      headroom::FuzzJson(rest);
      break;
    case 't':
      headroom::FuzzText(rest);
      break;
    case 's':
      headroom::FuzzSpec(rest);
      break;
    default:
      break;
  }
  return 0;
}
