// RWKV in GGUF files, under the authors' names: a file's tensors get them, and its keys become the
// configuration that the authors' files do not have.
#include "convert/gguf_keys.h"
#include "convert/rwkv.h"

namespace headroom::convert {
namespace {

struct Name {
  std::string_view gguf, author;
};
constexpr Name kOutside[] = {{"token_embd.weight", "emb.weight"},
                             {"token_embd_norm.weight", "blocks.0.ln0.weight"},
                             {"token_embd_norm.bias", "blocks.0.ln0.bias"},
                             {"output_norm.weight", "ln_out.weight"},
                             {"output_norm.bias", "ln_out.bias"},
                             {"output.weight", "head.weight"}};
// Behind "blk.N." and "blocks.N.", before ".weight" or ".bias".
constexpr Name kModules[] = {
    {"attn_norm", "ln1"},
    {"attn_norm_2", "ln2"},
    {"time_mix_ln", "att.ln_x"},
    {"time_mix_receptance", "att.receptance"},
    {"time_mix_key", "att.key"},
    {"time_mix_value", "att.value"},
    {"time_mix_gate", "att.gate"},
    {"time_mix_output", "att.output"},
    {"channel_mix_key", "ffn.key"},
    {"channel_mix_value", "ffn.value"},
    {"channel_mix_receptance", "ffn.receptance"},
};
// Likewise, which the authors' names do not end in ".weight".
constexpr Name kParameters6[] = {
    {"time_mix_first", "att.time_faaaa"},       {"time_mix_decay", "att.time_decay"},
    {"time_mix_decay_w1", "att.time_decay_w1"}, {"time_mix_decay_w2", "att.time_decay_w2"},
    {"time_mix_w1", "att.time_maa_w1"},         {"time_mix_w2", "att.time_maa_w2"},
    {"time_mix_lerp_x", "att.time_maa_x"},      {"time_mix_lerp_w", "att.time_maa_w"},
    {"time_mix_lerp_k", "att.time_maa_k"},      {"time_mix_lerp_v", "att.time_maa_v"},
    {"time_mix_lerp_r", "att.time_maa_r"},      {"time_mix_lerp_g", "att.time_maa_g"},
    {"channel_mix_lerp_k", "ffn.time_maa_k"},   {"channel_mix_lerp_r", "ffn.time_maa_r"},
};
constexpr Name kParameters7[] = {
    {"time_mix_w0", "att.w0"},   {"time_mix_w1", "att.w1"},   {"time_mix_w2", "att.w2"},
    {"time_mix_a0", "att.a0"},   {"time_mix_a1", "att.a1"},   {"time_mix_a2", "att.a2"},
    {"time_mix_v0", "att.v0"},   {"time_mix_v1", "att.v1"},   {"time_mix_v2", "att.v2"},
    {"time_mix_g1", "att.g1"},   {"time_mix_g2", "att.g2"},   {"time_mix_k_k", "att.k_k"},
    {"time_mix_k_a", "att.k_a"}, {"time_mix_r_k", "att.r_k"}, {"channel_mix_lerp_k", "ffn.x_k"},
};
constexpr std::string_view kFused = "time_mix_lerp_fused.weight";

class Renamer {
 public:
  Renamer(GgufFile& gguf, uint32_t version, const std::string& what)
      : gguf_(gguf), version_(version), what_(what) {}

  Status Run() {
    TensorIndex renamed;
    for (const auto& [name, tensor] : gguf_.tensors) {
      HR_RETURN_IF_ERROR(Rename(name, tensor, renamed));
    }
    gguf_.tensors = std::move(renamed);
    return {};
  }

