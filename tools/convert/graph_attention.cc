#include "convert/graph_attention.h"

#include <string_view>
#include <utility>

namespace headroom::convert {
namespace {

using model::AttentionSpec;
using model::RopeSpec;
using model::WeightRef;

class AttentionPlanner {
 public:
  AttentionPlanner(TensorPlanner& tensors, const std::vector<RopeSpec>& ropes,
                   const LayerPlace& place)
      : tensors_(tensors),
        shape_(tensors.shape()),
        layer_(shape_.layers[place.layer]),
        place_(place),
        rope_(ropes[layer_.rope]) {}

  GatedAttention Plan() {
    spec_.query_heads = shape_.query_heads;
    if (layer_.latent.rank == 0) {
      Grouped();
    } else {
      layer_.latent.key_heads == 1 ? Latent() : LatentByGroups();
    }
    if (!names().sinks.empty()) {
      spec_.sink_logits =
          tensors_.AddVector(Name("sinks"), TensorRole::kBias,
                             {{Source(names().sinks), shape_.query_heads, 0, shape_.query_heads}});
    }
    spec_.left = layer_.left;
    spec_.scale = layer_.latent.rank != 0 ? layer_.latent.scale : shape_.attention_scale;
    spec_.softcap = shape_.attention_softcap;
    GatedAttention planned;
    if (recipe().query_gate) {
      planned.gate = AddMatrix("gate", shape_.channels, GateSources(), shape_.query_key_value_bias);
      planned.output = std::exchange(spec_.output, {});
    }
    planned.attention = std::move(spec_);
    return planned;
  }

 private:
  const Recipe& recipe() const { return *shape_.recipe; }
  const TensorNames& names() const { return shape_.recipe->names; }
  std::string Name(const char* part) const { return place_.name + "." + part; }
  std::string Source(std::string_view name) const { return place_.source + std::string(name); }

  WeightRef AddMatrix(const char* part, uint32_t columns, const std::vector<MatrixSource>& sources,
                      bool bias) {
    return tensors_.AddMatrix(Name(part), place_.source, columns, sources, bias);
  }

  void AddOutput(uint32_t columns) {
    const std::string_view name =
        layer_.latent.rank != 0 ? layer_.latent.names->output : names().attention_output;
    const float scale = shape_.attention_output_scale;
    spec_.output =
        AddMatrix("output", columns,
                  {{name, shape_.channels, 0, shape_.channels, OutputTurn(), scale, scale}},
                  shape_.attention_output_bias);
  }

  // ---- Queries, keys and values of equal heads in groups

  // The bases of the layer whose rows this one reads; null: it has none.
  const LayerBases* Bases() const {
    const auto& all = tensors_.choice().bases;
    const size_t layer =
        layer_.source != model::kNone ? static_cast<size_t>(layer_.source) : place_.layer;
    return layer >= all.size() || all[layer].keys.empty() ? nullptr : &all[layer];
  }
  Turn ValueTurn() const {
    if (Bases() == nullptr) return {};
    return {Bases()->values.data(), shape_.head_width, 1, false};
  }
  Turn OutputTurn() const {
    if (Bases() == nullptr) return {};
    return {Bases()->values.data(), shape_.head_width, shape_.query_heads / shape_.kv_heads, true};
  }
  void AddBases() {
    if (Bases() == nullptr) return;
    spec_.key.ordered = spec_.value.ordered = true;
    if (layer_.source != model::kNone) return;
    const uint32_t width = shape_.head_width;
    spec_.key.basis =
        tensors_.AddTensor({Name("key_basis"), DType::kF32, 0, {shape_.kv_heads * width, width}},
                           {TensorRole::kFixed, {}, 0.0f, Bases()->keys});
  }

  // Of what the layer's input makes queries of: the queries, or what they are made of next.
  uint32_t FirstQueryRows() const {
    return shape_.query_rank != 0 ? shape_.query_rank : shape_.query_heads * shape_.head_width;
  }

  // Of a matrix with twice as many rows as queries: of each head the first or the second half.
  std::vector<MatrixSource> HalvesOfHeads(uint64_t half) const {
    const uint64_t width = shape_.head_width, rows = 2 * shape_.query_heads * width;
    std::vector<MatrixSource> sources;
    for (uint64_t head = 0; head < shape_.query_heads; ++head) {
      sources.push_back({names().query, rows, (2 * head + half) * width, width});
    }
    return sources;
  }
  std::vector<MatrixSource> GateSources() const { return HalvesOfHeads(1); }

