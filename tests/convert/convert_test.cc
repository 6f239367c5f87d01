// Whole conversions of the golden checkpoints: what stands in the file. That the converted models
// compute the reference's logits is tests/session/golden_test.cc.
#include "convert/convert.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "convert/json_file.h"
#include "convert/presets.h"
#include "convert/safetensors.h"
#include "tests/convert/converted.h"
#include "text/tokenizer.h"

namespace headroom {
namespace {

using convert::Options;
using convert::WeightFormat;
using model::OpKind;
using test::ConvertCase;
using test::Converted;
using test::ConvertFolder;
using test::GoldenFolder;
using test::Source;
using test::TempFolder;

const std::vector<std::string> kCases = {
    "llama-gqa", "llama-mqa",  "llama-yarn", "llama-bias", "qwen2",    "qwen3",      "gemma2",
    "gemma3",    "mistral",    "stablelm",   "phi",        "gpt-neox", "starcoder2", "cohere",
    "phi3-long", "phi3-short", "olmo2",      "granite",    "smollm3",  "gpt2"};

std::vector<float> Joined(std::initializer_list<std::vector<float>> parts) {
  std::vector<float> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

TEST_CASE("every golden checkpoint converts to every format", "[convert]") {
  for (const std::string& name : kCases) {
    uint64_t larger = UINT64_MAX;
    for (const WeightFormat format :
         {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
      INFO(name << " format " << static_cast<int>(format));
      const auto converted = ConvertCase(name, format);
      CHECK(converted->summary.layers == 2);
      CHECK(converted->summary.vocabulary == 64);
      CHECK(converted->model->metadata.vocabulary == 64);
      CHECK(converted->model->metadata.context_tokens == 128);
      CHECK(converted->model->metadata.name == name);
      CHECK(converted->model->attentions.size() == 2);
      CHECK(converted->model->tokenizer.end_tokens == std::vector<uint32_t>{2});
      CHECK(converted->model->tokenizer.kind == model::TokenizerKind::kNone);
      CHECK(converted->summary.weight_bytes < larger);
      larger = converted->summary.weight_bytes;
    }
  }
}

TEST_CASE("q, k and v are one matrix, gate and up another", "[convert]") {
  const auto c = ConvertCase("llama-gqa");
  const model::AttentionSpec& a = c->model->attentions[1];
  const std::string layer = "model.layers.1.";
  CHECK(a.query.weight.tensor == a.key.weight.tensor);
  CHECK(a.query.weight.tensor == a.value.weight.tensor);
  CHECK((a.query.weight.row_begin == 0 && a.query.weight.rows == 64));
  CHECK((a.key.weight.row_begin == 64 && a.key.weight.rows == 32));
  CHECK((a.value.weight.row_begin == 96 && a.value.weight.rows == 32));
  CHECK(c->floats(a.query.weight.tensor) ==
        Joined({Source("llama-gqa", layer + "self_attn.q_proj.weight"),
                Source("llama-gqa", layer + "self_attn.k_proj.weight"),
                Source("llama-gqa", layer + "self_attn.v_proj.weight")}));
  CHECK(c->floats(a.output.tensor) == Source("llama-gqa", layer + "self_attn.o_proj.weight"));
  CHECK(a.head_map == std::vector<uint16_t>{0, 0, 1, 1});
  CHECK(a.scale == 0.25f);
  CHECK(a.left == kUnlimited);
  CHECK(a.query.weight.bias == model::kNone);
  const model::Op& wide = c->op(OpKind::kProjection, 2);  // gate_up, down, then layer 1
  CHECK(wide.weight.rows == 64);
  CHECK(c->floats(wide.weight.tensor) ==
        Joined({Source("llama-gqa", layer + "mlp.gate_proj.weight"),
                Source("llama-gqa", layer + "mlp.up_proj.weight")}));
  CHECK(c->op(OpKind::kGatedActivation).activation == model::Activation::kSilu);
}

TEST_CASE("biases are fused like their matrices", "[convert]") {
  const auto c = ConvertCase("llama-bias");
  const model::AttentionSpec& a = c->model->attentions[0];
  const std::string layer = "model.layers.0.";
  CHECK(c->floats(a.key.weight.bias) ==
        Joined({Source("llama-bias", layer + "self_attn.q_proj.bias"),
                Source("llama-bias", layer + "self_attn.k_proj.bias"),
                Source("llama-bias", layer + "self_attn.v_proj.bias")}));
  CHECK(c->floats(a.output.bias) == Source("llama-bias", layer + "self_attn.o_proj.bias"));
  CHECK(c->floats(c->op(OpKind::kProjection, 0).weight.bias) ==
        Joined({Source("llama-bias", layer + "mlp.gate_proj.bias"),
                Source("llama-bias", layer + "mlp.up_proj.bias")}));
  const auto qwen = ConvertCase("qwen2");
  CHECK(qwen->model->attentions[0].query.weight.bias != model::kNone);
  CHECK(qwen->model->attentions[0].output.bias == model::kNone);
}

TEST_CASE("rotary frequencies are tensors with their scaling applied", "[convert]") {
  const auto c = ConvertCase("llama-gqa");
  const model::RopeSpec& rope = c->model->attentions[0].key.rope;
  CHECK(rope.dims == 16);
  CHECK(rope.attention_factor == 1.0f);
  const std::vector<float> f = c->floats(rope.inverse_frequencies);
  REQUIRE(f.size() == 8);
  for (size_t i = 0; i < 8; ++i) {  // llama3: factor 8, low 1, high 4, original 16
    const double plain = std::pow(100.0, -2.0 * static_cast<double>(i) / 16);
    const double turns = 16 * plain / (2 * 3.141592653589793);
    const double smooth = std::min(1.0, std::max(0.0, (turns - 1) / 3));
    CHECK(f[i] == Catch::Approx(plain * (smooth + (1 - smooth) / 8)).epsilon(1e-6));
  }
  const auto yarn = ConvertCase("llama-yarn");
  CHECK(yarn->model->attentions[0].key.rope.attention_factor ==
        Catch::Approx(0.1 * std::log(4.0) + 1.0));
  CHECK(yarn->floats(yarn->model->attentions[0].key.rope.inverse_frequencies) != f);
}

TEST_CASE("partial and interleaved rotation are carried over", "[convert]") {
  CHECK(ConvertCase("stablelm")->model->attentions[0].key.rope.dims == 8);
  CHECK(ConvertCase("phi")->model->attentions[0].key.rope.dims == 8);
  CHECK(ConvertCase("gpt-neox")->model->attentions[0].key.rope.dims == 4);
  CHECK(ConvertCase("cohere")->model->attentions[0].key.rope.layout ==
        model::RopeLayout::kInterleaved);
}

TEST_CASE("tied embeddings are stored once", "[convert]") {
  const auto tied = ConvertCase("llama-mqa");
  const model::Op& head = tied->model->ops.back();
  REQUIRE(head.kind == OpKind::kProjection);
  CHECK(head.weight.tensor == tied->op(OpKind::kEmbedding).weight.tensor);
  const auto untied = ConvertCase("llama-gqa");
  CHECK(untied->model->ops.back().weight.tensor != untied->op(OpKind::kEmbedding).weight.tensor);
}

TEST_CASE("a head of another type than its tied embedding is stored beside it", "[convert]") {
  const auto c =
      ConvertFolder(GoldenFolder("llama-mqa"), WeightFormat::kF32, 32, WeightFormat::kInt8);
  const TensorView& head = c->tensor(c->model->ops.back().weight.tensor);
  const TensorView& embedding = c->tensor(c->op(OpKind::kEmbedding).weight.tensor);
  REQUIRE(head.dtype == DType::kI8);
  REQUIRE(embedding.dtype == DType::kF32);
  REQUIRE(head.rows() == embedding.rows());
  const auto* codes = reinterpret_cast<const int8_t*>(head.data);
  const auto* scales = reinterpret_cast<const float*>(head.scales);
  for (uint32_t i = 0; i < head.rows() * head.columns(); ++i) {
    const float scale = scales[i / head.columns()];
    CHECK(std::abs(static_cast<float>(codes[i]) * scale - embedding.f32()[i]) <= scale * 0.5001f);
  }
  const auto four =
      ConvertFolder(GoldenFolder("llama-gqa"), WeightFormat::kInt4, 32, WeightFormat::kInt4);
  CHECK(four->tensor(four->model->ops.back().weight.tensor).dtype == DType::kI4);
  CHECK(four->tensor(four->op(OpKind::kEmbedding).weight.tensor).dtype == DType::kI8);
}

TEST_CASE("Gemma: norms folded, embedding scaled, caps, windows and bases by layer", "[convert]") {
  const auto c = ConvertCase("gemma2");
  const std::vector<float> source = Source("gemma2", "model.layers.0.input_layernorm.weight");
  const std::vector<float> stored = c->floats(c->op(OpKind::kNorm).norm.weight);
  REQUIRE(stored.size() == source.size());
  for (size_t i = 0; i < source.size(); ++i) REQUIRE(stored[i] == source[i] + 1.0f);
  CHECK(c->count(OpKind::kNorm) == 2 * 4 + 1);
  CHECK(c->op(OpKind::kEmbedding).scale == 8.0f);
  CHECK(c->op(OpKind::kGatedActivation).activation == model::Activation::kGeluTanh);
  CHECK(c->model->attentions[0].left == 7);
  CHECK(c->model->attentions[1].left == kUnlimited);
  CHECK(c->model->attentions[0].softcap == 3.0f);
  CHECK(c->model->attentions[0].scale == Catch::Approx(1 / std::sqrt(32.0)));
  CHECK(c->model->ops.back().kind == OpKind::kSoftcap);
  CHECK(c->model->ops.back().scale == 5.0f);

  const auto g3 = ConvertCase("gemma3");
  const auto local = g3->floats(g3->model->attentions[0].key.rope.inverse_frequencies);
  const auto global = g3->floats(g3->model->attentions[1].key.rope.inverse_frequencies);
  CHECK(local[1] == Catch::Approx(std::pow(20.0, -2.0 / 16)));
  CHECK(global[1] == Catch::Approx(std::pow(500.0, -2.0 / 16) / 4));
  CHECK(g3->model->attentions[0].query.norm.present());
  CHECK(g3->floats(g3->model->attentions[0].key.norm.weight)[3] ==
        Source("gemma3", "model.layers.0.self_attn.k_norm.weight")[3] + 1.0f);
}

TEST_CASE("windows count without self", "[convert]") {
  const auto c = ConvertCase("mistral");
  for (const auto& a : c->model->attentions) CHECK(a.left == 7);
  const auto qwen = ConvertCase("qwen2");  // outlives the loop over its parts
  for (const auto& a : qwen->model->attentions) CHECK(a.left == kUnlimited);
}

TEST_CASE("parallel residuals share or do not share their norm", "[convert]") {
  CHECK(ConvertCase("phi")->count(OpKind::kNorm) == 2 + 1);
  CHECK(ConvertCase("cohere")->count(OpKind::kNorm) == 2 + 1);
  const auto neox = ConvertCase("gpt-neox");
  REQUIRE(neox->count(OpKind::kNorm) == 2 * 2 + 1);
  // Both norms of a layer read the same value.
  CHECK(neox->op(OpKind::kNorm, 0).inputs[0] == neox->op(OpKind::kNorm, 1).inputs[0]);
  const auto stable = ConvertCase("stablelm");
  CHECK(stable->op(OpKind::kNorm, 0).inputs[0] != stable->op(OpKind::kNorm, 1).inputs[0]);
  CHECK(ConvertCase("cohere")->model->ops.back().kind == OpKind::kScale);
  CHECK(ConvertCase("phi")->model->ops.back().weight.bias != model::kNone);
}

TEST_CASE("interleaved q, k, v rows are put in order", "[convert]") {
  const auto c = ConvertCase("gpt-neox");
  const auto source = Source("gpt-neox", "gpt_neox.layers.0.attention.query_key_value.weight");
  const auto stored = c->floats(c->model->attentions[0].query.weight.tensor);
  REQUIRE(stored.size() == source.size());
  for (size_t part = 0; part < 3; ++part) {
    for (size_t h = 0; h < 4; ++h) {
      for (size_t d = 0; d < 16; ++d) {
        const size_t to = (part * 64 + h * 16 + d) * 64, from = (h * 48 + part * 16 + d) * 64;
        REQUIRE(std::equal(stored.begin() + static_cast<ptrdiff_t>(to),
                           stored.begin() + static_cast<ptrdiff_t>(to + 64),
                           source.begin() + static_cast<ptrdiff_t>(from)));
      }
    }
  }
}

TEST_CASE("matrices that a checkpoint has fused stay as they are", "[convert]") {
  const auto c = ConvertCase("phi3-long");
  const model::AttentionSpec& a = c->model->attentions[1];
  const std::string layer = "model.layers.1.";
  CHECK(c->floats(a.query.weight.tensor) ==
        Source("phi3-long", layer + "self_attn.qkv_proj.weight"));
  CHECK((a.key.weight.row_begin == 64 && a.value.weight.row_begin == 96 &&
         a.value.weight.rows == 32));
  CHECK(c->floats(c->op(OpKind::kProjection, 2).weight.tensor) ==
        Source("phi3-long", layer + "mlp.gate_up_proj.weight"));
  CHECK(c->op(OpKind::kGatedActivation).activation == model::Activation::kSilu);
}

// What the log says about longrope; "" for nothing.
std::string LongRopeLine(const Converted& c) {
  for (const std::string& line : c.log) {
    if (line.starts_with("longrope")) return line;
  }
  return "";
}

TEST_CASE("longrope: the stored context decides which factors a file has", "[convert]") {
  const auto factor = [](const Converted& c, size_t i) {
    const model::RopeSpec& rope = c.model->attentions[0].key.rope;
    CHECK(rope.dims == 12);  // three quarters of a head
    return std::pow(100.0, -2.0 * static_cast<double>(i) / 12) /
           c.floats(rope.inverse_frequencies)[i];
  };
  const auto far = ConvertCase("phi3-long");  // 128 tokens, first trained with 16
  CHECK(factor(*far, 0) == Catch::Approx(1.2).epsilon(1e-6));
  CHECK(factor(*far, 5) == Catch::Approx(9.0).epsilon(1e-6));
  CHECK(far->model->attentions[0].key.rope.attention_factor ==
        Catch::Approx(std::sqrt(1 + std::log(8.0) / std::log(16.0))));
  CHECK(LongRopeLine(*far).find("more than 16 tokens") != std::string::npos);
  CHECK(LongRopeLine(*far).find("--context 16 ") != std::string::npos);

  const auto near = ConvertCase("phi3-short");  // 128 tokens, first trained with 128
  CHECK(factor(*near, 5) == Catch::Approx(2.5).epsilon(1e-6));
  CHECK(near->model->attentions[0].key.rope.attention_factor ==
        Catch::Approx(std::sqrt(1 + std::log(4.0) / std::log(128.0))));
  CHECK(LongRopeLine(*near).find("up to 128 tokens") != std::string::npos);

  TempFolder folder;
  Converted shortened;
  Options options;
  options.source = GoldenFolder("phi3-long");
  options.out = folder / "model.hrm";
  options.weights = WeightFormat::kF32;
  options.context = 16;
  REQUIRE(convert::Convert(options).value().context_tokens == 16);
  shortened.model = model::Model::OpenPath(options.out.c_str(), {}).Take();
  CHECK(shortened.model->metadata.context_tokens == 16);
  CHECK(factor(shortened, 5) == Catch::Approx(2.5).epsilon(1e-6));
  CHECK(shortened.model->attentions[0].key.rope.attention_factor ==
        far->model->attentions[0].key.rope.attention_factor);
  options.context = 129;
  CHECK(std::string(convert::Convert(options).status().message()) ==
        "context 129 > trained maximum 128");
}

TEST_CASE("OLMo 2: norms behind the branches only, q and k normed over the row", "[convert]") {
  const auto c = ConvertCase("olmo2");
  CHECK(c->count(OpKind::kNorm) == 2 * 2 + 1);
  const model::AttentionSpec& a = c->model->attentions[0];
  CHECK((a.query.norm.whole_row && a.key.norm.whole_row));
  CHECK(c->floats(a.query.norm.weight).size() == 64);
  CHECK(c->floats(a.key.norm.weight) == Source("olmo2", "model.layers.0.self_attn.k_norm.weight"));
  CHECK(c->floats(a.key.norm.weight).size() == 32);
  // Attention reads the embedding itself, the first norm what attention gave.
  CHECK(c->op(OpKind::kAttention).inputs[0] == c->op(OpKind::kEmbedding).output);
  CHECK(c->op(OpKind::kNorm).inputs[0] == c->op(OpKind::kAttention).output);
  const auto qwen = ConvertCase("qwen3");
  CHECK_FALSE(qwen->model->attentions[0].query.norm.whole_row);
}

TEST_CASE("Granite: four multipliers", "[convert]") {
  const auto c = ConvertCase("granite");
  CHECK(c->op(OpKind::kEmbedding).scale == 1.5f);
  CHECK(c->model->attentions[0].scale == 0.375f);
  REQUIRE(c->count(OpKind::kScale) == 2 * 2 + 1);
  CHECK(c->op(OpKind::kScale).scale == 0.625f);
  CHECK(c->op(OpKind::kScale).inputs[0] == c->op(OpKind::kAttention).output);
  CHECK(c->model->ops.back().kind == OpKind::kScale);
  CHECK(c->model->ops.back().scale == 1.0f / 3.0f);
}

TEST_CASE("SmolLM3: layers without rotation, and windows on those", "[convert]") {
  const auto c = ConvertCase("smollm3");
  CHECK(c->model->attentions[0].key.rope.dims == 0);
  CHECK(c->model->attentions[0].left == 7);
  CHECK(c->model->attentions[1].key.rope.dims == 16);
  CHECK(c->model->attentions[1].left == kUnlimited);
}

TEST_CASE("SmolLM3: the interval stands for lists that a file does not have", "[convert]") {
  TempFolder folder;
  std::filesystem::copy(GoldenFolder("smollm3"), folder.path());
  const std::string path = folder / "config.json";
  std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  auto config = convert::Json::parse(test::ReadText(path));
  for (const char* key : {"no_rope_layers", "layer_types", "tie_word_embeddings"}) {
    config.erase(key);
  }
  config["no_rope_layer_interval"] = 2;
  test::WriteText(path, config.dump());
  const auto c = ConvertFolder(folder.path(), WeightFormat::kF32);
  CHECK(c->model->attentions[0].key.rope.dims == 16);
  CHECK(c->model->attentions[0].left == kUnlimited);
  CHECK(c->model->attentions[1].key.rope.dims == 0);
  CHECK(c->model->attentions[1].left == 7);
}

TEST_CASE("GPT-2: matrices turned, positions added, no rotation", "[convert]") {
  const auto c = ConvertCase("gpt2");
  const auto source = Source("gpt2", "transformer.h.1.attn.c_attn.weight");  // [K = 48, N = 144]
  const auto stored = c->floats(c->model->attentions[1].query.weight.tensor);
  REQUIRE(stored.size() == source.size());
  for (size_t n = 0; n < 144; ++n) {
    for (size_t k = 0; k < 48; ++k) REQUIRE(stored[n * 48 + k] == source[k * 144 + n]);
  }
  const model::AttentionSpec& a = c->model->attentions[1];
  CHECK((a.query.weight.rows == 48 && a.key.weight.row_begin == 48 &&
         a.value.weight.row_begin == 96));
  CHECK(c->floats(a.query.weight.bias) == Source("gpt2", "transformer.h.1.attn.c_attn.bias"));
  CHECK(a.key.rope.dims == 0);
  const model::Op& positions = c->op(OpKind::kPositionEmbedding);
  CHECK(positions.inputs[0] == 0);
  CHECK(c->floats(positions.weight.tensor) == Source("gpt2", "transformer.wpe.weight"));
  CHECK(c->op(OpKind::kAdd).inputs[0] == c->op(OpKind::kEmbedding).output);
  CHECK(c->op(OpKind::kAdd).inputs[1] == positions.output);
  CHECK(c->model->ops.back().weight.tensor == c->op(OpKind::kEmbedding).weight.tensor);
}

// As the first published files of GPT-2 are: no prefix, and the causal mask among the tensors.
TEST_CASE("GPT-2: tensor names without their prefix, and a shorter context", "[convert]") {
  TempFolder folder;
  const std::string source = GoldenFolder("gpt2");
  const std::string file = test::ReadText(source + "/model.safetensors");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);
  std::string header = file.substr(8, header_bytes);
  const std::string prefix = "\"transformer.";
  for (size_t at = 0; (at = header.find(prefix)) != std::string::npos;) {
    header.replace(at, prefix.size(), "\"");
  }
  const std::string data = file.substr(8 + header_bytes);
  header.insert(1, R"("h.0.attn.bias":{"dtype":"F32","shape":[1],"data_offsets":[)" +
                       std::to_string(data.size()) + "," + std::to_string(data.size() + 4) + "]},");
  test::WriteText(folder / "model.safetensors", test::Safetensors(header, data + "mask"));
  test::WriteText(folder / "config.json", test::ReadText(source + "/config.json"));
  Converted bare;
  Options options;
  options.source = folder.path();
  options.out = bare.folder / "model.hrm";
  options.weights = WeightFormat::kF32;
  options.context = 40;
  const auto summary = convert::Convert(options);
  INFO(summary.status().message());
  REQUIRE(summary.ok());
  bare.model = model::Model::OpenPath(options.out.c_str(), {}).Take();
  const auto full = ConvertCase("gpt2");
  CHECK(bare.floats(bare.model->attentions[0].output.tensor) ==
        full->floats(full->model->attentions[0].output.tensor));
  CHECK(bare.tensor(bare.op(OpKind::kPositionEmbedding).weight.tensor).rows() == 40);
}

TEST_CASE("formats: vocabulary matrices stay at int8, norms at f32", "[convert]") {
  const auto c = ConvertCase("llama-gqa", WeightFormat::kInt4);
  CHECK(c->tensor(c->op(OpKind::kEmbedding).weight.tensor).dtype == DType::kI8);
  CHECK(c->tensor(c->model->ops.back().weight.tensor).dtype == DType::kI8);
  CHECK(c->tensor(c->op(OpKind::kNorm).norm.weight).dtype == DType::kF32);
  const TensorView& qkv = c->tensor(c->model->attentions[0].query.weight.tensor);
  CHECK(qkv.dtype == DType::kI4);
  CHECK(qkv.block == 32);
  const auto source = Source("llama-gqa", "model.layers.0.self_attn.q_proj.weight");
  double error = 0, power = 0;
  for (size_t k = 0; k < source.size(); ++k) {
    const auto byte = std::to_integer<uint8_t>(qkv.data[k / 2]);
    const int code = (k % 2 ? byte >> 4 : byte & 15) - 8;
    const float scale = BfloatToFloat(reinterpret_cast<const uint16_t*>(qkv.scales)[k / 32]);
    error += std::pow(source[k] - double{scale} * code, 2);
    power += std::pow(source[k], 2);
  }
  CHECK(error < 0.01 * power);
  const auto eight = ConvertFolder(GoldenFolder("llama-gqa"), WeightFormat::kInt8, 32);
  const TensorView& blocks = eight->tensor(eight->model->attentions[0].query.weight.tensor);
  REQUIRE(blocks.dtype == DType::kI8);
  REQUIRE(blocks.block == 32);
  for (size_t k = 0; k < source.size(); ++k) {
    const float scale = HalfToFloat(reinterpret_cast<const uint16_t*>(blocks.scales)[k / 32]);
    const auto code = static_cast<int8_t>(blocks.data[k]);
    REQUIRE(std::fabs(source[k] - scale * static_cast<float>(code)) <= 0.57f * scale);
  }
  const auto half = ConvertCase("llama-gqa", WeightFormat::kF16);
  const TensorView& wide = half->tensor(half->model->attentions[0].query.weight.tensor);
  REQUIRE(wide.dtype == DType::kF16);
  CHECK(reinterpret_cast<const uint16_t*>(wide.data)[5] == FloatToHalf(source[5]));
}

TEST_CASE("a block that does not divide the columns gets smaller, with a line in the log",
          "[convert]") {
  const auto c = ConvertFolder(GoldenFolder("llama-gqa"), WeightFormat::kInt4, 128);
  CHECK(c->tensor(c->model->attentions[0].query.weight.tensor).block == 64);  // 64 columns
  CHECK(c->tensor(c->op(OpKind::kProjection, 1).weight.tensor).block == 32);  // down: 32 columns
  CHECK(std::any_of(c->log.begin(), c->log.end(), [](const std::string& line) {
    return line.find("layers.0.mlp.down is stored as int4 in blocks of 32") != std::string::npos;
  }));
  const auto rows = ConvertFolder(GoldenFolder("llama-gqa"), WeightFormat::kInt4, 0);
  CHECK(rows->tensor(rows->model->attentions[0].query.weight.tensor).block == 0);
  CHECK(rows->log.size() == 1);  // only that there is no tokenizer
}

TEST_CASE("a tokenizer beside the weights is taken in, or left out when asked", "[convert]") {
  TempFolder folder;
  std::filesystem::copy(GoldenFolder("llama-gqa"), folder.path());
  test::WriteText(folder / "tokenizer.json",
                  R"({"added_tokens":[{"id":3,"content":"<e>"}],"normalizer":{"type":"NFC"},)"
                  R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
                  R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})");
  test::WriteText(folder / "tokenizer_config.json", R"({"chat_template":"{{ messages }}"})");
  test::WriteText(folder / "generation_config.json",
                  R"({"eos_token_id":[3,5,9999],"temperature":0.6,"top_k":20,"top_p":0.9})");
  const auto with = ConvertFolder(folder.path(), WeightFormat::kInt8);
  const model::TokenizerSpec& spec = with->model->tokenizer;
  CHECK(with->summary.tokenizer == "byte-level BPE");
  REQUIRE(spec.kind == model::TokenizerKind::kByteBpe);
  CHECK(spec.tokens[2] == "ab");
  CHECK(spec.tokens[3] == "<e>");
  REQUIRE(spec.merges.size() == 1);
  CHECK(spec.merges[0].result == 2);
  CHECK(spec.chat_template == "{{ messages }}");
  CHECK(spec.chat_format.empty());
  REQUIRE(spec.normal_steps.size() == 1);
  CHECK(spec.normal_steps[0].form == model::NormalForm::kNfc);
  CHECK(spec.end_tokens == std::vector<uint32_t>{3, 5});
  CHECK(with->model->sampling.temperature == 0.6f);
  CHECK(with->model->sampling.top_k == 20);

  TempFolder out;
  Options options;
  options.source = folder.path();
  options.out = out / "model.hrm";
  options.chat_format = "chatml";
  CHECK(convert::Convert(options).value().chat_format == "chatml");
  options.without_tokenizer = true;
  const Status status = convert::Convert(options).status();
  CHECK(std::string(status.message()) ==
        "chat format chatml needs a tokenizer, and the model will have none");
  options.chat_format = "";
  CHECK(convert::Convert(options).value().tokenizer == "none");
}

TEST_CASE("a unigram tokenizer beside the weights encodes after opening", "[convert]") {
  TempFolder folder;
  std::filesystem::copy(GoldenFolder("llama-gqa"), folder.path());
  test::WriteText(
      folder / "tokenizer.json",
      R"({"added_tokens":[{"id":0,"content":"<unk>","special":true}],"pre_tokenizer":{"type":)"
      R"("Metaspace","replacement":"\u2581"},"decoder":{"type":"Metaspace","replacement":"\u2581"},)"
      R"("model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0],["a",-2.0],["b",-2.5],)"
      R"(["\u2581a",-1.0],["ab",-3.0],["\u2581",-4.0]]}})");
  const auto converted = ConvertFolder(folder.path(), WeightFormat::kInt8);
  CHECK(converted->summary.tokenizer == "SentencePiece unigram");
  const auto tokenizer = text::Tokenizer::Create(converted->model->tokenizer);
  REQUIRE(tokenizer.ok());
  std::vector<int32_t> ids(6);
  size_t count = 0;
  REQUIRE(tokenizer.value()->Encode("aab zz b", 0, ids, &count).ok());
  CHECK(ids == std::vector<int32_t>{3, 4, 5, 0, 5, 2});
  std::string shown(4, '?');
  REQUIRE(tokenizer.value()->Decode(std::vector<int32_t>{3, 4, 3}, {}, &count).code() ==
          StatusCode::kBufferTooSmall);
  shown.resize(count);
  REQUIRE(tokenizer.value()->Decode(std::vector<int32_t>{3, 4, 3}, shown, &count).ok());
  CHECK(shown == "aab a");
}