 private:
  Status Rename(const std::string& name, const SourceTensor& tensor, TensorIndex& out) const {
    for (const Name& row : kOutside) {
      if (name == row.gguf) return Add(std::string(row.author), tensor, out);
    }
    const size_t dot = name.find('.', 4);
    if (!name.starts_with("blk.") || dot == std::string::npos) return Add(name, tensor, out);
    const std::string block = "blocks." + name.substr(4, dot - 4) + ".";
    const std::string leaf = name.substr(dot + 1);
    if (leaf == kFused) return Split(block, tensor, out);
    const size_t end = leaf.rfind('.');
    const std::string module = leaf.substr(0, end);
    for (const Name& row : kModules) {
      if (module == row.gguf)
        return Add(block + std::string(row.author) + leaf.substr(end), tensor, out);
    }
    const auto parameters = version_ == 6 ? std::span<const Name>(kParameters6) : kParameters7;
    for (const Name& row : parameters) {
      if (module == row.gguf) return Add(block + std::string(row.author), tensor, out);
    }
    return Add(name, tensor, out);  // refused by its name, as nothing uses it
  }

  // Without extents of 1 before a vector or a matrix.
  Status Add(const std::string& name, SourceTensor tensor, TensorIndex& out) const {
    while (tensor.shape.size() > 1 && tensor.shape[0] == 1)
      tensor.shape.erase(tensor.shape.begin());
    out[name] = std::move(tensor);
    return {};
  }

  // Shares of all parts, one vector behind another.
  Status Split(const std::string& block, const SourceTensor& fused, TensorIndex& out) const {
    const std::string_view parts = version_ == 6 ? "wkvrg" : "rwkvag";
    const std::string prefix = block + (version_ == 6 ? "att.time_maa_" : "att.x_");
    if (fused.shape.empty() || fused.shape[0] != parts.size() || fused.bytes % parts.size() != 0) {
      return Status::Make(StatusCode::kCorrupt, "%s: tensor \"%.80s\" is not of %zu vectors",
                          what_.c_str(), (block + std::string(kFused)).c_str(), parts.size());
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      SourceTensor part = fused;
      part.shape = {fused.shape.back()};
      part.bytes = fused.bytes / parts.size();
      part.data = fused.data + i * part.bytes;
      out[prefix + parts[i]] = std::move(part);
    }
    return {};
  }

  GgufFile& gguf_;
  uint32_t version_;
  const std::string& what_;
};

uint32_t VersionOf(const GgufFile& gguf) {
  const GgufValue* value = gguf.Find("general.architecture");
  if (value == nullptr || value->is_array() || value->type() != GgufType::kText) return 0;
  const std::string_view name = value->Texts()[0];
  return name == "rwkv6" ? 6 : name == "rwkv7" ? 7 : 0;
}

}  // namespace

bool IsRwkv(const GgufFile& gguf) { return VersionOf(gguf) != 0; }

Result<Json> RenameRwkv(GgufFile& gguf, const std::string& what) {
  const uint32_t version = VersionOf(gguf);
  const std::string architecture = "rwkv" + std::to_string(version);
  GgufKeys keys(gguf, what, architecture);
  Json json;
  HR_ASSIGN_OR_RETURN(json["head_size"], keys.NeedCount("wkv.head_size", 1, model::kMaxStateWidth));
  HR_ASSIGN_OR_RETURN(json["max_position_embeddings"],
                      keys.NeedCount("context_length", 1, kMaxContext));
  HR_ASSIGN_OR_RETURN(json["layer_norm_epsilon"], keys.Need("attention.layer_norm_epsilon"));
  HR_ASSIGN_OR_RETURN(const auto rescale, keys.Read("rescale_every_n_layers"));
  json["rescale_every"] = rescale.value_or(0);
  HR_ASSIGN_OR_RETURN(const auto shifts, keys.Read("token_shift_count"));
  if (shifts && *shifts != 2) return keys.Refuse("token_shift_count", "is not 2");
  // What the tensors tell.
  for (const std::string_view key :
       {"embedding_length", "block_count", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "time_mix_extra_dim",
        "time_decay_extra_dim", "attention.decay_lora_rank", "attention.iclr_lora_rank",
        "attention.value_residual_mix_lora_rank", "attention.gate_lora_rank"}) {
    keys.Ignore(key);
  }
  HR_RETURN_IF_ERROR(keys.RefuseUnused());
  HR_RETURN_IF_ERROR(Renamer(gguf, version, what).Run());
  json["turned"] = true;
  return json;
}

}  // namespace headroom::convert
