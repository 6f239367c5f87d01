// Layers of linear attention: which numbers of the checkpoint become which tensors, and what is
// refused.
#include <cmath>

#include "tests/convert/converted.h"
#include "tests/convert/refusal.h"

#include "convert/source_tensor.h"

namespace headroom {
namespace {

using convert::WeightFormat;
using model::OpKind;
using test::ConvertCase;
using test::Converted;
using test::GoldenFolder;
using test::Refusal;
using test::Says;
using test::Source;

const model::Op& Named(const Converted& converted, const std::string& name) {
  for (const model::Op& op : converted.model->ops) {
    if (op.name == name) return op;
  }
  FAIL("no operation " << name);
  return converted.model->ops[0];
}

const TensorView& WeightOf(const Converted& converted, const std::string& name) {
  return converted.tensor(Named(converted, name).weight.tensor);
}

TEST_CASE("Mamba-2: constants are made once, from what the checkpoint has", "[convert][linear]") {
  const auto c = ConvertCase("mamba2");
  const std::string from = "backbone.layers.1.mixer.", to = "layers.1.attention.";
  constexpr uint32_t kHeads = 4, kValue = 12, kKeys = 20, kInner = 48, kTaps = 4;

  const auto a_log = Source("mamba2", from + "A_log"), skip = Source("mamba2", from + "D");
  const auto rate = c->floats(Named(*c, to + "decay.log").factor);
  const auto repeated = c->floats(Named(*c, to + "skip").factor);
  REQUIRE(repeated.size() == kInner);
  for (uint32_t h = 0; h < kHeads; ++h) CHECK(rate[h] == -std::exp(a_log[h]));
  for (uint32_t i = 0; i < kInner; ++i) CHECK(repeated[i] == skip[i / kValue]);

  // The bias of the steps is two vectors' sum.
  const auto bias = Source("mamba2", from + "in_proj.bias");
  const auto step = Source("mamba2", from + "dt_bias");
  const auto both = c->floats(Named(*c, to + "decay").weight.bias);
  for (uint32_t h = 0; h < kHeads; ++h) {
    CHECK(both[h] == step[h] + bias[2 * kInner + 2 * kKeys + h]);
  }

  // Of one convolution, channel by channel, three of their own, tap by tap.
  const auto taps = Source("mamba2", from + "conv1d.weight");
  const auto tap_bias = Source("mamba2", from + "conv1d.bias");
  uint32_t channel = 0;
  for (const auto& [part, width] :
       {std::pair("values", kInner), std::pair("keys", kKeys), std::pair("queries", kKeys)}) {
    const model::Op& op = Named(*c, to + "convolution." + part);
    CHECK((op.activated && op.activation == model::Activation::kSilu));
    const auto weight = c->floats(op.weight.tensor), added = c->floats(op.addend);
    REQUIRE(weight.size() == kTaps * width);
    for (uint32_t i = 0; i < width; ++i, ++channel) {
      CHECK(added[i] == tap_bias[channel]);
      for (uint32_t t = 0; t < kTaps; ++t)
        CHECK(weight[t * width + i] == taps[channel * kTaps + t]);
    }
  }
}

TEST_CASE("Mamba-1: the rates are turned round", "[convert][linear]") {
  const auto c = ConvertCase("mamba");
  constexpr uint32_t kState = 6, kInner = 48;
  const auto a_log = Source("mamba", "backbone.layers.0.mixer.A_log");
  const model::LinearSpec& spec = c->model->linears[0];
  CHECK(spec.decay == model::DecayKind::kDeltaTimesA);
  CHECK((spec.heads == 1 && spec.key_width == kState && spec.value_width == kInner));
  const auto rates = c->floats(spec.log_decay);
  for (uint32_t k = 0; k < kState; ++k) {
    for (uint32_t v = 0; v < kInner; ++v) {
      CHECK(rates[k * kInner + v] == -std::exp(a_log[v * kState + k]));
    }
  }
}

TEST_CASE("Qwen3-Next: rows that lie by head of keys are sorted by kind", "[convert][linear]") {
  const auto c = ConvertCase("qwen3-next");
  constexpr uint32_t kColumns = 32,
                     kGroup = 2 * 10 + 2 * 2 * 12;  // q, k, then v and z of two heads
  const auto rows = Source("qwen3-next", "model.layers.0.linear_attn.in_proj_qkvz.weight");
  const model::Op& keys = Named(*c, "layers.0.attention.keys");
  const auto stored = c->floats(keys.weight.tensor);
  for (uint32_t group = 0; group < 2; ++group) {
    for (uint32_t i = 0; i < 10 * kColumns; ++i) {
      CHECK(stored[(keys.weight.row_begin + group * 10) * kColumns + i] ==
            rows[(group * kGroup + 10) * kColumns + i]);
    }
  }
  // Of each head of attention its queries, then its gate.
  const auto query = Source("qwen3-next", "model.layers.1.self_attn.q_proj.weight");
  const auto gate = c->floats(Named(*c, "layers.1.attention.gate").weight.tensor);
  for (uint32_t head = 0; head < 4; ++head) {
    for (uint32_t i = 0; i < 16 * kColumns; ++i) {
      CHECK(gate[head * 16 * kColumns + i] == query[(2 * head + 1) * 16 * kColumns + i]);
    }
  }
  CHECK_FALSE(c->model->attentions[0].output.present());
}

TEST_CASE("Falcon-H1: multipliers are in the weights", "[convert][linear]") {
  const auto c = ConvertCase("falcon-h1");
  const std::string from = "model.layers.0.";
  const model::AttentionSpec& spec = c->model->attentions[0];
  const auto same = [&](const model::WeightRef& weight, const std::string& source, float scale,
                        float bias_scale) {
    INFO(source);
    const auto rows = Source("falcon-h1", from + source + ".weight");
    const auto bias = Source("falcon-h1", from + source + ".bias");
    const auto stored = c->floats(weight.tensor), stored_bias = c->floats(weight.bias);
    const size_t columns = rows.size() / bias.size();
    for (size_t i = 0; i < rows.size(); ++i) {
      CHECK(stored[weight.row_begin * columns + i] == rows[i] * scale);
    }
    for (size_t i = 0; i < bias.size(); ++i) {
      CHECK(stored_bias[weight.row_begin + i] == bias[i] * bias_scale);
    }
  };
  same(spec.query.weight, "self_attn.q_proj", 1.25f, 1.0f);
  same(spec.key.weight, "self_attn.k_proj", 1.25f * 0.5f, 0.5f);
  same(spec.value.weight, "self_attn.v_proj", 1.25f, 1.0f);
  same(spec.output, "self_attn.o_proj", 0.75f, 0.75f);
  same(Named(*c, "layers.0.mlp.down").weight, "feed_forward.down_proj", 0.6f, 0.6f);
  same(Named(*c, "layers.0.attention.linear.output").weight, "mamba.out_proj", 1.5f, 1.5f);
}

TEST_CASE("what decides about a state stays exact in a model of 4 bits", "[convert][linear]") {
  const auto c = ConvertCase("qwen3.5", WeightFormat::kInt4);
  CHECK(WeightOf(*c, "layers.0.attention.values").dtype == DType::kI4);
  CHECK(WeightOf(*c, "layers.0.attention.decay").dtype == DType::kF16);
  CHECK(WeightOf(*c, "layers.0.attention.strength").dtype == DType::kF16);
  const auto mamba = ConvertCase("mamba", WeightFormat::kInt4);
  CHECK(WeightOf(*mamba, "layers.0.attention.step").dtype == DType::kF16);
  CHECK(WeightOf(*mamba, "layers.0.attention.decay").dtype == DType::kF16);
}

TEST_CASE("the hybrid preset has three linear layers of four", "[convert][linear]") {
  test::TempFolder folder;
  convert::Options options;
  options.preset = "gdn-0.8b";
  options.out = folder / "gdn.hrm";
  options.outline = true;
  const auto summary = convert::Convert(options);
  INFO(summary.status().message());
  REQUIRE(summary.ok());
  CHECK(summary.value().layers == 24);
  const auto model = model::Model::OpenPath(options.out.c_str(), {});
  REQUIRE(model.ok());
  CHECK(model.value()->attentions.size() == 6);
  CHECK(model.value()->linears.size() == 18);
  CHECK(summary.value().parameters > 740'000'000);
  CHECK(summary.value().parameters < 760'000'000);
}

// The golden case with an interval in place of the list of its layers.
Result<convert::Summary> ConvertByInterval(const test::TempFolder& folder, const char* interval) {
  std::filesystem::copy(GoldenFolder("qwen3.5"), folder.path());
  const std::string path = folder / "config.json";
  std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  std::string text = test::ReadText(path);
  const size_t begin = text.find("\"layer_types\""), end = text.find("],", begin);
  REQUIRE(end != std::string::npos);
  test::WriteText(path, text.replace(begin, end + 2 - begin, interval));
  convert::Options options;
  options.source = folder.path();
  options.out = folder / "model.hrm";
  options.weights = WeightFormat::kF32;
  return convert::Convert(options);
}

TEST_CASE("an interval stands for a list of layers", "[convert][linear]") {
  test::TempFolder every_second, by_default;
  CHECK(ConvertByInterval(every_second, R"("full_attention_interval": 2,)").ok());
  // Every fourth is attention where nothing is said: all three of this case would be linear.
  CHECK(Says(ConvertByInterval(by_default, "").status(),
             "lacks tensor \"model.layers.1.linear_attn.out_proj.weight\""));
}

bool Logged(const Converted& converted, const std::string& line) {
  return std::find(converted.log.begin(), converted.log.end(), line) != converted.log.end();
}

TEST_CASE("of a model that reads images the text model stays", "[convert][linear]") {
  const std::string why = "left out, as the text model does not read it: ";
  for (const char* name : {"qwen3.5-vision", "qwen3.5-moe"}) {
    INFO(name);
    const auto c = ConvertCase(name);
    CHECK(Logged(*c, why + "21 tensors model.visual.*"));
    CHECK(Logged(*c, why + "1 tensor mtp.*"));
    for (const TensorView& tensor : c->model->tensors) {
      CHECK(tensor.name.find("visual") == std::string::npos);
    }
  }
  // The text model's own object says that its head is not tied; the whole model's counts.
  const auto tied = ConvertCase("qwen3.5-vision");
  const auto embedding = Source("qwen3.5-vision", "model.language_model.embed_tokens.weight");
  CHECK(tied->floats(
            tied->op(OpKind::kProjection, tied->count(OpKind::kProjection) - 1).weight.tensor) ==
        embedding);
  const auto alone = ConvertCase("qwen3.5");
  for (const std::string& line : alone->log) {
    CHECK(line.find("left out, as") == std::string::npos);
  }
}

TEST_CASE("of models with images, too, what may change the result is refused",
          "[convert][linear]") {
  const auto refusal = [](const char* from, const char* to) {
    return Refusal("qwen3.5-vision", from, to);
  };
  CHECK(Says(refusal(R"("text_config")", R"("words_config")"), "lacks \"text_config\""));
  CHECK(Says(refusal(R"("model_type": "qwen3_5",)", R"("residual_gain": 2,)"),
             "config.json: \"residual_gain\" (2) may change the result"));
  CHECK(Says(refusal(R"("use_cache": true)", R"("residual_gain": 2)"),
             "config.json text_config: \"residual_gain\" (2) may change the result"));
  CHECK(Says(refusal(R"("use_cache": true)", R"("output_gate_type": "sigmoid")"),
             "\"output_gate_type\" is \"sigmoid\""));
  CHECK(Says(refusal("\"transformers_version\": \"5.12.1\"", R"("use_mrope": true)"), "use_mrope"));
  CHECK(Says(refusal(R"("tie_word_embeddings": true)", R"("tie_word_embeddings": false)"),
             "lacks tensor \"lm_head.weight\""));
  CHECK(
      Says(Refusal("qwen3.5-moe", R"("output_router_logits": false)", R"("norm_topk_prob": false)"),
           "norm_topk_prob"));
}

TEST_CASE("a gate that is said to be silu is one", "[convert][linear]") {
  test::TempFolder folder;
  std::filesystem::copy(GoldenFolder("qwen3.5-vision"), folder.path());
  const std::string path = folder / "config.json";
  std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  test::WriteText(path, test::Replaced(test::ReadText(path), R"("use_cache": true)",
                                       R"("output_gate_type": "swish")"));
  CHECK(test::ConvertFolder(folder.path(), WeightFormat::kF32)->model->linears.size() == 2);
}

TEST_CASE("state space models that compute something else are refused", "[convert][linear]") {
  CHECK(Says(Refusal("mamba2", "Infinity", "0.5"), "\"time_step_limit\" is \"other than 0 to"));
  CHECK(Says(Refusal("mamba2", "0.0,\n    Infinity", "0.1,\n    Infinity"), "time_step_limit"));
  CHECK(Says(Refusal("mamba2", "Infinity", R"({"__float__": "NaN"})"), "a list of numbers"));
  CHECK(Says(Refusal("mamba2", "Infinity", "-Infinity"), "is not JSON"));
  CHECK(Says(Refusal("mamba2", R"("rms_norm": true)", R"("rms_norm": false)"), "rms_norm"));
  CHECK(Says(Refusal("mamba2", R"("silu")", R"("gelu")"), "silu beside linear attention"));
  CHECK(Says(Refusal("mamba2", R"("n_groups": 2)", R"("n_groups": 3)"),
             "4 heads of a state are no multiple of 3 of keys"));
  CHECK(Says(Refusal("mamba2", R"("head_dim": 12)", R"("head_dim": 13)"),
             "4 heads of 13 values are not 48 values together"));
  CHECK(Says(Refusal("mamba2", R"("conv_kernel": 4)", R"("conv_kernel": 9)"),
             "\"conv_kernel\" is 9"));
  CHECK(Says(Refusal("mamba2", R"("conv_kernel": 4)", R"("conv_kernel": 3)"),
             "conv1d.weight\" is [88, 1, 4], the configuration implies [88, 1, 3]"));
  CHECK(Says(Refusal("mamba2", R"("state_size": 10,)", ""), "lacks \"state_size\""));
  CHECK(Says(Refusal("mamba2", R"("use_cache": true)", R"("head_mixing": 2)"), "head_mixing"));
  CHECK(Says(Refusal("mamba", R"("time_step_rank": 5)", R"("time_step_rank": "most")"),
             "\"time_step_rank\" is \"most\""));
  CHECK(Says(Refusal("mamba", R"("time_step_rank": 5)", R"("time_step_rank": "auto")"), "x_proj"));
  CHECK(Says(Refusal("mamba", R"("expand": 2)", R"("expand": 1000)"), "\"expand\" is 1000"));
}

TEST_CASE("hybrids that compute something else are refused", "[convert][linear]") {
  const auto first = [](const char* type) {
    return Refusal("qwen3.5", R"("linear_attention",)", std::string("\"") + type + "\",");
  };
  CHECK(Says(first("sliding_attention"), "\"sliding_attention\""));
  CHECK(Says(first("full_attention"), "layers.0.self_attn"));  // the tensors are another layer's
  CHECK(Says(Refusal("qwen3.5", R"("linear_attention",)", ""), "2 layer_types for 3 layers"));
  CHECK(Says(Refusal("qwen3.5", R"("linear_num_key_heads": 2)", R"("linear_num_key_heads": 3)"),
             "4 heads of a state are no multiple of 3"));
  CHECK(Says(Refusal("qwen3.5", R"("linear_key_head_dim": 10)", R"("linear_key_head_dim": 600)"),
             "\"linear_key_head_dim\" is 600"));
  CHECK(Says(Refusal("qwen3.5", R"("use_cache": true)", R"("attn_output_gate": false)"),
             "attn_output_gate"));
  CHECK(Says(Refusal("qwen3-next", R"("use_cache": true)", R"("use_sliding_window": true)"),
             "use_sliding_window"));
  CHECK(Says(Refusal("qwen3.5", R"("rope_type": "default")", R"("rope_kind": 1)"), "rope_kind"));
  CHECK(Says(Refusal("falcon-h1", R"("mlp_multipliers": [)", R"("mlp_multipliers": [2.0,)"),
             "\"mlp_multipliers\" has 3 numbers, not 2"));
  CHECK(Says(Refusal("falcon-h1", R"("ssm_multipliers": [)", R"("ssm_multipliers": [2.0,)"),
             "\"ssm_multipliers\" has 6 numbers, not 5"));
  CHECK(Says(Refusal("falcon-h1", R"("mamba_rms_norm": true)", R"("mamba_rms_norm": false)"),
             "does not use tensor \"model.layers.0.mamba.norm.weight\""));
  CHECK(Says(Refusal("falcon-h1", R"("use_cache": true)", R"("mamba_use_mlp": false)"),
             "mamba_use_mlp"));
}

}  // namespace
}  // namespace headroom