  std::vector<MatrixSource> QueryKeyValueSources() const {
    const uint64_t query_rows = uint64_t{shape_.query_heads} * shape_.head_width;
    const uint64_t kv_rows = uint64_t{shape_.kv_heads} * shape_.head_width;
    if (names().query_key_value.empty()) {
      const uint64_t first = FirstQueryRows();
      const float in = shape_.attention_input_scale, key = shape_.key_scale;
      const std::string_view name = shape_.query_rank != 0 ? names().query_down : names().query;
      std::vector<MatrixSource> sources = {{name, first, 0, first, {}, in}};
      if (recipe().query_gate) sources = HalvesOfHeads(0);
      sources.push_back({names().key, kv_rows, 0, kv_rows, {}, in * key, key});
      sources.push_back({names().value, kv_rows, 0, kv_rows, ValueTurn(), in});
      return sources;
    }
    if (recipe().fused_rows == FusedRows::kByKind) {
      const uint64_t first = query_rows + kv_rows, rows = first + kv_rows;
      return {{names().query_key_value, rows, 0, first},
              {names().query_key_value, rows, first, kv_rows, ValueTurn()}};
    }
    std::vector<MatrixSource> sources;
    const uint64_t width = shape_.head_width;
    for (uint64_t part = 0; part < 3; ++part) {
      for (uint64_t head = 0; head < shape_.query_heads; ++head) {
        sources.push_back(
            {names().query_key_value, 3 * query_rows, (head * 3 + part) * width, width});
        if (part < 2 || Bases() == nullptr) continue;
        sources.back().turn = ValueTurn();
        sources.back().turn.bases += head * width * width;
      }
    }
    return sources;
  }

  void Grouped() {
    const uint32_t width = shape_.head_width;
    const uint32_t query_rows = shape_.query_heads * width;
    const uint32_t kv_rows = shape_.kv_heads * width;
    spec_.query.width = width;
    spec_.key.heads = spec_.value.heads = shape_.kv_heads;
    spec_.key.width = spec_.value.width = width;
    spec_.source_attention = layer_.source;  // a layer's attention has its number
    const bool bias = shape_.query_key_value_bias;
    if (layer_.source != model::kNone) {
      spec_.query.weight =
          AddMatrix("query", shape_.channels, {{names().query, query_rows, 0, query_rows}}, bias);
    } else {
      const WeightRef fused = AddMatrix("qkv", shape_.channels, QueryKeyValueSources(), bias);
      const uint32_t first = FirstQueryRows();
      spec_.query.weight = {fused.tensor, 0, first, fused.bias};
      spec_.key.weight = {fused.tensor, first, kv_rows, fused.bias};
      spec_.value.weight = {fused.tensor, first + kv_rows, kv_rows, fused.bias};
    }
    if (shape_.query_rank != 0) AddQueryUp(query_rows);
    AddOutput(query_rows);
    if (!names().query_norm.empty()) AddHeadNorms();
    spec_.query.rope = spec_.key.rope = rope_;
    AddBases();
    AddViews();
  }

  // What was made of the input is normed and makes the queries.
  void AddQueryUp(uint32_t query_rows) {
    spec_.query.kind = model::QueryKind::kLowRank;
    spec_.query.down = spec_.query.weight;
    spec_.query.down_norm = tensors_.AddNorm(
        Name("query_down_norm"), Source(names().query_down_norm), shape_.query_rank, false);
    spec_.query.weight = AddMatrix("query_up", shape_.query_rank,
                                   {{names().query, query_rows, 0, query_rows}}, false);
  }

  void AddHeadNorms() {
    if (recipe().head_norms_rotated) return AddRotatedNorms();
    const bool over_row = recipe().head_norms_over_row;
    const uint32_t width = shape_.head_width;
    spec_.query.norm = tensors_.AddNorm(Name("query_norm"), Source(names().query_norm),
                                        over_row ? shape_.query_heads * width : width, false);
    spec_.key.norm = tensors_.AddNorm(Name("key_norm"), Source(names().key_norm),
                                      over_row ? shape_.kv_heads * width : width, false);
    spec_.query.norm.whole_row = spec_.key.norm.whole_row = over_row;
  }

