#include "convert/rwkv.h"

#include <array>

namespace headroom::convert {
namespace {

constexpr uint32_t kTrainedTokens = 1u << 20;  // the state knows no limit

// What RWKV shares with other recipes: the names of what stands around the layers.
constexpr Recipe RwkvRecipe(std::string_view architecture) {
  Recipe recipe;
  recipe.architecture = architecture;
  recipe.names.embedding = "emb";
  recipe.names.final_norm = "ln_out";
  recipe.names.head = "head";
  recipe.names.layer = "blocks.{}.";
  recipe.norm = model::NormKind::kLayer;
  recipe.norm_bias = true;
  return recipe;
}

constexpr Recipe kRecipes[] = {RwkvRecipe("RWKV-5"), RwkvRecipe("RWKV-6"), RwkvRecipe("RWKV-7")};

uint64_t Elements(const SourceTensor& tensor) {
  uint64_t count = 1;
  for (const uint64_t extent : tensor.shape) count *= extent;
  return count;
}

bool Ends(const std::string& name, std::string_view ending) { return name.ends_with(ending); }

// What is a vector to us, whatever extents it has.
bool IsVector(const std::string& name, const SourceTensor& tensor) {
  if (tensor.shape.size() == 3 && tensor.shape[0] == 1 && tensor.shape[1] == 1) return true;
  return Ends(name, ".time_decay") || Ends(name, ".time_faaaa") || Ends(name, ".r_k");
}

class Description {
 public:
  Description(Checkpoint& checkpoint, Json known)
      : checkpoint_(checkpoint), known_(std::move(known)) {}

  Result<Json> Run() {
    HR_ASSIGN_OR_RETURN(const uint32_t version, Version());
    const uint64_t layers = Layers();
    HR_ASSIGN_OR_RETURN(const auto embedding, Extents("emb.weight"));
    const std::string att = "blocks.0.att.", last = "blocks." + std::to_string(layers - 1) + ".";
    const bool turned = known_.contains("turned");
    if (!known_.contains("head_size")) {
      HR_ASSIGN_OR_RETURN(const auto heads, Extents(att + (version == 7 ? "r_k" : "time_faaaa")));
      known_["head_size"] = heads[1];
    }
    HR_ASSIGN_OR_RETURN(const auto inner, Extents("blocks.0.ffn.key.weight"));
    Json json = {{"architectures", {"RWKV-" + std::to_string(version)}},
                 {"hidden_size", embedding[1]},
                 {"intermediate_size", inner[0]},
                 {"num_hidden_layers", layers},
                 {"vocab_size", embedding[0]},
                 {"max_position_embeddings", kTrainedTokens}};
    json.update(known_);
    struct Rank {
      uint32_t version;
      const char* key;
      std::string tensor;
      size_t extent;
    };
    for (const Rank& rank :
         {Rank{6, "mix_rank", att + "time_maa_w2", 1},
          Rank{6, "decay_rank", att + "time_decay_w1", 1}, Rank{7, "decay_rank", att + "w1", 1},
          Rank{7, "rate_rank", att + "a1", 1}, Rank{7, "value_rank", last + "att.v1", 1},
          Rank{7, "gate_rank", att + "g1", 1}}) {
      if (rank.version != version || (layers == 1 && rank.tensor == last + "att.v1")) continue;
      HR_ASSIGN_OR_RETURN(const auto extents, Extents(rank.tensor));
      // The rank is what is left of it: behind the channels, or before them.
      const size_t at = turned ? extents.size() - 2 + (extents.size() == 3) : rank.extent;
      if (extents.size() <= at) return Wrong(rank.tensor);
      json[rank.key] = extents[at];
    }
    // Its values are the first: files that have these never read them.
    for (const char* name : {"v0", "v1", "v2"}) checkpoint_.Forget(att + name);
    for (const auto& [name, tensor] : checkpoint_.tensors()) {
      if (IsVector(name, tensor)) checkpoint_.Reshape(name, {Elements(tensor)});
    }
    return json;
  }

 private:
  static Status Wrong(const std::string& name) {
    return Status::Make(StatusCode::kCorrupt, "tensor \"%.80s\" has not the extents of RWKV's",
                        name.c_str());
  }

  // By the tensors that a version was the first to have.
  Result<uint32_t> Version() const {
    const std::string att = "blocks.0.att.";
    if (checkpoint_.Find(att + "r_k") != nullptr) return 7u;
    if (checkpoint_.Find(att + "time_maa_x") != nullptr) return 6u;
    const SourceTensor* decay = checkpoint_.Find(att + "time_decay");
    const bool gate = checkpoint_.Find(att + "gate.weight") != nullptr;
    if (gate && decay != nullptr && decay->shape.size() == 2 && decay->shape[1] > 1) return 5u;
    return Status::Make(StatusCode::kUnsupported,
                        "an RWKV checkpoint that is not of version 5.2, 6 or 7");
  }

