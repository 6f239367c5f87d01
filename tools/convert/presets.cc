#include "convert/presets.h"

#include <cmath>
#include <cstring>

#include "base/half.h"

namespace headroom::convert {
namespace {

constexpr Preset kPresets[] = {
    {"llama-3.2-1b", R"({"architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
      "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
      "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
      "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
      "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
      "tie_word_embeddings": true})"},
    {"qwen2.5-0.5b", R"({"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu",
      "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
      "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
      "max_position_embeddings": 32768, "max_window_layers": 21, "sliding_window": 32768,
      "use_sliding_window": false, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
      "tie_word_embeddings": true})"},
    {"gemma-3-1b", R"({"architectures": ["Gemma3ForCausalLM"],
      "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
      "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
      "head_dim": 256, "vocab_size": 262144, "max_position_embeddings": 32768,
      "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
      "rope_local_base_freq": 10000.0, "sliding_window": 512, "sliding_window_pattern": 6})"},
    {"granite-3.0-1b-a400m", R"({"architectures": ["GraniteMoeForCausalLM"], "hidden_act": "silu",
      "hidden_size": 1024, "intermediate_size": 512, "num_hidden_layers": 24,
      "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 49155,
      "num_local_experts": 32, "num_experts_per_tok": 8, "max_position_embeddings": 4096,
      "attention_multiplier": 0.015625, "embedding_multiplier": 12.0, "logits_scaling": 6.0,
      "residual_multiplier": 0.22, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
      "tie_word_embeddings": true})"},
    // The attention of DeepSeek-V2-Lite in a dense model.
    {"mla-1b", R"({"architectures": ["DeepseekV2ForCausalLM"], "hidden_act": "silu",
      "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 16,
      "num_attention_heads": 16, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
      "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 1, "n_shared_experts": 1,
      "num_experts_per_tok": 1, "moe_intermediate_size": 1408, "first_k_dense_replace": 16,
      "vocab_size": 102400, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
      "rope_theta": 10000.0, "tie_word_embeddings": false})"},
    // As Qwen3.5-0.8B's text model: three of four layers are Gated DeltaNet.
    {"gdn-0.8b", R"({"architectures": ["Qwen3_5ForCausalLM"], "hidden_act": "silu",
      "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 24,
      "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
      "linear_num_key_heads": 16, "linear_num_value_heads": 16, "linear_key_head_dim": 128,
      "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "full_attention_interval": 4,
      "vocab_size": 248320, "max_position_embeddings": 262144, "rms_norm_eps": 1e-6,
      "partial_rotary_factor": 0.25, "rope_theta": 10000000.0, "tie_word_embeddings": true})"},
    {"qwen3-30b-a3b", R"({"architectures": ["Qwen3MoeForCausalLM"], "hidden_act": "silu",
      "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
      "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
      "head_dim": 128, "vocab_size": 151936, "num_experts": 128, "num_experts_per_tok": 8,
      "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
      "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
      "tie_word_embeddings": false})"},
    {"rwkv7-1.5b", R"({"architectures": ["RWKV-7"], "hidden_size": 2048,
      "intermediate_size": 8192, "num_hidden_layers": 24, "vocab_size": 65536, "head_size": 64,
      "decay_rank": 96, "rate_rank": 96, "value_rank": 64, "gate_rank": 256,
      "max_position_embeddings": 1048576})"},
    {"shvit-s1", R"({"architecture": "shvit_s1"})"},
    {"shvit-s2", R"({"architecture": "shvit_s2"})"},
    {"shvit-s3", R"({"architecture": "shvit_s3"})"},
    {"shvit-s4", R"({"architecture": "shvit_s4"})"},
    {"vit-tiny", R"({"architectures": ["ViTForImageClassification"], "hidden_act": "gelu",
      "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 12,
      "num_attention_heads": 3, "image_size": 224, "patch_size": 16, "num_channels": 3,
      "num_labels": 1000, "layer_norm_eps": 1e-6, "preprocessor": {"resample": 3,
        "size": {"shortest_edge": 248}, "do_center_crop": true, "crop_size": 224}})"},
};

}  // namespace

std::span<const Preset> Presets() { return kPresets; }

const Preset* FindPreset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name == name) return &preset;
  }
  return nullptr;
}

RandomWeights::RandomWeights(uint64_t seed, DType dtype, uint32_t columns)
    : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567u),
      dtype_(dtype),
      deviation_(1.0f / std::sqrt(static_cast<float>(columns))) {}

uint64_t RandomWeights::Next() {  // SplitMix64
  uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

void RandomWeights::FillData(std::span<std::byte> out) {
  const auto uniform = [](uint32_t bits) {  // standard deviation 1: width 2 sqrt 3
    return (static_cast<float>(bits >> 8) * 0x1p-24f - 0.5f) * 3.4641016f;
  };
  for (size_t at = 0; at < out.size();) {
    const uint64_t bits = Next();
    std::byte chunk[8];
    if (dtype_ == DType::kF32) {
      const float pair[2] = {uniform(static_cast<uint32_t>(bits)) * deviation_,
                             uniform(static_cast<uint32_t>(bits >> 32)) * deviation_};
      std::memcpy(chunk, pair, 8);
    } else if (dtype_ == DType::kF16) {
      for (int i = 0; i < 4; ++i) {
        const uint32_t part = static_cast<uint32_t>(bits >> (16 * i) & 0xffff) << 16;
        const uint16_t half = FloatToHalf(uniform(part) * deviation_);
        std::memcpy(chunk + 2 * i, &half, 2);
      }
    } else if (dtype_ == DType::kI4) {
      // Codes -8 become 0, so that the mean is zero.
      uint64_t codes = bits;
      for (int i = 0; i < 64; i += 4) {
        if ((codes >> i & 15) == 0) codes |= uint64_t{8} << i;
      }
      std::memcpy(chunk, &codes, 8);
    } else {
      std::memcpy(chunk, &bits, 8);
      for (std::byte& code : chunk) {
        if (code == std::byte{0x80}) code = std::byte{0};  // -128 is not a code
      }
    }
    const size_t taken = std::min<size_t>(8, out.size() - at);
    std::memcpy(out.data() + at, chunk, taken);
    at += taken;
  }
}

void RandomWeights::FillScales(std::span<std::byte> out, size_t bytes_per_scale) const {
  // Standard deviation of the codes above: sqrt(2 (1 + 4 + .. + 49) / 16), sqrt(2 sum(1..127)^2 /
  // 256).
  const float codes = dtype_ == DType::kI4 ? std::sqrt(280.0f / 16) : std::sqrt(1381760.0f / 256);
  const float scale = deviation_ / codes;
  const uint16_t rounded = dtype_ == DType::kI4 ? FloatToBfloat(scale) : FloatToHalf(scale);
  for (size_t at = 0; at < out.size(); at += bytes_per_scale) {
    if (bytes_per_scale == 2) {
      std::memcpy(out.data() + at, &rounded, 2);
    } else {
      std::memcpy(out.data() + at, &scale, 4);
    }
  }
}

}  // namespace headroom::convert