TEST_CASE("random weights have zero mean and deviation 1 / sqrt K in every form", "[convert]") {
  constexpr uint32_t kColumns = 256;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kI8, DType::kI4}) {
    INFO(DTypeName(dtype));
    convert::RandomWeights random(7, dtype, kColumns);
    std::vector<std::byte> data(64 * 1024);
    std::vector<std::byte> scale(4);
    random.FillData(data);
    random.FillScales(scale, 4);
    const float s = *reinterpret_cast<const float*>(scale.data());
    double sum = 0, squares = 0;
    size_t count = 0;
    const auto add = [&](double v) {
      sum += v;
      squares += v * v;
      ++count;
    };
    for (size_t i = 0; i < data.size(); i += dtype == DType::kF32   ? 4
                                             : dtype == DType::kF16 ? 2
                                                                    : 1) {
      const uint8_t byte = std::to_integer<uint8_t>(data[i]);
      uint16_t half;
      float word;
      switch (dtype) {
        case DType::kF32:
          std::memcpy(&word, &data[i], 4);
          add(word);
          break;
        case DType::kF16:
          std::memcpy(&half, &data[i], 2);
          add(HalfToFloat(half));
          break;
        case DType::kI8:
          add(s * static_cast<int8_t>(byte));
          break;
        default:
          add(s * ((byte & 15) - 8));
          add(s * ((byte >> 4) - 8));
          break;
      }
    }
    CHECK(sum / static_cast<double>(count) == Catch::Approx(0.0).margin(0.002));
    CHECK(std::sqrt(squares / static_cast<double>(count)) == Catch::Approx(1.0 / 16).epsilon(0.02));
    convert::RandomWeights again(7, dtype, kColumns);
    std::vector<std::byte> same(data.size());
    again.FillData(same);
    CHECK(same == data);
  }
}

}  // namespace
}  // namespace headroom