  uint64_t Layers() const {
    uint64_t layers = 1;
    while (checkpoint_.Find("blocks." + std::to_string(layers) + ".ln1.weight") != nullptr)
      ++layers;
    return layers;
  }

  // Of a matrix.
  Result<std::vector<uint64_t>> Extents(const std::string& name) const {
    const SourceTensor* tensor = checkpoint_.Find(name);
    if (tensor == nullptr) {
      return Status::Make(StatusCode::kCorrupt, "the checkpoint lacks tensor \"%.80s\"",
                          name.c_str());
    }
    if (tensor->shape.size() < 2) return Wrong(name);
    return tensor->shape;
  }

  Checkpoint& checkpoint_;
  Json known_;
};

}  // namespace

bool IsRwkv(const Checkpoint& checkpoint) {
  return checkpoint.Find("emb.weight") != nullptr &&
         checkpoint.Find("blocks.0.att.receptance.weight") != nullptr;
}

Result<Json> DescribeRwkv(Checkpoint& checkpoint, Json known) {
  return Description(checkpoint, std::move(known)).Run();
}

bool IsRwkv(const Config& config) { return config.Names("architectures", "RWKV-"); }

Result<ModelShape> ReadRwkvShape(Config& config, uint32_t context) {
  ModelShape shape;
  RwkvShape rwkv;
  HR_ASSIGN_OR_RETURN(const auto names, config.Strings("architectures"));
  const std::string name = names && !names->empty() ? names->front() : "";
  for (const Recipe& recipe : kRecipes) {
    if (recipe.architecture == name) shape.recipe = &recipe;
  }
  if (shape.recipe == nullptr) {
    return Status::Make(StatusCode::kUnsupported, "%s: architecture %.60s", config.what().c_str(),
                        name.c_str());
  }
  rwkv.version = static_cast<uint32_t>(name.back() - '0');
  HR_ASSIGN_OR_RETURN(shape.channels, config.NeedCount("hidden_size", 1, 1u << 20));
  HR_ASSIGN_OR_RETURN(shape.inner, config.NeedCount("intermediate_size", 1, 1u << 22));
  HR_ASSIGN_OR_RETURN(const uint32_t layers, config.NeedCount("num_hidden_layers", 1, 4096));
  HR_ASSIGN_OR_RETURN(shape.vocabulary, config.NeedCount("vocab_size", 1, 1u << 24));
  HR_ASSIGN_OR_RETURN(rwkv.head_width, config.NeedCount("head_size", 1, model::kMaxStateWidth));
  HR_ASSIGN_OR_RETURN(shape.trained_tokens,
                      config.NeedCount("max_position_embeddings", 1, kMaxContext));
  if (shape.channels % rwkv.head_width != 0) {
    return Status::Make(StatusCode::kCorrupt, "%s: %u channels in heads of %u",
                        config.what().c_str(), shape.channels, rwkv.head_width);
  }
  struct Rank {
    const char* key;
    uint32_t* rank;
    uint32_t version;
  };
  for (const Rank& rank :
       {Rank{"mix_rank", &rwkv.mix_rank, 6}, Rank{"decay_rank", &rwkv.decay_rank, 6},
        Rank{"decay_rank", &rwkv.decay_rank, 7}, Rank{"rate_rank", &rwkv.rate_rank, 7},
        Rank{"value_rank", &rwkv.value_rank, 7}, Rank{"gate_rank", &rwkv.gate_rank, 7}}) {
    if (rank.version != rwkv.version || (layers == 1 && rank.rank == &rwkv.value_rank)) continue;
    HR_ASSIGN_OR_RETURN(*rank.rank, config.NeedCount(rank.key, 1, 1u << 16));
  }
  if (context > shape.trained_tokens) {
    return Status::Make(StatusCode::kInvalidArgument, "context %u > %u", context,
                        shape.trained_tokens);
  }
  shape.context_tokens = context != 0 ? context : shape.trained_tokens;
  HR_ASSIGN_OR_RETURN(const auto epsilon, config.Number("layer_norm_epsilon", 1e-12, 1.0));
  shape.epsilon = static_cast<float>(epsilon.value_or(1e-5));
  HR_ASSIGN_OR_RETURN(const auto every, config.Count("rescale_every", 0, 4096));
  rwkv.rescale_every = every.value_or(0);
  HR_ASSIGN_OR_RETURN(const auto turned, config.Bool("turned"));
  rwkv.turned = turned.value_or(false);
  shape.query_heads = shape.kv_heads = shape.channels / rwkv.head_width;
  shape.head_width = rwkv.head_width;
  shape.layers.resize(layers);
  shape.rwkv = rwkv;
  HR_RETURN_IF_ERROR(config.RefuseUnused());
  return shape;
}

}  // namespace headroom::convert
