// GGUF metadata in the words of recipes: what is filled in, what is refused by its key.
#include "convert/gguf_model.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <memory>

#include "convert/shape.h"
#include "tests/convert/converted.h"
#include "tests/convert/gguf_fixture.h"

namespace headroom {
namespace {

using convert::DescribeGguf;
using convert::GgufModel;
using convert::GgufType;
using convert::ModelShape;
using test::GgufArray;
using test::GgufBytes;
using test::GgufEntry;
using test::GgufKey;
using test::Raw;

std::string Whole(const std::string& key, uint32_t value) {
  return GgufKey(key, GgufType::kU32, Raw(value));
}
std::string Real(const std::string& key, float value) {
  return GgufKey(key, GgufType::kF32, Raw(value));
}
std::string Words(const std::string& key, const std::string& value) {
  return GgufKey(key, GgufType::kText, test::GgufText(value));
}

// Metadata alone, and the tensors that it is read together with.
class File {
 public:
  explicit File(const std::string& architecture, uint32_t layers = 2) : a_(architecture + ".") {
    const bool layer_norm = architecture == "starcoder2" || architecture == "gpt2";
    bytes_.keys = {Words("general.architecture", architecture)};
    const std::pair<const char*, uint32_t> sizes[] = {
        {"context_length", 64},      {"embedding_length", 32},    {"block_count", layers},
        {"feed_forward_length", 48}, {"attention.head_count", 4}, {"attention.head_count_kv", 2}};
    for (const auto& [key, value] : sizes) U32(key, value);
    F32(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 1e-5f);
    Tensor("token_embd.weight", {32, 100});
  }
  File& U32(const std::string& key, uint32_t value) { return Add(Whole(a_ + key, value)); }
  File& F32(const std::string& key, float value) { return Add(Real(a_ + key, value)); }
  File& Text(const std::string& key, const std::string& value) {
    return Add(Words(a_ + key, value));
  }
  File& Flag(const std::string& key, bool value) {
    return Add(GgufKey(a_ + key, GgufType::kBool, value ? "\1" : std::string(1, '\0')));
  }
  File& Flags(const std::string& key, const std::string& values) {
    return Add(
        GgufKey(a_ + key, GgufType::kArray, GgufArray(GgufType::kBool, values.size(), values)));
  }
  File& Tensor(const std::string& name, const std::vector<uint64_t>& extents) {
    bytes_.entries.push_back(GgufEntry(name, extents, 0, bytes_.data.size()));
    uint64_t floats = 1;
    for (const uint64_t extent : extents) floats *= extent;
    for (uint64_t i = 0; i < floats; ++i) bytes_.data += Raw(static_cast<float>(i + 1));
    bytes_.data.resize((bytes_.data.size() + 31) / 32 * 32);
    return *this;
  }
  File& Add(const std::string& key) {
    bytes_.keys.push_back(key);
    return *this;
  }
  // Takes a key of the constructor away again.
  File& Without(const std::string& key) {
    std::erase_if(bytes_.keys, [&](const std::string& pair) {
      return pair.compare(8, a_.size() + key.size(), a_ + key) == 0;
    });
    return *this;
  }

  Result<GgufModel> Describe() const {
    static std::vector<std::unique_ptr<std::string>> kept;
    kept.push_back(std::make_unique<std::string>(bytes_.File()));
    auto parsed = convert::ParseGguf(std::as_bytes(std::span(*kept.back())), "x.gguf");
    INFO(parsed.status().message());
    REQUIRE(parsed.ok());
    return DescribeGguf(parsed.value(), "x.gguf");
  }

  ModelShape Shape() const {
    static std::vector<std::unique_ptr<GgufModel>> kept;
    auto described = Describe();
    INFO(described.status().message());
    REQUIRE(described.ok());
    kept.push_back(std::make_unique<GgufModel>(described.Take()));
    convert::Config config(kept.back()->config, "x.gguf");
    auto shape = convert::ReadShape(config, 0, &kept.back()->recipe);
    INFO(shape.status().message());
    REQUIRE(shape.ok());
    return shape.Take();
  }

  bool Refused(const std::string& part, StatusCode code = StatusCode::kUnsupported) const {
    const auto described = Describe();
    REQUIRE_FALSE(described.ok());
    UNSCOPED_INFO(described.status().message());
    return described.status().code() == code &&
           std::string(described.status().message()).find(part) != std::string::npos;
  }