  // Norms behind the rotation: it leaves the length of a head as it is, so that only the weights
  // must stay behind it, and there those of queries and of keys can meet in the query.
  void AddRotatedNorms() {
    const uint32_t width = shape_.head_width;
    spec_.query.norm = tensors_.AddUnitNorm(Name("query_norm"), width);
    spec_.key.norm = spec_.query.norm;
    spec_.query.factors = tensors_.AddProduct(
        Name("query_factors"),
        {Source(names().query_norm) + ".weight", Source(names().key_norm) + ".weight"}, width);
  }

  void AddViews() {
    for (uint32_t g = 0; g < shape_.kv_heads; ++g) {
      const auto head = static_cast<uint16_t>(g);
      spec_.views.push_back({head, 0, head});
    }
    MapHeads(shape_.kv_heads);
  }

  void MapHeads(uint32_t views) {
    for (uint32_t h = 0; h < shape_.query_heads; ++h) {
      spec_.head_map.push_back(static_cast<uint16_t>(h / (shape_.query_heads / views)));
    }
  }

  // ---- Latent attention: keys are [latent][one rotated key for all heads], values the latent

  void Latent() {
    const LatentShape& latent = layer_.latent;
    const LatentRecipe& from = *layer_.latent.names;
    spec_.query.width = latent.part + latent.tail;
    spec_.key.heads = spec_.tail.heads = 1;
    spec_.key.width = spec_.value.width = latent.rank;
    spec_.tail.width = latent.tail;
    AddLatentQueries();
    if (latent.norms) {
      spec_.key.norm = tensors_.AddNorm(Name("latent_norm"), Source(from.norm), latent.rank, false);
      spec_.key.norm.epsilon = static_cast<float>(from.epsilon);
    }
    AddHeadMatrices();
    AddOutput(shape_.query_heads * latent.value);
    spec_.tail.rope = spec_.query.rope = rope_;
    spec_.query.rope.offset = latent.part;
    spec_.views = {{0, 0, 0}};
    spec_.head_map.assign(shape_.query_heads, 0);
  }

  // The matrices that read the layer's input are one where all or none of their rows have biases.
  void AddLatentQueries() {
    const LatentShape& latent = layer_.latent;
    const LatentRecipe& from = *layer_.latent.names;
    const bool low_rank = latent.query_rank != 0;
    const uint32_t heads_rows = shape_.query_heads * spec_.query.width;
    const uint32_t first_rows = low_rank ? latent.query_rank : heads_rows;
    const uint32_t kv_rows = latent.rank + latent.tail;
    const bool first_bias = low_rank ? latent.query_down_bias : latent.query_bias;
    const MatrixSource first = {low_rank ? from.query_down : from.query, first_rows, 0, first_rows};
    const MatrixSource second = {from.down, kv_rows, 0, kv_rows};
    WeightRef query, key;
    if (first_bias == shape_.query_key_value_bias) {
      query = AddMatrix("query_latent", shape_.channels, {first, second}, first_bias);
      key = {query.tensor, first_rows, kv_rows, query.bias};
      query.rows = first_rows;
    } else {
      query = AddMatrix("query", shape_.channels, {first}, first_bias);
      key = AddMatrix("latent", shape_.channels, {second}, shape_.query_key_value_bias);
    }
    spec_.key.weight = {key.tensor, key.row_begin, latent.rank, key.bias};
    spec_.tail.weight = {key.tensor, key.row_begin + latent.rank, latent.tail, key.bias};
    spec_.query.weight = query;
    if (!low_rank) return;
    spec_.query.kind = model::QueryKind::kLowRank;
    spec_.query.down = query;
    if (latent.norms) {
      spec_.query.down_norm = tensors_.AddNorm(
          Name("query_down_norm"), Source(from.query_down_norm), latent.query_rank, false);
      spec_.query.down_norm.epsilon = static_cast<float>(from.epsilon);
    }
    spec_.query.weight = AddMatrix("query_up", latent.query_rank,
                                   {{from.query_up, heads_rows, 0, heads_rows}}, latent.query_bias);
  }

  // One matrix of the checkpoint makes keys and values of the latent, head by head [part + value,
  // rank]. The first half meets the query instead of the latent, turned round; the second what the
  // head has mixed.
  void AddHeadMatrices() {
    const LatentShape& latent = layer_.latent;
    const std::string source = Source(layer_.latent.names->up) + ".weight";
    const uint64_t both = latent.part + latent.value;
    const uint64_t all = shape_.query_heads * both;
    HeadParts parts;
    for (uint64_t h = 0; h < shape_.query_heads; ++h) {
      RowPart query{source, latent.rank, 0, latent.rank, true};
      query.source_columns = all;
      query.column_begin = h * both;
      parts.queries.push_back(std::move(query));
      parts.keys.push_back({source, all, h * both, latent.part});
      parts.values.push_back({source, all, h * both + latent.part, latent.value});
    }
    AddHeadMatrices(shape_.query_heads, std::move(parts));
  }

