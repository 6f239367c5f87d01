// RWKV: checkpoints without a configuration, GGUF files of them, and the World vocabulary.
#include "convert/rwkv.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "convert/rwkv_vocabulary.h"
#include "tests/convert/converted.h"
#include "tests/text/described_spec.h"
#include "text/tokenizer.h"

namespace headroom::test {
namespace {

using model::OpKind;

Status Refusal(const std::string& source, bool tokenizer = true) {
  const TempFolder folder;
  convert::Options options;
  options.source = source;
  options.out = folder / "model.hrm";
  options.weights = convert::WeightFormat::kF32;
  options.without_tokenizer = !tokenizer;
  const auto summary = convert::Convert(options);
  REQUIRE_FALSE(summary.ok());
  return summary.status();
}

bool Says(const Status& status, const std::string& text) {
  INFO(status.message());
  return std::string(status.message()).find(text) != std::string::npos;
}

std::string Checkpoint(const std::string& name) {
  return ReadText(GoldenFolder(name) + "/model.safetensors");
}

TEST_CASE("RWKV's sizes are those of its tensors", "[convert][rwkv]") {
  for (const char* name : {"rwkv-5", "rwkv-6", "rwkv-7"}) {
    INFO(name);
    const auto c = ConvertFolder(GoldenFolder(name), convert::WeightFormat::kInt4);
    CHECK(c->summary.channels == 32);
    CHECK(c->summary.layers == 3);
    REQUIRE(c->model->linears.size() == 3);
    const model::LinearSpec& spec = c->model->linears[1];
    CHECK(spec.heads == 4);
    CHECK(spec.key_width == 8);
    CHECK(spec.value_width == 8);
    CHECK((spec.bonus != model::kNone) == (name[5] != '7'));
    CHECK(spec.update ==
          (name[5] == '7' ? model::StateUpdate::kDeltaUndecayed : model::StateUpdate::kAdditive));
    // Before a time mix and before a channel mix.
    CHECK(c->count(OpKind::kConvolution) == 6);
    // Matrices of low rank decide about decays: they stay floats in a file of integers.
    for (const TensorView& tensor : c->model->tensors) {
      if (tensor.name.find(".down") == std::string::npos) continue;
      CHECK(tensor.dtype == DType::kF16);
    }
  }
}

TEST_CASE("constants of RWKV-5 are made once", "[convert][rwkv]") {
  const auto c = ConvertFolder(GoldenFolder("rwkv-5"), convert::WeightFormat::kF32);
  const auto decays = c->floats(c->model->linears[0].log_decay);
  REQUIRE(decays.size() == 32);
  for (const float decay : decays) CHECK(decay < 0.0f);
  const std::vector<float> shift = c->floats(c->op(OpKind::kConvolution).weight.tensor);
  CHECK(shift.front() == 1.0f);
  CHECK(shift.back() == -1.0f);
}

TEST_CASE("checkpoints that RWKV's recipes cannot read are refused", "[convert][rwkv]") {
  const TempFolder folder;
  const std::string path = folder / "model.safetensors";
  const auto refusal = [&](const std::string& from, const std::string& to,
                           const char* name = "rwkv-6") {
    WriteText(path, Replaced(Checkpoint(name), from, to));
    return Refusal(folder.path());
  };
  // Names and shapes of the same length, so that the header's stays.
  CHECK(Says(refusal("blocks.0.att.time_maa_x", "blocks.0.att.time_maa_y"), "5.2, 6 or 7"));
  CHECK(Says(refusal("blocks.1.att.time_maa_x", "blocks.1.att.time_maa_y"),
             "lacks tensor \"blocks.1.att.time_maa_x\""));
  CHECK(Says(refusal("blocks.0.att.time_maa_w2", "blocks.0.att.time_maa_v2"),
             "lacks tensor \"blocks.0.att.time_maa_w2\""));
  CHECK(Says(refusal("blocks.2.ffn.receptance", "blocks.2.ffn.xeceptance"), "receptance"));
  CHECK(Says(refusal("blocks.0.att.gate", "blocks.0.att.gatX", "rwkv-5"), "5.2, 6 or 7"));
  CHECK(Says(refusal("blocks.2.att.r_k", "blocks.2.att.r_j", "rwkv-7"), "r_k"));
  CHECK(Says(refusal("emb.weight", "emb.xeight"), "config.json"));
}

TEST_CASE("first values that no layer reads may be there", "[convert][rwkv]") {
  const auto c =
      ConvertFolder(GoldenFolder("gguf/rwkv-7") + "/model.gguf", convert::WeightFormat::kF32);
  CHECK(c->model->linears.size() == 2);
  const auto six =
      ConvertFolder(GoldenFolder("gguf/rwkv-6") + "/model.gguf", convert::WeightFormat::kF32);
  CHECK(six->op(OpKind::kScale, 1).scale == 0.5f);  // behind the first layer
}

constexpr char kLines[] =
    "1 '\\x00' 1\n"
    "2 'a' 1\n"
    "3 b'\\xff' 1\n"
    "4 ' the' 4\n"
    "5 \"it's\" 4\n"
    "6 'ab' 2\n"
    "7 'abc' 3\n"
    "8 '\\n\\t\\\\' 3\n"
    "9 '\\u00e9' 2\n"
    "10 '\xc3\xa8' 2\n"
    "11 'b' 1\n"
    "12 b'\\xe2\\x82' 2\n";

TEST_CASE("the World vocabulary takes the longest token", "[convert][rwkv]") {
  const auto parsed = convert::ParseRwkvVocabulary(kLines, 16, "vocabulary");
  INFO(parsed.status().message());
  REQUIRE(parsed.ok());
  const auto& tokens = parsed.value().tokenizer.tokens;
  CHECK(tokens.size() == 16);
  CHECK(tokens[1] == std::string(1, '\0'));
  CHECK(tokens[3] == "\xff");
  CHECK(tokens[5] == "it's");
  CHECK(tokens[8] == "\n\t\\");
  CHECK(tokens[9] == "\xc3\xa9");
  CHECK(tokens[10] == "\xc3\xa8");
  CHECK(tokens[12] == "\xe2\x82");
  CHECK(tokens[13].empty());
  CHECK(parsed.value().tokenizer.end_tokens == std::vector<uint32_t>{0});
  OwnedSpec owned;
  FillSpec(parsed.value().tokenizer, owned);
  const auto tokenizer = text::Tokenizer::Create(owned.spec());
  REQUIRE(tokenizer.ok());
  const auto encode = [&](std::string_view text) {
    std::vector<int32_t> ids(32);
    size_t count = 0;
    const Status status = tokenizer.value()->Encode(text, 0, ids, &count);
    ids.resize(status.ok() ? count : 0);
    return ids;
  };
  CHECK(encode("abcababa") == std::vector<int32_t>{7, 6, 6, 2});
  CHECK(encode(" theit's\xff") == std::vector<int32_t>{4, 5, 3});
  CHECK(encode("\xc3\xa9\xc3\xa8\n\t\\b") == std::vector<int32_t>{9, 10, 8, 11});
  CHECK(encode("") == std::vector<int32_t>{});
  CHECK(encode("ac").empty());  // no token begins with c
  std::vector<int32_t> ids(4);
  size_t count = 0;
  CHECK(Says(tokenizer.value()->Encode("ac", 0, ids, &count), "no token begins with byte 0x63"));
}

TEST_CASE("lines that are no tokens are refused by their number", "[convert][rwkv]") {
  for (const auto& [line, fact] : std::initializer_list<std::pair<const char*, const char*>>{
           {"2 'a'", "is not an id"},
           {"x 'a' 1", "is not an id"},
           {"2 'a' y", "is not an id"},
           {"-2 'a' 1", "is not an id"},
           {"2 a 1", "holds no literal"},
           {"2 'a 1", "holds no literal"},
           {"2 ' 1", "holds no literal"},
           {"2 b 1", "holds no literal"},
           {"2 '\\q' 1", "holds no literal"},
           {"2 '\\x1' 1", "holds no literal"},
           {"2 '\\xg0' 1", "holds no literal"},
           {"2 b'\\u00e9' 2", "holds no literal"},
           {"2 '\\U00110000' 4", "holds no literal"},
           {"2 'a' 2", "has another number of bytes"},
           {"2 '' 0", "has another number of bytes"},
           {"0 'a' 1", "has an id outside"},
           {"16 'a' 1", "has an id outside"},
           {"4294967296 'a' 1", "is not an id"},
           {"1 'a' 1", "has an id that was there"},
       }) {
    INFO(line);
    const auto parsed =
        convert::ParseRwkvVocabulary(std::string("1 'b' 1\n") + line, 16, "vocabulary");
    REQUIRE_FALSE(parsed.ok());
    CHECK(Says(parsed.status(), "line 2 "));
    CHECK(Says(parsed.status(), fact));
  }
  CHECK(convert::ParseRwkvVocabulary("", 4, "empty").ok());
}

TEST_CASE("a folder's World vocabulary goes into the file", "[convert][rwkv]") {
  const TempFolder folder;
  WriteText(folder / "model.safetensors", Checkpoint("rwkv-7"));
  WriteText(folder / "rwkv_vocab_v20230424.txt", kLines);
  const auto c = ConvertFolder(folder.path(), convert::WeightFormat::kF32);
  CHECK(c->model->tokenizer.kind == model::TokenizerKind::kLongest);
  CHECK(c->model->tokenizer.tokens.size() == 64);
  CHECK(c->model->tokenizer.end_tokens == std::vector<uint32_t>{0});
  WriteText(folder / "rwkv_vocab_v20230424.txt", "99 'a' 1\n");
  CHECK(Says(Refusal(folder.path()), "line 1 has an id outside the vocabulary"));
}

}  // namespace
}  // namespace headroom::test