 private:
  std::string a_;
  GgufBytes bytes_;
};

std::vector<uint32_t> Lefts(const ModelShape& shape) {
  std::vector<uint32_t> lefts;
  for (const convert::LayerShape& layer : shape.layers) lefts.push_back(layer.left);
  return lefts;
}

constexpr uint32_t kAll = kUnlimited;

TEST_CASE("sizes and biases of a GGUF file come from keys and tensors", "[convert][gguf]") {
  const ModelShape plain = File("llama").Shape();
  CHECK(plain.channels == 32);
  CHECK(plain.inner == 48);
  CHECK(plain.query_heads == 4);
  CHECK(plain.kv_heads == 2);
  CHECK(plain.head_width == 8);
  CHECK(plain.vocabulary == 100);
  CHECK(plain.context_tokens == 64);
  CHECK(plain.tied);
  CHECK_FALSE(plain.query_key_value_bias);
  CHECK(plain.ropes.at(0).base == 10000.0);
  CHECK(plain.recipe->rope_layout == model::RopeLayout::kInterleaved);
  const ModelShape more = File("qwen2")
                              .U32("attention.key_length", 24)
                              .U32("attention.value_length", 24)
                              .F32("rope.freq_base", 1e6f)
                              .Tensor("output.weight", {32, 100})
                              .Tensor("blk.0.attn_q.bias", {96})
                              .Tensor("blk.0.attn_output.bias", {32})
                              .Shape();
  CHECK(more.head_width == 24);
  CHECK_FALSE(more.tied);
  CHECK(more.query_key_value_bias);
  CHECK(more.attention_output_bias);
  CHECK_FALSE(more.mlp_bias);
  CHECK(more.ropes.at(0).base == 1e6);
  CHECK(more.recipe->rope_layout == model::RopeLayout::kHalfSplit);
  CHECK(
      File("llama").Tensor("blk.0.attn_qkv.weight", {32, 64}).Shape().recipe->names.query.empty());
}

TEST_CASE("norms and matrices of GGUF files are taken as they are", "[convert][gguf]") {
  CHECK_FALSE(File("gemma2").Shape().recipe->norm_plus_one);
  const ModelShape gpt2 = File("gpt2").Shape();
  CHECK_FALSE(gpt2.recipe->layers_transposed);
  CHECK(gpt2.recipe->names.positions == "position_embd");
}

TEST_CASE("what llama.cpp fixes for an architecture is filled in", "[convert][gguf]") {
  const uint32_t left = 7;
  CHECK(Lefts(File("gemma2", 3).U32("attention.sliding_window", 8).Shape()) ==
        std::vector<uint32_t>{left, kAll, left});
  CHECK(Lefts(File("gemma2", 2).Shape()) == std::vector<uint32_t>{4095, kAll});
  CHECK(Lefts(File("gemma3", 7).U32("attention.sliding_window", 8).Shape()) ==
        std::vector<uint32_t>{left, left, left, left, left, kAll, left});
  CHECK(Lefts(File("gemma3", 2).Shape()) == std::vector<uint32_t>{kAll, kAll});
  CHECK(Lefts(File("gemma3", 4)
                  .U32("attention.sliding_window", 8)
                  .U32("attention.sliding_window_pattern", 3)
                  .Shape()) == std::vector<uint32_t>{left, left, kAll, left});
  CHECK(Lefts(File("gemma3", 3)
                  .U32("attention.sliding_window", 8)
                  .Flags("attention.sliding_window_pattern", std::string("\0\1\0", 3))
                  .Shape()) == std::vector<uint32_t>{kAll, left, kAll});
  CHECK(Lefts(File("phi3").U32("attention.sliding_window", 8).Shape()) ==
        std::vector<uint32_t>{left, left});
  CHECK(Lefts(File("phi3").U32("attention.sliding_window", 0).Shape()) ==
        std::vector<uint32_t>{kAll, kAll});
  CHECK(Lefts(File("llama").U32("attention.sliding_window", 8).Shape()) ==
        std::vector<uint32_t>{left, left});
  const ModelShape smollm = File("smollm3", 5).Shape();
  for (size_t i = 0; i < 5; ++i) {
    CHECK((smollm.ropes.at(smollm.layers[i].rope).dims == 0) == (i == 3));
  }
  CHECK(File("gemma2", 2).Shape().attention_scale == 1.0f / std::sqrt(8.0f));
  CHECK(File("gemma2", 46).U32("attention.key_length", 16).Shape().attention_scale ==
        1.0f / std::sqrt(8.0f));
  CHECK(File("gemma2", 46).U32("attention.key_length", 16).Shape().head_width == 16);
  CHECK(File("granite").F32("logit_scale", 2.0f).Shape().attention_scale == 1.0f / std::sqrt(8.0f));
  const ModelShape granite = File("granite")
                                 .F32("logit_scale", 4.0f)
                                 .F32("attention.scale", 0.5f)
                                 .F32("residual_scale", 0.25f)
                                 .F32("embedding_scale", 12.0f)
                                 .Shape();
  CHECK(granite.logit_scale == 0.25f);
  CHECK(granite.attention_scale == 0.5f);
  CHECK(granite.residual_scale == 0.25f);
  CHECK(granite.embedding_scale == 12.0f);
}

TEST_CASE("rotary scaling of GGUF files is understood", "[convert][gguf]") {
  using convert::RopeScaling;
  const ModelShape linear =
      File("llama").Text("rope.scaling.type", "linear").F32("rope.scaling.factor", 4).Shape();
  CHECK(linear.ropes.at(0).scaling == RopeScaling::kLinear);
  CHECK(linear.ropes.at(0).factor == 4.0);
  CHECK(File("llama").F32("rope.scale_linear", 2).Shape().ropes.at(0).factor == 2.0);
  CHECK(File("llama").F32("rope.scaling.factor", 1).Shape().ropes.at(0).scaling ==
        RopeScaling::kNone);
  const ModelShape gemma = File("gemma3", 6)
                               .U32("attention.sliding_window", 8)
                               .F32("rope.freq_base", 1e6f)
                               .F32("rope.scaling.factor", 8)
                               .Shape();
  CHECK(gemma.ropes.at(gemma.layers[5].rope).factor == 8.0);
  CHECK(gemma.ropes.at(gemma.layers[0].rope).scaling == RopeScaling::kNone);
  CHECK(gemma.ropes.at(gemma.layers[0].rope).base == 10000.0);
  const ModelShape yarn = File("qwen2")
                              .Text("rope.scaling.type", "yarn")
                              .F32("rope.scaling.factor", 4)
                              .U32("rope.scaling.original_context_length", 16)
                              .F32("rope.scaling.attn_factor", 2)
                              .F32("rope.scaling.yarn_beta_fast", 16)
                              .Shape();
  CHECK(yarn.ropes.at(0).scaling == RopeScaling::kYarn);
  CHECK(yarn.ropes.at(0).original_context == 16.0);
  CHECK(yarn.ropes.at(0).beta_fast == 16.0);
  CHECK(std::abs(yarn.ropes.at(0).attention_factor - 2 * (0.1 * std::log(4.0) + 1)) < 1e-12);
  const ModelShape llama3 = File("llama").Tensor("rope_freqs.weight", {4}).Shape();
  CHECK(llama3.ropes.at(0).divisors == std::vector<double>{1, 2, 3, 4});
  CHECK(convert::ComputeRope(llama3.ropes[0]).attention_factor == 1.0f);
  CHECK(convert::ComputeRope(llama3.ropes[0]).inverse_frequencies[1] == 0.05f);
  const ModelShape phi = File("phi3")
                             .Tensor("rope_factors_long.weight", {3})
                             .Tensor("rope_factors_short.weight", {3})
                             .U32("rope.dimension_count", 6)
                             .U32("rope.scaling.original_context_length", 16)
                             .F32("rope.scaling.attn_factor", 1.25f)
                             .Shape();
  CHECK(phi.ropes.at(0).dims == 6);
  CHECK(phi.ropes.at(0).divisors == std::vector<double>{1, 2, 3});
  CHECK(phi.ropes.at(0).attention_factor == 1.25);
}

TEST_CASE("GGUF keys that nobody executes are refused by name", "[convert][gguf]") {
  CHECK(File("bloom").Refused("architecture \"bloom\""));
  CHECK(File("llama").F32("attention.clamp_kqv", 3).Refused("\"llama.attention.clamp_kqv\" may"));
  CHECK(File("llama").F32("attn_logit_softcapping", 3).Refused("attn_logit_softcapping"));
  CHECK(File("llama").F32("embedding_scale", 3).Refused("\"llama.embedding_scale\""));
  CHECK(File("qwen2").U32("expert_count", 8).Refused("\"qwen2.expert_count\" needs a mixture"));
  CHECK(File("llama").U32("expert_count", 0).Describe().ok());
  CHECK(File("llama").Flag("attention.causal", false).Refused("attention.causal"));
  CHECK(File("llama").U32("rope.dimension_count", 4).Refused("rope.dimension_count"));
  CHECK(File("llama").Text("rope.scaling.type", "dynamic").Refused("is \"dynamic\""));
  CHECK(File("llama").F32("rope.scaling.attn_factor", 2).Refused("attn_factor"));
  CHECK(File("llama").F32("rope.freq_base_swa", 7).Refused("rope.freq_base_swa"));
  CHECK(File("qwen2").F32("rope.scaling.yarn_ext_factor", 0.5f).Refused("yarn_ext_factor"));
  CHECK(File("qwen2").U32("attention.sliding_window", 8).Refused("attention.sliding_window"));
  CHECK(File("llama").U32("attention.value_length", 16).Refused("attention.value_length"));
  CHECK(File("granite")
            .F32("logit_scale", 2)
            .Flag("rope.scaling.finetuned", false)
            .Refused("rope.scaling.finetuned"));
  CHECK(File("llama").Add(Words("general.type", "adapter")).Refused("is \"adapter\""));
  CHECK(File("llama").Add(Whole("general.quantization_version", 1)).Refused("is not 2"));
  const auto list = [](const char* key, GgufType type, uint64_t count, const std::string& items) {
    return File("llama").Add(GgufKey(key, GgufType::kArray, GgufArray(type, count, items)));
  };
  // Of any length; its numbers would take eight bytes each.
  CHECK(list("general.quantization_version", GgufType::kU8, 1, "\2").Refused("is not 2"));
  CHECK(list("general.type", GgufType::kText, 0, "").Describe().ok());      // no text to go by
  CHECK(File("llama").Add(Words("adapter.type", "lora")).Describe().ok());  // no model's key
  CHECK(File("llama")
            .Add(GgufKey("llama.feed_forward_length2", GgufType::kU32, Raw<uint32_t>(1)))
            .Refused("feed_forward_length2"));
}

// With 8 experts, 2 a token.
File Mixture(const std::string& architecture, uint32_t experts = 8, uint32_t chosen = 2) {
  File file(architecture);
  file.U32("expert_count", experts).U32("expert_used_count", chosen);
  if (architecture == "granitemoe") file.F32("logit_scale", 2);
  return file;
}

TEST_CASE("experts of a GGUF file come from its keys", "[convert][gguf][mixture]") {
  const ModelShape mixtral = Mixture("llama").Shape();
  CHECK(mixtral.recipe->architecture == "MixtralForCausalLM");
  CHECK(mixtral.recipe->rope_layout == model::RopeLayout::kInterleaved);
  CHECK(mixtral.mixture.experts == 8);
  CHECK(mixtral.mixture.chosen == 2);
  CHECK(mixtral.mixture.inner == 48);
  CHECK(mixtral.mixture.renormalise);
  CHECK(mixtral.layers.at(1).mixture);
  CHECK(Lefts(Mixture("llama").U32("attention.sliding_window", 8).Shape()) ==
        std::vector<uint32_t>{7, 7});
  const ModelShape qwen2 = Mixture("qwen2moe").Shape();  // sizes as llama.cpp derives them
  CHECK(qwen2.mixture.inner == 24);
  CHECK(qwen2.mixture.shared_inner == 48);
  CHECK_FALSE(qwen2.mixture.renormalise);
  const ModelShape stated = Mixture("qwen2moe")
                                .U32("expert_feed_forward_length", 40)
                                .U32("expert_shared_feed_forward_length", 80)
                                .Shape();
  CHECK(stated.mixture.inner == 40);
  CHECK(stated.mixture.shared_inner == 80);
  CHECK(stated.inner == 48);
  CHECK(Mixture("qwen3moe").Shape().mixture.renormalise);
  CHECK_FALSE(Mixture("olmoe").Shape().mixture.renormalise);
  CHECK(Mixture("granitemoe").Shape().recipe->rope_layout == model::RopeLayout::kInterleaved);
  const ModelShape oss =
      Mixture("gpt-oss").U32("attention.sliding_window", 8).U32("expert_gating_func", 3).Shape();
  CHECK(Lefts(oss) == std::vector<uint32_t>{7, kAll});
  CHECK(oss.mixture.limit == 7.0f);
  CHECK(oss.recipe->names.mlp_norm == "post_attention_norm");
}

TEST_CASE("keys of experts that say what nobody executes are refused", "[convert][gguf][mixture]") {
  CHECK(Mixture("qwen3moe").Flag("expert_weights_norm", true).Describe().ok());
  CHECK(Mixture("qwen3moe").Flag("expert_weights_norm", false).Refused("expert_weights_norm"));
  CHECK(Mixture("olmoe").Flag("expert_weights_norm", true).Refused("expert_weights_norm"));
  CHECK(Mixture("gpt-oss").Flag("expert_weights_norm", true).Describe().ok());  // their sum is 1
  CHECK(Mixture("olmoe").F32("expert_weights_scale", 1).Describe().ok());
  CHECK(
      Mixture("olmoe").F32("expert_weights_scale", 2.5f).Refused("expert_weights_scale\" is 2.5"));
  CHECK(Mixture("olmoe").U32("expert_gating_func", 1).Describe().ok());
  CHECK(Mixture("olmoe").U32("expert_gating_func", 2).Refused("expert_gating_func\" is 2, not 1"));
  CHECK(Mixture("gpt-oss").U32("expert_gating_func", 1).Refused("is 1, not 3"));
  CHECK(Mixture("olmoe").U32("expert_shared_feed_forward_length", 8).Refused("means nothing"));
  CHECK(Mixture("qwen3moe").U32("expert_group_count", 2).Refused("expert_group_count\" may"));
  CHECK(Mixture("qwen3moe").U32("leading_dense_block_count", 1).Refused("leading_dense"));
  CHECK(Mixture("granitemoe").Flag("rope.scaling.finetuned", false).Refused("finetuned"));
}

TEST_CASE("counts of experts beyond their limits are refused", "[convert][gguf][mixture]") {
  CHECK(Mixture("qwen3moe", 0).Refused("\"qwen3moe.expert_count\" is 0, must be 1 to 4096"));
  CHECK(Mixture("llama", 1u << 31).Refused("\"llama.expert_count\" is 2147483648, must be"));
  CHECK(Mixture("llama", 4097).Refused("is 4097, must be 1 to 4096"));
  CHECK(Mixture("llama", 8, 0).Refused("\"llama.expert_used_count\" is 0, must be 1 to 8"));
  CHECK(Mixture("llama", 8, 9).Refused("\"llama.expert_used_count\" is 9, must be 1 to 8"));
  CHECK(Mixture("llama", 1024, 257).Refused("is 257, must be 1 to 256"));
  CHECK(File("olmoe").Refused("lacks \"olmoe.expert_count\"", StatusCode::kCorrupt));
  CHECK(File("olmoe").F32("expert_count", 2.5f).Refused("is 2.5, must be"));
  auto rows = Mixture("qwen3moe", 4096).U32("expert_feed_forward_length", 1u << 20).Describe();
  REQUIRE(rows.ok());
  convert::Config config(rows.value().config, "x.gguf");
  const auto shape = convert::ReadShape(config, 0, &rows.value().recipe);
  REQUIRE_FALSE(shape.ok());
  CHECK(std::string(shape.status().message()).find("more rows than 2^32") != std::string::npos);
}

TEST_CASE("GGUF metadata that contradicts itself is refused", "[convert][gguf]") {
  const auto corrupt = StatusCode::kCorrupt;
  CHECK(File("llama").Without("block_count").Refused("lacks \"llama.block_count\"", corrupt));
  CHECK(File("llama").U32("vocab_size", 99).Refused("not the 100 rows", corrupt));
  CHECK(
      File("llama").Without("block_count").Text("block_count", "2").Refused("no number", corrupt));
  CHECK(File("llama")
            .Without("embedding_length")
            .F32("embedding_length", NAN)
            .Refused("finite", corrupt));
  CHECK(File("llama")
            .Without("attention.head_count")
            .U32("attention.head_count", 0)
            .Refused("heads", corrupt));
  CHECK(File("llama").Tensor("rope_freqs.weight", {2, 2}).Refused("short list", corrupt));
  CHECK(File("gemma3", 3)
            .U32("attention.sliding_window", 8)
            .Flags("attention.sliding_window_pattern", std::string("\0\1", 2))
            .Refused("neither a period nor a list", corrupt));
  const std::string two = Raw<uint32_t>(4) + Raw<uint32_t>(2);
  CHECK(File("llama")
            .Without("attention.head_count")
            .Add(GgufKey("llama.attention.head_count", GgufType::kArray,
                         GgufArray(GgufType::kU32, 2, two)))
            .Refused("differs between layers"));
}

TEST_CASE("a GGUF file keeps the types of its tensors and says what was lost", "[convert][gguf]") {
  const auto keep = [](const std::string& name, bool explicitly) {
    auto converted = std::make_unique<test::Converted>();
    convert::Options options;
    options.source = test::GoldenFolder("gguf/" + name + "/model.gguf");
    options.out = converted->folder / "model.hrm";
    if (explicitly) options.weights = convert::WeightFormat::kKeep;
    auto summary = convert::Convert(options);
    INFO(summary.status().message());
    REQUIRE(summary.ok());
    converted->summary = summary.Take();
    auto model = model::Model::OpenPath(options.out.c_str(), {});
    REQUIRE(model.ok());
    converted->model = model.Take();
    return converted;
  };
  // The down projections have 48 columns, no whole blocks: llama-quantize made them F16.
  const auto check = [](const test::Converted& c, DType dtype, const char* type, float low,
                        float high) {
    size_t matrices = 0;
    for (size_t i = 0; i < c.model->tensors.size(); ++i) {
      const TensorView& tensor = c.model->tensors[i];
      const model::TensorOrigin& origin = c.model->origins[i];
      INFO(tensor.name);
      const bool fixed = tensor.name.find("inverse_frequencies") != std::string_view::npos;
      const bool down = tensor.name.ends_with("mlp.down") && std::string_view(type) != "F32";
      if (tensor.rank != 2 || down) {
        CHECK(tensor.dtype == (down ? DType::kF16 : DType::kF32));
        CHECK(origin.source_type == (fixed ? "" : down ? "F16" : "F32"));
        CHECK(origin.error == (fixed ? -1.0f : 0.0f));
        continue;
      }
      ++matrices;
      CHECK(tensor.dtype == dtype);
      CHECK(origin.source_type == type);
      CHECK(origin.error >= low);
      CHECK(origin.error <= high);
    }
    CHECK(matrices >= 8);
  };
  for (const bool explicitly : {false, true}) {
    check(*keep("llama", explicitly), DType::kF32, "F32", 0.0f, 0.0f);
    check(*keep("llama-q8_0", explicitly), DType::kI8, "Q8_0", 0.0f, 0.0f);
    check(*keep("llama-q4_0", explicitly), DType::kI4, "Q4_0", 1e-5f, 0x1p-9f);
  }
  const auto q4 = keep("llama-q4_0", false);
  CHECK(q4->summary.largest_error > 1e-5f);
  CHECK_FALSE(q4->summary.largest_error_tensor.empty());
  CHECK(keep("llama-q8_0", false)->summary.largest_error_tensor.empty());
  const auto halves = test::ConvertFolder(test::GoldenFolder("gguf/llama-q8_0/model.gguf"),
                                          convert::WeightFormat::kF16);
  check(*halves, DType::kF16, "Q8_0", 1e-5f, 0x1p-11f);
}

TEST_CASE("a GGUF file converts, and truncated or misfitting ones do not", "[convert][gguf]") {
  const std::string path = test::GoldenFolder("gguf/llama/model.gguf");
  const auto converted = test::ConvertFolder(path, convert::WeightFormat::kF32);
  CHECK(converted->summary.architecture == "LlamaForCausalLM");
  CHECK(converted->summary.tokenizer == "none");
  test::TempFolder folder;
  const std::string file = test::ReadText(path);
  convert::Options options;
  options.source = folder / "x.gguf";
  options.out = folder / "x.hrm";
  const auto refused = [&](const std::string& bytes) {
    test::WriteText(options.source, bytes);
    const auto summary = convert::Convert(options);
    REQUIRE_FALSE(summary.ok());
    CHECK_FALSE(std::filesystem::exists(options.out));
    return std::string(summary.status().message());
  };
  for (size_t bytes = 4; bytes < file.size(); bytes += 997) refused(file.substr(0, bytes));
  CHECK(refused(test::Replaced(file, "blk.1.ffn_up.weight", "blk.1.ffn_xp.weight"))
            .find("lacks tensor \"blk.1.ffn_up.weight\"") != std::string::npos);
  CHECK(refused(test::Replaced(file, "blk.1.ffn_up.bias", "blk.1.ffn_xp.bias"))
            .find("lacks tensor \"blk.1.ffn_up.bias\"") != std::string::npos);
}

}  // namespace
}  // namespace headroom
