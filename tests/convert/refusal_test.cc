// What the converter refuses, by name.
#include "convert/convert.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>

#include "convert/checkpoint_fit.h"
#include "convert/json_file.h"
#include "convert/shape.h"
#include "tests/convert/fixture.h"
#include "tests/convert/refusal.h"

namespace headroom {
namespace {

using convert::Options;
using convert::WeightFormat;
using test::GoldenFolder;
using test::Refusal;
using test::Replaced;
using test::Says;
using test::TempFolder;

// Of the shape that a golden case's changed config.json is, with the tensors `names`.
Status Misfit(const std::string& name, const std::vector<std::pair<std::string, std::string>>& from,
              convert::TensorIndex tensors = {}) {
  std::string text = test::ReadText(GoldenFolder(name) + "/config.json");
  for (const auto& [old, changed] : from) text = Replaced(text, old, changed);
  convert::Config config(convert::ParseJson(text, "config.json").Take(), "config.json");
  auto shape = convert::ReadShape(config, 0);
  REQUIRE(shape.ok());
  return convert::FitToCheckpoint(convert::Checkpoint({}, std::move(tensors)), shape.value());
}

TEST_CASE("what a configuration claims is compared with the checkpoint before it is planned",
          "[convert][hostile]") {
  const std::pair<std::string, std::string> layers = {R"("num_hidden_layers": 2)",
                                                      R"("num_hidden_layers": 4096)"};
  const std::string dense = "gpt_neox.layers.0.attention.dense.weight";
  const std::string qkv = "gpt_neox.layers.0.attention.query_key_value.weight";
  CHECK(Says(Misfit("gpt-neox", {layers}), "lacks tensor \"" + dense + "\""));
  CHECK(Says(Misfit("gpt-neox", {layers}, {{dense, {}}}), "lacks tensor \"" + qkv + "\""));
  CHECK(Says(Misfit("gpt-neox", {layers}, {{dense, {}}, {qkv, {nullptr, {191, 64}}}}),
             "is of 191 rows, the configuration implies 192"));
  CHECK(Says(Misfit("gpt-neox", {layers,
                                 {R"("num_attention_heads": 4)",
                                  R"("num_attention_heads": 1024, "head_dim": 8)"}}),
             "4194304 heads in all layers together > 262144"));

  const std::pair<std::string, std::string> experts = {R"("num_local_experts": 5)",
                                                       R"("num_local_experts": 4096)"};
  const std::string output = "model.layers.0.self_attn.o_proj.weight";
  const std::string moe = "model.layers.0.block_sparse_moe.experts.";
  CHECK(Says(Misfit("mixtral", {experts}, {{output, {}}, {moe + "4095.w2.weight", {}}}),
             "lacks tensor \"" + moe + "0.w2.weight\""));
  CHECK(Says(Misfit("mixtral", {experts, layers}),
             "16777216 experts in all layers together > 262144"));
}

TEST_CASE("heads that are fused one by one cannot share keys and values", "[convert]") {
  CHECK(Says(Refusal("gpt-neox", R"("num_attention_heads": 4)",
                     R"("num_attention_heads": 4, "num_key_value_heads": 2)"),
             "2 KV heads, this architecture has all 4"));
}

TEST_CASE("refusals show limits as they are written and what else can be done", "[convert]") {
  CHECK(
      Says(Refusal("llama-gqa", R"("num_hidden_layers": 2)", R"("num_hidden_layers": 1000000000)"),
           "\"num_hidden_layers\" is 1000000000, must be 1 to 4096"));
  CHECK(Says(Refusal("qwen3", R"("num_hidden_layers": 2)", R"("num_hidden_layers": -3)"),
             "is -3, must be 1 to 4096"));
  CHECK(Says(Refusal("llama-gqa", R"("vocab_size": )", R"("vocab_size": "64", "x": )"),
             "\"vocab_size\" is '64', expected a number"));
  CHECK(Says(Refusal("llama-gqa", "LlamaForCausalLM", "ZebraForCausalLM"),
             "`headroom convert --help` lists"));
}

TEST_CASE("keys that may change the result are refused by name", "[convert]") {
  CHECK(Says(Refusal("llama-gqa", R"("use_cache": true)", R"("use_cache": true, "surprise": 3)"),
             "\"surprise\" (3) may change the result"));
  CHECK(Says(Refusal("llama-gqa", R"("llama3")", R"("dynamic")"), "\"dynamic\""));
  CHECK(
      Says(Refusal("llama-gqa", R"("factor": 8.0)", R"("factor": 8.0, "other": 1)"), "\"other\""));
  CHECK(Says(Refusal("llama-gqa", R"("silu")", R"("snake")"), "\"snake\""));
  CHECK(Says(Refusal("llama-gqa", "LlamaForCausalLM", "ZebraForCausalLM"), "ZebraForCausalLM"));
  CHECK(Says(Refusal("llama-gqa", R"("use_cache": true)", R"("quantization_config": {"bits": 4})"),
             "quantization_config"));
  CHECK(Says(Refusal("stablelm", R"("qk_layernorm": false)", R"("qk_layernorm": true)"),
             "qk_layernorm"));
  CHECK(
      Says(Refusal("cohere", R"("use_qk_norm": false)", R"("use_qk_norm": true)"), "use_qk_norm"));
  CHECK(Says(Refusal("gemma2", R"("sliding_attention")", R"("chunked_attention")"),
             "chunked_attention"));
  CHECK(Says(Refusal("gemma3", R"("use_bidirectional_attention": false)",
                     R"("use_bidirectional_attention": true)"),
             "use_bidirectional_attention"));
}

TEST_CASE("what only other code than the reference would read must say nothing", "[convert]") {
  CHECK(Says(Refusal("phi3-long", R"("use_cache": true)", R"("attention_bias": true)"),
             "\"attention_bias\" is \"true\""));
  CHECK(Says(Refusal("llama-gqa", R"("use_cache": true)", R"("rope_interleaved": true)"),
             "rope_interleaved"));
  CHECK(Says(Refusal("qwen2", R"("use_cache": true)", R"("use_mrope": true)"), "use_mrope"));
  CHECK(Says(Refusal("llama-gqa", R"("use_cache": true)", R"("residual_multiplier": 0.5)"),
             "residual_multiplier"));
  CHECK(Says(Refusal("llama-gqa", R"("use_cache": true)", R"("no_rope_layers": [1, 0])"),
             "no_rope_layers"));
  CHECK(Says(Refusal("smollm3", R"("use_sliding_window": true)", R"("use_sliding_window": false)"),
             "use_sliding_window"));
}

TEST_CASE("Step-3 with other heads, experts or lists of layers is refused", "[convert][hostile]") {
  const auto list = [](const char* text) {
    return Refusal("step3", R"("moe_layers_enum": "0,2")",
                   std::string(R"("moe_layers_enum": )") + text);
  };
  CHECK(Says(list(R"("0,3")"), "\"moe_layers_enum\" at character 2: no layer of 3"));
  CHECK(Says(list(R"("0,-1")"), "at character 2: no layer of 3"));
  CHECK(Says(list(R"("99999999999999999999")"), "at character 0: no layer of 3"));
  CHECK(Says(list(R"("")"), "at character 0: no layer of 3"));
  CHECK(Says(list(R"("0,")"), "at character 2: no layer of 3"));
  CHECK(Says(list(R"("0 2")"), "at character 2: no comma"));
  CHECK(Says(list("[0, 2]"), "\"moe_layers_enum\""));
  CHECK(Says(list(R"("0,1")"), "model.layers.1.moe."));  // the tensors are another layer's
  CHECK(Says(Refusal("step3", R"("num_attention_groups": 1)", R"("num_attention_groups": 2)"),
             "2 KV heads, this architecture has 1"));
  CHECK(Says(Refusal("step3", R"("share_q_dim": 12,)", ""), "lacks \"share_q_dim\""));
  CHECK(Says(Refusal("step3", R"("share_q_dim": 12)", R"("share_q_dim": 13)"), "q_proj"));
  CHECK(Says(Refusal("step3", R"("use_moe": true)", R"("use_moe": false)"), "use_moe"));
  CHECK(Says(Refusal("step3", R"("use_moe": true)", R"("hidden_act": "snake")"), "snake"));
  CHECK(Says(Refusal("step3", R"("moe_top_k": 2)", R"("moe_top_k": 6)"), "moe_top_k"));
  CHECK(Says(Refusal("step3", "Step3TextForCausalLM", "Step3VLForConditionalGeneration"),
             "Step3VLForConditionalGeneration"));
}

TEST_CASE("GPT-2 variants that scale attention otherwise are refused", "[convert]") {
  CHECK(Says(Refusal("gpt2", R"("scale_attn_weights": true)", R"("scale_attn_weights": false)"),
             "\"scale_attn_weights\" is \"false\""));
  CHECK(Says(Refusal("gpt2", R"("scale_attn_by_inverse_layer_idx": false)",
                     R"("scale_attn_by_inverse_layer_idx": true)"),
             "scale_attn_by_inverse_layer_idx"));
  CHECK(Says(Refusal("gpt2", R"("use_cache": true)", R"("rope_theta": 100.0)"), "rope_theta"));
}

TEST_CASE("longrope that does not fit together is refused", "[convert]") {
  CHECK(Says(
      Refusal("phi3-short", R"("partial_rotary_factor": 0.75)", R"("partial_rotary_factor": 0.5)"),
      "\"short_factor\" has 6 numbers, not 4"));
  CHECK(Says(Refusal("phi3-short", R"("long_factor": [)", R"("long_factor": [0, )"),
             "\"long_factor\"[0] is 0"));
  CHECK(Says(Refusal("phi3-short", R"("original_max_position_embeddings": 128,)", ""),
             "lacks \"original_max_position_embeddings\""));
  CHECK(Says(Refusal("phi3-long", R"("original_max_position_embeddings": 16,)",
                     R"("original_max_position_embeddings": 32,)"),
             "original_max_position_embeddings"));
}

TEST_CASE("numbers that cannot be are refused by name", "[convert]") {
  CHECK(Says(Refusal("llama-gqa", R"("hidden_size": 64)", R"("hidden_size": 0)"),
             "\"hidden_size\" is 0"));
  CHECK(
      Says(Refusal("llama-gqa", R"("hidden_size": 64)", R"("hidden_size": 1e300)"), "hidden_size"));
  CHECK(
      Says(Refusal("llama-gqa", R"("hidden_size": 64)", R"("hidden_size": "64")"), "hidden_size"));
  CHECK(Says(Refusal("llama-gqa", R"("hidden_size": 64,)", ""), "lacks \"hidden_size\""));
  CHECK(Says(Refusal("llama-gqa", R"("num_key_value_heads": 2)", R"("num_key_value_heads": 3)"),
             "4 query heads are no multiple of 3 KV heads"));
  CHECK(Says(Refusal("llama-gqa", R"("head_dim": 16)", R"("head_dim": 15)"), "odd"));
  CHECK(Says(Refusal("llama-gqa", R"("high_freq_factor": 4.0)", R"("high_freq_factor": 1.0)"),
             "high_freq_factor"));
  CHECK(Says(Refusal("llama-gqa", R"("rope_theta": 100.0)", R"("rope_theta": -1)"), "rope_theta"));
}

TEST_CASE("tensors that do not fit the configuration are named", "[convert]") {
  CHECK(Says(Refusal("llama-gqa", R"("intermediate_size": 32)", R"("intermediate_size": 48)"),
             "mlp.gate_proj.weight\" is [32, 64], the configuration implies [48, 64]"));
  CHECK(Says(Refusal("llama-gqa", R"("attention_bias": false)", R"("attention_bias": true)"),
             "lacks tensor \"model.layers.0.self_attn.q_proj.bias\""));
  CHECK(Says(Refusal("llama-bias", R"("attention_bias": true)", R"("attention_bias": false)"),
             "does not use tensor \"model.layers.0.self_attn"));
  CHECK(Says(Refusal("llama-gqa", R"("num_hidden_layers": 2)", R"("num_hidden_layers": 1)"),
             "does not use tensor \"model.layers.1."));
}

// A two-layer checkpoint is too much here: one matrix is damaged in place.
Status ConvertDamaged(float value, WeightFormat format) {
  TempFolder folder;
  std::filesystem::copy(GoldenFolder("llama-gqa"), folder.path());
  const std::string path = folder / "model.safetensors";
  std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  std::string file = test::ReadText(path);
  std::memcpy(file.data() + file.size() - 4, &value, 4);
  test::WriteText(path, file);
  Options options;
  options.source = folder.path();
  options.out = folder / "model.hrm";
  options.weights = format;
  return convert::Convert(options).status();
}

TEST_CASE("weights that are not numbers, or too large for the format, are refused", "[convert]") {
  CHECK(Says(ConvertDamaged(NAN, WeightFormat::kInt8), "holds nan in row"));
  CHECK(Says(ConvertDamaged(INFINITY, WeightFormat::kF32), "holds inf in row"));
  CHECK(ConvertDamaged(7e4f, WeightFormat::kF32).ok());
}

TEST_CASE("random presets: same seed, same file; names are listed on a mistake", "[convert]") {
  Options options;
  options.preset = "llama-9";
  options.out = "/nonexistent/x.hrm";
  CHECK(Says(
      convert::Convert(options).status(),
      "llama-3.2-1b qwen2.5-0.5b gemma-3-1b granite-3.0-1b-a400m mla-1b gdn-0.8b qwen3-30b-a3b"));
  options.source = "also";
  CHECK(Says(convert::Convert(options).status(), "either"));
  options.preset.clear();
  options.block = 48;
  CHECK(Says(convert::Convert(options).status(), "block 48"));
  CHECK(convert::PresetNames().size() == 13);
  CHECK(convert::ArchitectureNames().size() >= 16);
  CHECK(convert::ParseWeightFormat("int4").value() == WeightFormat::kInt4);
  CHECK(Says(convert::ParseWeightFormat("int5").status(), "int5"));
}

}  // namespace
}  // namespace headroom
