// The first byte chooses: 'j' the rest is a tokenizer.json, 't' text for a sound tokenizer, 's' the
// tables of a tokenizer. Whatever is accepted must encode, and decode to the bytes it was given.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_json.h"
#include "tests/text/owned_spec.h"
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
  size_t bytes = 0;
  std::string back(text.size() + 4096, '\0');
  if (tokenizer.Decode(ids, back, &bytes).ok() && exact &&
      std::string_view(back).substr(0, bytes) != text) {
    __builtin_trap();
  }
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
  const convert::TokenizerDescription& from = tokenizer.value().tokenizer;
  test::OwnedSpec owned;
  for (const std::string& token : from.tokens) owned.AddToken(token);
  for (const auto& [left, right] : from.merges) {
    owned.AddMergeIds({left, right, owned.id(from.tokens[left] + from.tokens[right])});
  }
  for (const std::string& pattern : from.patterns) owned.AddPattern(pattern);
  owned.spec().special_tokens = from.special_tokens;
  owned.spec().begin_token = from.begin_token;
  owned.spec().add_begin = from.add_begin;
  owned.spec().add_prefix_space = from.add_prefix_space;
  owned.spec().ignore_merges = from.ignore_merges;
  const auto made = text::Tokenizer::Create(owned.spec());
  if (made.ok()) Exercise(*made.value(), "a b ab <e> 12 \xc3\xa9\xff", 0, false);
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