  // Rows of the checkpoint that become the matrices of heads.
  struct HeadParts {
    std::vector<RowPart> queries, keys, values;
  };

  // The one for keys only where making keys and values of a latent can ever be less work for a
  // query than to meet the latent itself.
  void AddHeadMatrices(uint32_t blocks, HeadParts parts) {
    const LatentShape& latent = layer_.latent;
    const WeightFormat format = tensors_.choice().format;
    const auto add = [&](const char* what, uint32_t columns, std::vector<RowPart>& rows,
                         uint32_t of_block) -> model::HeadMatrix {
      return {tensors_.AddParts(Name(what), columns, std::move(rows), format), blocks, of_block};
    };
    spec_.query.matrix = add("query_matrix", latent.part, parts.queries, latent.rank);
    spec_.value_matrix = add("value_matrix", latent.rank, parts.values, latent.value);
    if (2 * latent.rank <= latent.part + latent.value) return;
    spec_.key_matrix = add("key_matrix", latent.rank, parts.keys, latent.part);
  }

  // ---- A latent for all heads beside one rotated key for each KV head

  void LatentByGroups() {
    const LatentShape& latent = layer_.latent;
    spec_.query.width = latent.part + latent.tail;
    spec_.key.heads = 1;
    spec_.tail.heads = latent.key_heads;
    spec_.key.width = spec_.value.width = latent.rank;
    spec_.tail.width = latent.tail;
    const uint32_t tail_rows = latent.key_heads * latent.tail;
    const WeightRef keys = AddMatrix("latent", shape_.channels,
                                     {{latent.names->down, latent.rank, 0, latent.rank},
                                      {latent.names->tail, tail_rows, 0, tail_rows}},
                                     false);
    spec_.key.weight = {keys.tensor, 0, latent.rank, model::kNone};
    spec_.tail.weight = {keys.tensor, latent.rank, tail_rows, model::kNone};
    // There the rotated parts of all heads stand before the others of all heads.
    const uint64_t heads = shape_.query_heads, rows = heads * spec_.query.width;
    std::vector<MatrixSource> queries;
    for (uint64_t h = 0; h < heads; ++h) {
      queries.push_back(
          {latent.names->query, rows, heads * latent.tail + h * latent.part, latent.part});
      queries.push_back({latent.names->query, rows, h * latent.tail, latent.tail});
    }
    spec_.query.weight = AddMatrix("query", shape_.channels, queries, false);
    AddGroupMatrices();
    AddOutput(shape_.query_heads * latent.value);
    spec_.tail.rope = spec_.query.rope = rope_;
    spec_.query.rope.offset = latent.part;
    for (uint32_t g = 0; g < latent.key_heads; ++g) {
      spec_.views.push_back({0, static_cast<uint16_t>(g), 0});
    }
    MapHeads(latent.key_heads);
  }

  void AddGroupMatrices() {
    const LatentShape& latent = layer_.latent;
    const std::string up = Source(latent.names->up);
    const uint64_t key_rows = uint64_t{latent.key_heads} * latent.part;
    const uint64_t value_rows = uint64_t{latent.key_heads} * latent.value;
    HeadParts parts;
    for (uint64_t g = 0; g < latent.key_heads; ++g) {
      RowPart query{up + "up_k.weight", latent.rank, 0, latent.rank, true};
      query.source_columns = key_rows;
      query.column_begin = g * latent.part;
      parts.queries.push_back(std::move(query));
    }
    parts.keys.push_back({up + "up_k.weight", key_rows, 0, key_rows});
    parts.values.push_back({up + "up_v.weight", value_rows, 0, value_rows});
    AddHeadMatrices(latent.key_heads, std::move(parts));
  }

  TensorPlanner& tensors_;
  const ModelShape& shape_;
  const LayerShape& layer_;
  const LayerPlace& place_;
  const RopeSpec& rope_;
  AttentionSpec spec_;
};

}  // namespace

GatedAttention PlanAttention(TensorPlanner& tensors, const std::vector<RopeSpec>& ropes,
                             const LayerPlace& place) {
  return AttentionPlanner(tensors, ropes, place).Plan();
}

}  // namespace headroom::convert
