// Hostile files: latent attention and the other shapes of projections. Layer 1 of the tiny model
// with low-rank queries of 4 heads of 6 + 2, a latent of 16 with a rotated part of 2, values of 5.
#include <catch2/catch_test_macros.hpp>

#include "model/hostile_graph.h"

namespace headroom::test {
namespace {

constexpr uint32_t kHeads = 4, kRank = 12, kLatent = 16, kPart = 6, kTail = 2, kValue = 5;
constexpr uint32_t kInput = 32;

int32_t AddTensor(convert::ModelDescription& d, const char* name, std::vector<uint32_t> extents) {
  d.tensors.push_back({name, DType::kF32, 0, std::move(extents)});
  return static_cast<int32_t>(d.tensors.size()) - 1;
}

model::WeightRef AddMatrix(convert::ModelDescription& d, const char* name, uint32_t rows,
                           uint32_t columns) {
  model::WeightRef weight;
  weight.tensor = AddTensor(d, name, {rows, columns});
  weight.rows = rows;
  return weight;
}

model::NormSpec AddNorm(convert::ModelDescription& d, const char* name, uint32_t width) {
  model::NormSpec norm;
  norm.weight = AddTensor(d, name, {width});
  return norm;
}

convert::ModelDescription LatentDescription() {
  convert::ModelDescription d = TinyDescription();
  model::AttentionSpec spec;
  spec.query_heads = kHeads;
  spec.scale = 0.4f;
  spec.query.kind = model::QueryKind::kLowRank;
  spec.query.width = kPart + kTail;
  spec.query.down = AddMatrix(d, "q_down", kRank, kInput);
  spec.query.down_norm = AddNorm(d, "q_down_norm", kRank);
  spec.query.weight = AddMatrix(d, "q_up", kHeads * (kPart + kTail), kRank);
  spec.query.factors = AddTensor(d, "q_factors", {kPart + kTail});
  spec.query.matrix = {AddMatrix(d, "q_matrix", kHeads * kLatent, kPart), kHeads, kLatent};
  spec.query.rope = {kTail, kPart, model::RopeLayout::kInterleaved,
                     AddTensor(d, "tail.frequencies", {kTail / 2}), 1.0f};
  const model::WeightRef latent = AddMatrix(d, "latent", kLatent + kTail, kInput);
  spec.key = {
      1, kLatent, {latent.tensor, 0, kLatent, model::kNone}, AddNorm(d, "c_norm", kLatent), {}};
  spec.tail = {1, kTail, {latent.tensor, kLatent, kTail, model::kNone}, {}, spec.query.rope};
  spec.tail.rope.offset = 0;
  spec.value.width = kLatent;
  // Two neighbouring heads share a block.
  spec.value_matrix = {AddMatrix(d, "v_matrix", kHeads / 2 * kValue, kLatent), kHeads / 2, kValue};
  spec.key_matrix = {AddMatrix(d, "k_matrix", kHeads * kPart, kLatent), kHeads, kPart};
  spec.output = AddMatrix(d, "o", kInput, kHeads * kValue);
  spec.views = {{0, 0, 0}};
  spec.head_map.assign(kHeads, 0);
  AddTensor(d, "spare", {kHeads * kLatent});
  d.attentions[1] = std::move(spec);
  return d;
}

const AlignedBytes& LatentFile() {
  static const AlignedBytes file = WriteToMemory(LatentDescription());
  return file;
}

void ExpectLatentRefused(std::initializer_list<Bend> bends) {
  ExpectRefused(std::span(bends.begin(), bends.size()), LatentFile());
}

fb::ProjectionT& Latent(fb::ModelT& graph) { return *graph.attentions[1]->projection; }
fb::QueryT& LatentQuery(fb::ModelT& graph) { return *Latent(graph).query; }
fb::ScoreSegmentT& Score(fb::ModelT& graph, size_t i) { return *Latent(graph).scores[i]; }

TEST_CASE("a latent with a rotated part, shared matrices and factors opens as it was written",
          "[model]") {
  const auto opened = model::Model::OpenMemory(LatentFile().data(), LatentFile().size(), {});
  REQUIRE(opened.ok());
  const model::AttentionSpec& spec = opened.value()->attentions[1];
  CHECK(spec.query.kind == model::QueryKind::kLowRank);
  CHECK(spec.query.width == kPart + kTail);
  CHECK(spec.query.down_norm.present());
  CHECK(spec.query.factors != model::kNone);
  CHECK(spec.query.matrix.blocks == kHeads);
  CHECK(spec.query.matrix.rows == kLatent);
  CHECK(spec.query.rope.offset == kPart);
  CHECK(spec.tail.rope.offset == 0);
  CHECK(spec.key_width() == kLatent + kTail);
  CHECK_FALSE(spec.value.present());
  CHECK(spec.value_width() == kLatent);
  CHECK(spec.value_matrix.blocks == kHeads / 2);
  CHECK(spec.mixed_width() == kValue);
  CHECK(spec.key_matrix.blocks == kHeads);
  CHECK(spec.key_matrix.rows == kPart);
  CHECK(spec.views == std::vector<model::ViewHeads>{{0, 0, 0}});
}

TEST_CASE("group 14: matrices of heads that do not fit their heads are refused",
          "[model][hostile]") {
  ExpectLatentRefused({
      {"one row short", kCorrupt, "query matrix of 63 rows is no matrix of 16 rows for each of 4",
       [](auto& g) { Score(g, 0).query_matrix->rows = 63; }},
      {"three blocks", kCorrupt, "query matrix of 48 rows is no matrix",
       [](auto& g) { Score(g, 0).query_matrix->rows = 48; }},
      {"rows beyond", kCorrupt, "query matrix takes rows 16 + 64 of 64",
       [](auto& g) { Score(g, 0).query_matrix->row_begin = 16; }},
      {"another part of the query", kCorrupt, "query matrix has 12 columns, its input has 6",
       [](auto& g) {
         Score(g, 0).query_matrix = std::make_unique<fb::WeightT>(*LatentQuery(g).weight);
       }},
      {"no tensor", kCorrupt, "query matrix -1 is not in",
       [](auto& g) { Score(g, 0).query_matrix->tensor = -1; }},
      {"missing", kCorrupt, "query weight has 32 rows, its heads take 72",
       [](auto& g) { Score(g, 0).query_matrix.reset(); }},
      {"values one row short", kCorrupt, "value matrix of 9 rows is no matrix of 5 rows",
       [](auto& g) { Latent(g).value_matrix->rows = 9; }},
      {"values of a wider latent", kCorrupt, "value matrix has 6 columns, its input has 16",
       [](auto& g) { Latent(g).value_matrix->tensor = Score(g, 0).query_matrix->tensor; }},
      {"values without their matrix", kCorrupt, "output weight has 20 columns, its input has 64",
       [](auto& g) { Latent(g).value_matrix.reset(); }},
      {"values with their matrix alone", kUnsupported, "a value matrix and no output weight",
       [](auto& g) { Latent(g).output.reset(); }},
      {"output of five heads", kCorrupt, "output weight has 6 columns for 4 heads",
       [](auto& g) { Latent(g).output->tensor = Score(g, 0).query_matrix->tensor; }},
      {"bias", kUnsupported, "query matrix with a bias",
       [](auto& g) {
         Score(g, 0).query_matrix->bias = static_cast<int32_t>(g.tensors.size()) - 1;
       }},
      {"for the rotated part", kUnsupported, "a matrix for the second part",
       [](auto& g) {
         Score(g, 1).query_matrix = std::make_unique<fb::WeightT>(*Score(g, 0).query_matrix);
       }},
  });
}

TEST_CASE("group 14: key matrices that do not turn the query matrix round are refused",
          "[model][hostile]") {
  ExpectLatentRefused({
      {"one row short", kCorrupt, "key matrix of 23 rows is no matrix of 6 rows for each of 4",
       [](auto& g) { Latent(g).key_matrix->rows = 23; }},
      {"rows beyond", kCorrupt, "key matrix takes rows 1 + 24 of 24",
       [](auto& g) { Latent(g).key_matrix->row_begin = 1; }},
      {"half as many", kCorrupt, "2 blocks of the key matrix beside 4 of the query matrix",
       [](auto& g) { Latent(g).key_matrix->rows = 12; }},
      {"not turned round", kCorrupt, "key matrix has 6 columns, its input has 16",
       [](auto& g) { Latent(g).key_matrix->tensor = Score(g, 0).query_matrix->tensor; }},
      {"no tensor", kCorrupt, "key matrix -1 is not in",
       [](auto& g) { Latent(g).key_matrix->tensor = -1; }},
      {"values of a part of the latent", kUnsupported,
       "keys and values are not all made of a latent",
       [](auto& g) {
         Latent(g).value_width = 12;
         Latent(g).value_matrix->tensor = LatentQuery(g).weight->tensor;
         Latent(g).value_matrix->rows = 10;
       }},
  });
  ExpectRefused(
      {{"beside keys of their own", kUnsupported, "not all made of a latent", [](auto& g) {
          Projection(g).key_matrix = std::make_unique<fb::WeightT>(*Projection(g).output);
        }}});
}

TEST_CASE("group 14: queries whose parts do not fit are refused", "[model][hostile]") {
  ExpectLatentRefused({
      {"no down", kCorrupt, "query down is missing", [](auto& g) { LatentQuery(g).down.reset(); }},
      {"rank", kCorrupt, "low-rank query norm is f32 of rank 1, 12 long, not f32 [11]",
       [](auto& g) { LatentQuery(g).down->rows = 11; }},
      {"heads", kCorrupt, "31 rows of queries for 4 heads",
       [](auto& g) { LatentQuery(g).weight->rows = 31; }},
      {"no part for the latent", kCorrupt, "8 rows of queries for 4 heads",
       [](auto& g) { LatentQuery(g).weight->rows = 8; }},
      {"factors", kCorrupt, "query factors is f32 of rank 1, 12 long",
       [](auto& g) { LatentQuery(g).factors = LatentQuery(g).down_norm->weight; }},
      {"factors beyond", kCorrupt, "query factors 999 is not in",
       [](auto& g) { LatentQuery(g).factors = 999; }},
      {"rotation beyond the head", kCorrupt, "of a head of 8",
       [](auto& g) { g.ropes[static_cast<size_t>(LatentQuery(g).rope)]->offset = 7; }},
      {"offset of the second part", kUnsupported, "another part of the query",
       [](auto& g) { Score(g, 1).query_offset = 5; }},
      {"offset of the first part", kUnsupported, "another part of the query",
       [](auto& g) { Score(g, 0).query_offset = 1; }},
      {"gated without a gate", kCorrupt, "no activation",
       [](auto& g) {
         LatentQuery(g).kind = fb::QueryKind::Gated;
         LatentQuery(g).weight = std::make_unique<fb::WeightT>(*LatentQuery(g).down);
       }},
      {"kind of tomorrow", kUnsupported, "query kind 200 is unknown",
       [](auto& g) { LatentQuery(g).kind = Unknown<fb::QueryKind>(); }},
  });
}

TEST_CASE("group 14: streams and maps that do not fit are refused", "[model][hostile]") {
  ExpectLatentRefused({
      {"values of nothing", kCorrupt, "values of 0 numbers",
       [](auto& g) { Latent(g).value_width = 0; }},
      {"values beyond the latent", kCorrupt, "values of 17 numbers from a stream of 16",
       [](auto& g) { Latent(g).value_width = 17; }},
      {"values are the rotated part", kUnsupported, "values that are the rotated keys",
       [](auto& g) { Latent(g).value_stream = 1; }},
      {"a rotated latent", kUnsupported, "rotated values",
       [](auto& g) { Latent(g).streams[0]->rope = Latent(g).streams[1]->rope; }},
      {"latent rows", kCorrupt, "key weight has 15 rows, its heads take 16",
       [](auto& g) { Latent(g).streams[0]->weight->rows = 15; }},
      {"KV heads", kCorrupt, "2 KV heads, the maps make 1",
       [](auto& g) { Latent(g).kv_heads = 2; }},
      {"a head that is not there", kCorrupt, "key map names KV head 1 of 1",
       [](auto& g) { Latent(g).key_map[2] = 1; }},
      {"parts of two and three heads", kUnsupported, "keys of 2 and of 3 heads",
       [](auto& g) {
         Latent(g).streams[0]->heads = 2;
         Latent(g).streams[1]->heads = 3;
       }},
      {"three segments", kUnsupported, "3 score segments",
       [](auto& g) {
         Latent(g).scores.push_back(std::make_unique<fb::ScoreSegmentT>(Score(g, 1)));
       }},
  });
  ExpectRefused({{"value map beyond", kCorrupt, "value map names KV head 2 of 2",
                  [](auto& g) {
                    Projection(g).value_map = {0, 0, 1, 2};
                  }},
                 {"value map of fewer heads", kCorrupt, "value map for 1 heads, there are 4",
                  [](auto& g) { Projection(g).value_map = {0}; }}});
}

// Attention 1 of the tiny model reads the rows of attention 0.
fb::AttentionPlanT& Share(fb::ModelT& graph) {
  fb::AttentionPlanT& plan = *graph.attentions[1];
  plan.projection->streams.clear();
  plan.view = std::make_unique<fb::ViewT>(*graph.attentions[0]->view);
  plan.store = std::make_unique<fb::StoreT>();
  plan.store->source = fb::KvSourceKind::Alias;
  plan.store->source_attention = 0;
  return plan;
}

// The same of rows without a norm.
fb::AttentionPlanT& ShareUnnormed(fb::ModelT& g, fb::SharePoint point) {
  fb::AttentionPlanT& plan = Share(g);
  for (auto& stream : g.attentions[0]->projection->streams) stream->norm.reset();
  plan.store->share_point = point;
  return plan;
}

// Other pairs of dimensions.
int32_t OtherRope(fb::ModelT& g) {
  g.ropes.push_back(std::make_unique<fb::RopeT>(*g.ropes[0]));
  fb::RopeLayout& layout = g.ropes.back()->layout;
  layout =
      layout == fb::RopeLayout::HalfSplit ? fb::RopeLayout::Interleaved : fb::RopeLayout::HalfSplit;
  return static_cast<int32_t>(g.ropes.size()) - 1;
}

TEST_CASE("rows taken before what changes nothing are the rows", "[model]") {
  for (const auto point : {fb::SharePoint::Raw, fb::SharePoint::BeforeNorm}) {
    OpenedFile file;
    fb::AttentionPlanT& plan = ShareUnnormed(file.graph, point);
    if (point == fb::SharePoint::BeforeNorm) plan.projection->query->rope = OtherRope(file.graph);
    const AlignedBytes bytes = file.Assemble();
    const auto opened = model::Model::OpenMemory(bytes.data(), bytes.size(), {});
    INFO(opened.status().message());
    REQUIRE(opened.ok());
    CHECK(opened.value()->attentions[1].source_attention == 0);
  }
}

TEST_CASE("an attention reads the rows of an earlier one", "[model]") {
  OpenedFile file;
  Share(file.graph);
  const AlignedBytes bytes = file.Assemble();
  const auto opened = model::Model::OpenMemory(bytes.data(), bytes.size(), {});
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const model::AttentionSpec& spec = opened.value()->attentions[1];
  CHECK(spec.source_attention == 0);
  CHECK_FALSE(spec.key.weight.present());
  CHECK(spec.key_width() == opened.value()->attentions[0].key_width());
}

TEST_CASE("group 16: rows of another attention that cannot be shared are refused",
          "[model][hostile]") {
  ExpectRefused({
      {"itself", kCorrupt, "source attention 1 is not in 0..0",
       [](auto& g) { Share(g).store->source_attention = 1; }},
      {"nobody", kCorrupt, "source attention -1 is not in 0..0",
       [](auto& g) { Share(g).store->source_attention = -1; }},
      {"a later one", kCorrupt, "source attention 1 is not in 0..",
       [](auto& g) {
         Share(g);
         std::swap(g.attentions[0], g.attentions[1]);
         g.attentions[0]->store->source_attention = 1;
       }},
      {"streams of its own", kCorrupt, "2 streams beside those of another attention",
       [](auto& g) {
         auto own = std::move(g.attentions[1]->projection->streams);
         Share(g).projection->streams = std::move(own);
       }},
      {"narrower keys", kCorrupt, "score segment 0 is not the shared stream's 8 numbers",
       [](auto& g) { Share(g).projection->scores[0]->width = 4; }},
      {"other values", kCorrupt, "values of 4 numbers, the shared ones have 8",
       [](auto& g) { Share(g).projection->value_width = 4; }},
      {"two segments", kCorrupt, "2 score segments, the shared keys have 1",
       [](auto& g) {
         fb::ProjectionT& projection = *Share(g).projection;
         projection.scores.push_back(std::make_unique<fb::ScoreSegmentT>(*projection.scores[0]));
       }},
  });
}

TEST_CASE("group 16: rows of another attention kept or made otherwise are refused",
          "[model][hostile]") {
  ExpectRefused({
      {"a wider window", kUnsupported, "a view of 16 rows and 2 sinks on rows kept for 15 and 2",
       [](auto& g) { Share(g).view->groups[0]->terms[0]->axes[0]->left = 16; }},
      {"a retention of its own", kCorrupt, "a codec or retention for rows of another attention",
       [](auto& g) { Share(g).store->retention = std::make_unique<fb::RetentionT>(); }},
      {"before the norm", kUnsupported, "BeforeNorm rows of attention 0, which norms them",
       [](auto& g) { Share(g).store->share_point = fb::SharePoint::BeforeNorm; }},
      {"before the norm and the rotation", kUnsupported,
       "Raw rows of attention 0, which norms them",
       [](auto& g) { Share(g).store->share_point = fb::SharePoint::Raw; }},
      {"before another rotation", kUnsupported,
       "Raw rows of attention 0, which rotates them by other angles",
       [](auto& g) {
         ShareUnnormed(g, fb::SharePoint::Raw).projection->query->rope = OtherRope(g);
       }},
      {"before a rotation alone", kUnsupported,
       "Raw rows of attention 0, which rotates them by other angles",
       [](auto& g) { ShareUnnormed(g, fb::SharePoint::Raw).projection->query->rope = -1; }},
      {"share point beyond", kUnsupported, "share point 99 is unknown",
       [](auto& g) { Share(g).store->share_point = static_cast<fb::SharePoint>(99); }},
      {"of a follower", kUnsupported, "an attention that has none of its own",
       [](auto& g) {
         Share(g);
         g.attentions.push_back(std::make_unique<fb::AttentionPlanT>(*g.attentions[1]));
         g.attentions[2]->store->source_attention = 1;
       }},
      {"before they are made", kCorrupt, "reads rows of attention 0 before they are made",
       [](auto& g) {
         Share(g);
         for (auto& op : g.ops) {
           auto* attention = op->attributes.AsAttentionOp();
           if (attention == nullptr) continue;
           attention->attention = 1 - attention->attention;
         }
       }},
  });
}

TEST_CASE("values of other heads than the keys are views of their own", "[model]") {
  OpenedFile file;
  Projection(file.graph).value_map = {1, 0, 0, 1};
  Projection(file.graph).kv_heads = 4;
  const AlignedBytes bytes = file.Assemble();
  const auto opened = model::Model::OpenMemory(bytes.data(), bytes.size(), {});
  INFO(opened.status().message());
  REQUIRE(opened.ok());
  const model::AttentionSpec& spec = opened.value()->attentions[0];
  CHECK(spec.views == std::vector<model::ViewHeads>{{0, 0, 1}, {0, 0, 0}, {1, 0, 0}, {1, 0, 1}});
  CHECK(spec.head_map == std::vector<uint16_t>{0, 1, 2, 3});
}

}  // namespace
}  // namespace headroom::test
