// Tokenizers of GGUF metadata: the ids of the reference library, and lies refused by their key.
#include "convert/gguf_tokenizer.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdio>
#include <memory>
#include <span>

#include "convert/json_file.h"
#include "tests/convert/fixture.h"
#include "tests/convert/gguf_fixture.h"
#include "tests/text/described_spec.h"
#include "tests/text/tokenizing.h"

namespace headroom {
namespace {

using convert::GgufFile;
using convert::GgufType;
using convert::Json;
using convert::ParsedTokenizer;
using test::GgufArray;
using test::GgufBytes;
using test::GgufKey;
using test::Raw;

constexpr uint32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;

struct Vocabulary {
  std::string model = "gpt2", pre = "gpt-2";
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
  std::vector<float> scores;
  std::vector<std::string> more;  // keys, ready made

  std::string File() const {
    GgufBytes bytes;
    bytes.keys = more;
    const auto text = [&](const std::string& key, const std::string& value) {
      bytes.keys.push_back(
          GgufKey("tokenizer.ggml." + key, GgufType::kText, test::GgufText(value)));
    };
    const auto texts = [&](const std::string& key, const std::vector<std::string>& values) {
      std::string joined;
      for (const std::string& value : values) joined += test::GgufText(value);
      bytes.keys.push_back(GgufKey("tokenizer.ggml." + key, GgufType::kArray,
                                   GgufArray(GgufType::kText, values.size(), joined)));
    };
    const auto numbers = [&](const std::string& key, GgufType type, const auto& values) {
      std::string joined;
      for (const auto& value : values) joined += Raw(value);
      bytes.keys.push_back(GgufKey("tokenizer.ggml." + key, GgufType::kArray,
                                   GgufArray(type, values.size(), joined)));
    };
    text("model", model);
    if (!pre.empty()) text("pre", pre);
    if (!tokens.empty()) texts("tokens", tokens);
    if (!types.empty()) numbers("token_type", GgufType::kI32, types);
    if (!scores.empty()) numbers("scores", GgufType::kF32, scores);
    if (!merges.empty()) texts("merges", merges);
    return bytes.File();
  }
  Vocabulary& Id(const std::string& key, uint32_t id) {
    more.push_back(GgufKey("tokenizer.ggml." + key, GgufType::kU32, Raw(id)));
    return *this;
  }
  Vocabulary& Flag(const std::string& key, bool value) {
    const std::string byte = value ? "\1" : std::string(1, '\0');
    more.push_back(GgufKey("tokenizer.ggml." + key, GgufType::kBool, byte));
    return *this;
  }
};

const GgufFile& Parse(const Vocabulary& vocabulary) {
  static std::vector<std::unique_ptr<std::string>> kept;
  static std::vector<std::unique_ptr<GgufFile>> files;
  kept.push_back(std::make_unique<std::string>(vocabulary.File()));
  auto parsed = convert::ParseGguf(std::as_bytes(std::span(*kept.back())), "x.gguf");
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  files.push_back(std::make_unique<GgufFile>(parsed.Take()));
  return *files.back();
}

Json Load(const std::string& path) {
  auto json = convert::ReadJsonFile(test::GoldenFolder("tokenizers/" + path), 1u << 26);
  REQUIRE(json.ok());
  return json.Take();
}

// The vocabulary of a tokenizer.json as llama.cpp's converter writes it.
Vocabulary FromJson(const Json& json, const std::string& pre) {
  Vocabulary out;
  out.pre = pre;
  const Json& vocabulary = json["model"]["vocab"];
  out.tokens.resize(vocabulary.size());
  out.types.assign(vocabulary.size(), kNormal);
  const auto place = [&](uint32_t id, const std::string& text, uint32_t type) {
    if (id >= out.tokens.size()) {
      out.tokens.resize(id + 1);
      out.types.resize(id + 1, kNormal);
    }
    out.tokens[id] = text;
    out.types[id] = static_cast<int32_t>(type);
  };
  for (const auto& [token, id] : vocabulary.items()) place(id.get<uint32_t>(), token, kNormal);
  for (const Json& added : json["added_tokens"]) {
    place(added["id"].get<uint32_t>(), added["content"].get<std::string>(),
          added["special"].get<bool>() ? kControl : kUserDefined);
  }
  for (const Json& merge : json["model"]["merges"]) {
    out.merges.push_back(merge.is_string()
                             ? merge.get<std::string>()
                             : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return out;
}

void CheckIds(const ParsedTokenizer& parsed, const std::string& name, const char* key,
              uint32_t flags) {
  test::OwnedSpec owned;
  test::FillSpec(parsed.tokenizer, owned);
  const auto tokenizer = test::MakeTokenizer(owned);
  size_t tokens = 0;
  for (const Json& row : Load(name + "/cases.json")) {
    INFO(name);
    const test::Ids ids = test::Encode(*tokenizer, row["text"].get<std::string>(), flags);
    REQUIRE(ids == row[key].get<test::Ids>());
    tokens += ids.size();
  }
  CHECK(tokens > 2500);
}

TEST_CASE("byte-level vocabularies of GGUF files give the reference's ids",
          "[convert][gguf][tokenizer]") {
  const std::pair<const char*, const char*> cases[] = {
      {"gpt2", "gpt-2"}, {"llama3", "llama-bpe"}, {"qwen2", "qwen2"}, {"digits", "smollm"}};
  for (const auto& [name, pre] : cases) {
    INFO(name);
    const Vocabulary vocabulary = FromJson(Load(std::string(name) + "/tokenizer.json"), pre);
    const auto parsed = convert::ReadGgufTokenizer(Parse(vocabulary), 600, "x.gguf");
    INFO(parsed.status().message());
    REQUIRE(parsed.ok());
    CHECK(parsed.value().tokenizer.tokens.size() == 600);
    CheckIds(parsed.value(), name, "plain", text::kNoBegin);
  }
}

TEST_CASE("a GGUF file's begin token is added where it says or its kind does",
          "[convert][gguf][tokenizer]") {
  Vocabulary vocabulary = FromJson(Load("llama3/tokenizer.json"), "llama-bpe");
  const auto read = [](const Vocabulary& v) {
    auto parsed = convert::ReadGgufTokenizer(Parse(v), 600, "x.gguf");
    REQUIRE(parsed.ok());
    return parsed.Take().tokenizer;
  };
  CHECK_FALSE(read(vocabulary).add_begin);  // no such token
  vocabulary.Id("bos_token_id", 3);
  CHECK(read(vocabulary).add_begin);
  CHECK(read(vocabulary).begin_token == 3);
  CHECK(read(vocabulary).ignore_merges);
  vocabulary.pre = "qwen2";
  CHECK_FALSE(read(vocabulary).add_begin);
  CHECK_FALSE(read(vocabulary).ignore_merges);
  CHECK(read(vocabulary).begin_token == 3);
  vocabulary.Flag("add_bos_token", true);
  CHECK(read(vocabulary).add_begin);
}

// 256 byte pieces behind three special ones, then letters and a word.
Vocabulary Pieces() {
  Vocabulary v;
  v.model = "llama";
  v.pre = "default";
  v.tokens = {"<unk>", "<s>", "</s>"};
  v.types = {kUnknown, kControl, kControl};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    v.tokens.push_back(text);
    v.types.push_back(kByte);
  }
  for (const char* text : {"\u2581", "a", "b", "ab", "\u2581ab"}) {
    v.tokens.push_back(text);
    v.types.push_back(kNormal);
  }
  v.scores.assign(v.tokens.size(), 0.0f);
  v.scores[262] = -1.0f;
  v.scores[263] = -2.0f;
  v.Id("bos_token_id", 1).Id("eos_token_id", 2);
  return v;
}

std::vector<int32_t> Encoded(const Vocabulary& vocabulary, const std::string& text) {
  const auto parsed = convert::ReadGgufTokenizer(Parse(vocabulary), 300, "x.gguf");
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  test::OwnedSpec owned;
  test::FillSpec(parsed.value().tokenizer, owned);
  return test::Encode(*test::MakeTokenizer(owned), text);
}

TEST_CASE("SentencePiece vocabularies of GGUF files are read with their options",
          "[convert][gguf][tokenizer]") {
  CHECK(Encoded(Pieces(), "ab") == std::vector<int32_t>{1, 263});
  CHECK(Encoded(Pieces().Flag("add_bos_token", false), "ab!") ==
        std::vector<int32_t>{263, 3 + '!'});
  CHECK(Encoded(Pieces().Flag("add_space_prefix", false), "ab") == std::vector<int32_t>{1, 262});
}

TEST_CASE("pieces of the unknown type behind the first one pad the vocabulary",
          "[convert][gguf][tokenizer]") {
  Vocabulary padded = Pieces();  // as Phi-3's files have them
  for (const char* text : {"[PAD264]", "[PAD265]"}) {
    padded.tokens.push_back(text);
    padded.types.push_back(kUnknown);
    padded.scores.push_back(-1000.0f);
  }
  CHECK(Encoded(padded, "ab[PAD265]") == std::vector<int32_t>{1, 263, 265});
}

TEST_CASE("GGUF vocabularies that lie are refused by key", "[convert][gguf][tokenizer]") {
  const auto refused = [](const Vocabulary& v, const std::string& part, uint32_t size = 300) {
    const auto parsed = convert::ReadGgufTokenizer(Parse(v), size, "x.gguf");
    REQUIRE_FALSE(parsed.ok());
    UNSCOPED_INFO(parsed.status().message());
    return std::string(parsed.status().message()).find(part) != std::string::npos;
  };
  const auto changed = [](auto change) {
    Vocabulary v = Pieces();
    change(v);
    return v;
  };
  CHECK(refused(Pieces(), "264 tokens > vocabulary 263", 263));
  CHECK(refused(changed([](Vocabulary& v) { v.scores.pop_back(); }), "scores has 263 numbers"));
  CHECK(refused(changed([](Vocabulary& v) { v.types.pop_back(); }), "token_type has 263"));
  CHECK(refused(changed([](Vocabulary& v) { v.types[5] = 9; }), "token 5 has type 9"));
  CHECK(refused(changed([](Vocabulary& v) { v.types[5] = -1; }), "token 5 has type -1"));
  const auto list = [](const char* key, GgufType type, uint64_t count, const std::string& items) {
    return [=](Vocabulary& v) {
      v.types.clear();
      v.more.push_back(GgufKey(std::string("tokenizer.ggml.") + key, GgufType::kArray,
                               GgufArray(type, count, items)));
    };
  };
  std::string halves, huge;
  for (size_t i = 0; i < Pieces().tokens.size(); ++i) halves += Raw(1.5f);
  for (size_t i = 0; i < Pieces().tokens.size(); ++i) huge += Raw(1e300);
  CHECK(refused(changed(list("token_type", GgufType::kF32, halves.size() / 4, halves)),
                "token_type is no list of the numbers it should be"));
  CHECK(refused(changed(list("token_type", GgufType::kF64, huge.size() / 8, huge)),
                "token_type is no list of the numbers it should be"));
  CHECK(refused(changed(list("precompiled_charsmap", GgufType::kF64, huge.size() / 8, huge)),
                "precompiled_charsmap is no list of bytes"));
  CHECK(refused(changed([](Vocabulary& v) { v.scores.clear(); }), "lacks tokenizer.ggml.scores"));
  CHECK(refused(changed([](Vocabulary& v) { v.tokens.clear(); }), "lacks tokenizer.ggml.tokens"));
  CHECK(refused(changed([](Vocabulary& v) { v.tokens[4] = "<0x-1>"; }), "<0x-1>"));
  CHECK(refused(changed([](Vocabulary& v) { v.scores[7] = NAN; }), "score"));
  CHECK(refused(changed([](Vocabulary& v) { v.model = "bert"; }), "model \"bert\""));
  CHECK(refused(Pieces().Flag("add_eos_token", true), "add_eos_token true"));
  CHECK(refused(Pieces().Flag("normalizer.lowercase", true), "normalizer.lowercase true"));
  CHECK(refused(Pieces().Flag("suppress_everything", true), "suppress_everything"));
  Vocabulary bytes = FromJson(Load("gpt2/tokenizer.json"), "no-such-pre");
  CHECK(refused(bytes, "pre \"no-such-pre\"", 600));
  bytes.pre = "";
  CHECK(refused(bytes, "pre \"\"", 600));
  bytes.pre = "gpt-2";
  bytes.merges[3] = "nothing here";
  CHECK(refused(bytes, "is not in the vocabulary", 600));
  bytes.merges.clear();
  CHECK(refused(bytes, "lacks tokenizer.ggml.merges", 600));
  Vocabulary begin = FromJson(Load("gpt2/tokenizer.json"), "gpt-2").Id("bos_token_id", 600);
  CHECK(refused(begin, "bos_token_id is no token below 600", 600));
}

TEST_CASE("end tokens of a GGUF file are those it names and those that end a turn",
          "[convert][gguf][tokenizer]") {
  Vocabulary v = Pieces();
  v.tokens.push_back("<|im_end|>");
  v.types.push_back(kControl);
  v.scores.push_back(0.0f);
  v.Id("eot_token_id", 2);
  const auto ends = convert::ReadGgufEndTokens(Parse(v), 300, "x.gguf");
  REQUIRE(ends.ok());
  CHECK(ends.value() == std::vector<uint32_t>{2, 264});
  v.Id("eom_token_id", 300);
  CHECK(convert::ReadGgufEndTokens(Parse(v), 300, "x").status().code() == StatusCode::kCorrupt);
}

}  // namespace
}  // namespace headroom
