// Hostile files: values, operations and attention plans; and well-formed plans this build does not
// execute.
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "model/container.h"
#include "model/hostile.h"

namespace headroom {
namespace {

using test::ExpectRefused;
using test::FirstOp;

constexpr StatusCode kCorrupt = StatusCode::kCorrupt;
constexpr StatusCode kUnsupported = StatusCode::kUnsupported;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename E>
E Unknown() {
  return static_cast<E>(200);
}

fb::AttentionPlanT& Plan(fb::ModelT& graph) { return *graph.attentions[0]; }
fb::ProjectionT& Projection(fb::ModelT& graph) { return *Plan(graph).projection; }
fb::QueryT& Query(fb::ModelT& graph) { return *Projection(graph).query; }
fb::StreamT& Key(fb::ModelT& graph) { return *Projection(graph).streams[0]; }
fb::StreamT& ValueStream(fb::ModelT& graph) { return *Projection(graph).streams[1]; }
fb::ViewGroupT& Group(fb::ModelT& graph) { return *Plan(graph).view->groups[0]; }
fb::SpanTermT& Window(fb::ModelT& graph) { return *Group(graph).terms[0]; }
fb::AxisSpanT& Axis(fb::ModelT& graph) { return *Window(graph).axes[0]; }
fb::SoftmaxMixT& Softmax(fb::ModelT& graph) { return *Plan(graph).mix.AsSoftmaxMix(); }
fb::RopeT& Rope(fb::ModelT& graph) { return *graph.ropes[0]; }
fb::StoreT& Store(fb::ModelT& graph) {
  if (!Plan(graph).store) Plan(graph).store = std::make_unique<fb::StoreT>();
  return *Plan(graph).store;
}
fb::RetentionT& Retention(fb::ModelT& graph, fb::RetentionKind kind) {
  Store(graph).retention = std::make_unique<fb::RetentionT>();
  Store(graph).retention->kind = kind;
  return *Store(graph).retention;
}
fb::CodecT& KeyCodec(fb::ModelT& graph, fb::CodecKind kind) {
  Store(graph).key_codec = std::make_unique<fb::CodecT>();
  Store(graph).key_codec->kind = kind;
  return *Store(graph).key_codec;
}
fb::HeadsT& Heads(fb::ModelT& graph) {
  Plan(graph).heads = std::make_unique<fb::HeadsT>();
  return *Plan(graph).heads;
}

TEST_CASE("group 5: missing parts are refused", "[model][hostile]") {
  ExpectRefused({
      {"metadata", kCorrupt, "metadata: missing", [](auto& g) { g.metadata.reset(); }},
      {"values", kCorrupt, "no values or no operations", [](auto& g) { g.values.clear(); }},
      {"operations", kCorrupt, "no values or no operations", [](auto& g) { g.ops.clear(); }},
      {"attributes", kCorrupt, "no attributes", [](auto& g) { g.ops[3]->attributes.Reset(); }},
      {"norm", kCorrupt, "no norm", [](auto& g) { FirstOp<fb::NormOpT>(g).norm.reset(); }},
      {"weight", kCorrupt, "weight is missing",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight.reset(); }},
      {"table", kCorrupt, "table is missing",
       [](auto& g) { FirstOp<fb::EmbeddingOpT>(g).weight.reset(); }},
      {"projection", kCorrupt, "no projection", [](auto& g) { Plan(g).projection.reset(); }},
      {"query", kCorrupt, "no query", [](auto& g) { Projection(g).query.reset(); }},
      {"query weight", kCorrupt, "query weight is missing",
       [](auto& g) { Query(g).weight.reset(); }},
      {"key weight", kCorrupt, "key weight is missing", [](auto& g) { Key(g).weight.reset(); }},
      {"output", kCorrupt, "output weight is missing",
       [](auto& g) { Projection(g).output.reset(); }},
      {"view", kCorrupt, "no view", [](auto& g) { Plan(g).view.reset(); }},
      {"view groups", kCorrupt, "no view", [](auto& g) { Plan(g).view->groups.clear(); }},
      {"view terms", kCorrupt, "sees nothing", [](auto& g) { Group(g).terms.clear(); }},
      {"axes", kCorrupt, "without an axis", [](auto& g) { Window(g).axes.clear(); }},
      {"mix", kCorrupt, "no mix", [](auto& g) { Plan(g).mix.Reset(); }},
      {"dimensions", kUnsupported, "0 dimensions", [](auto& g) { g.values[2]->dims.clear(); }},
      {"attentions", kCorrupt, "attention 0 is not in", [](auto& g) { g.attentions.clear(); }},
      {"ropes", kCorrupt, "rope 0 is not in", [](auto& g) { g.ropes.clear(); }},
  });
}

TEST_CASE("group 12: a value is written once", "[model][hostile]") {
  ExpectRefused({
      {"two writers", kCorrupt, "writes value 1 again", [](auto& g) { g.ops[1]->outputs = {1}; }},
      {"the tokens", kCorrupt, "writes value 0 again", [](auto& g) { g.ops[1]->outputs = {0}; }},
      {"in place", kCorrupt, "writes value 1 again",
       [](auto& g) { g.ops[1]->outputs = g.ops[1]->inputs; }},
      {"one attention state for two", kCorrupt, "shares the state of attention 0",
       [](auto& g) {
         for (auto& op : g.ops) {
           if (op->attributes.AsAttentionOp()) op->attributes.AsAttentionOp()->attention = 0;
         }
       }},
      {"nobody's value", kCorrupt, "is written by no operation",
       [](auto& g) { g.values.push_back(std::make_unique<fb::ValueT>(*g.values[1])); }},
      {"nobody's attention", kCorrupt, "belongs to no operation",
       [](auto& g) {
         g.attentions.push_back(std::make_unique<fb::AttentionPlanT>(*g.attentions[1]));
       }},
  });
}

TEST_CASE("group 13: wrong inputs and outputs of operations are refused", "[model][hostile]") {
  ExpectRefused({
      {"input -1", kCorrupt, "input value -1 is not in 0..",
       [](auto& g) { g.ops[1]->inputs = {-1}; }},
      {"input beyond", kCorrupt, "input value 999 is not in",
       [](auto& g) { g.ops[1]->inputs = {999}; }},
      {"input INT_MIN", kCorrupt, "input value -2147483648",
       [](auto& g) { g.ops[1]->inputs = {INT32_MIN}; }},
      {"output -1", kCorrupt, "output value -1 is not in",
       [](auto& g) { g.ops[1]->outputs = {-1}; }},
      {"output beyond", kCorrupt, "output value 2147483647",
       [](auto& g) { g.ops[1]->outputs = {INT32_MAX}; }},
      {"forward reference", kCorrupt, "before it is written",
       [](auto& g) { g.ops[1]->inputs = {5}; }},
      {"cycle", kCorrupt, "before it is written",
       [](auto& g) { g.ops[1]->inputs = g.ops[1]->outputs; }},
      {"no input", kCorrupt, "0 inputs and 1 outputs, not 1 and 1",
       [](auto& g) { g.ops[1]->inputs.clear(); }},
      {"no output", kCorrupt, "1 inputs and 0 outputs", [](auto& g) { g.ops[1]->outputs.clear(); }},
      {"two inputs", kCorrupt, "2 inputs and 1 outputs, not 1",
       [](auto& g) {
         g.ops[1]->inputs = {1, 1};
       }},
      {"one summand", kCorrupt, "1 inputs and 1 outputs, not 2",
       [](auto& g) { g.ops[3]->inputs = {1}; }},
      {"norm of tokens", kCorrupt, "reads the token ids", [](auto& g) { g.ops[1]->inputs = {0}; }},
      {"table of values", kCorrupt, "before it is written",
       [](auto& g) { g.ops[0]->inputs = {1}; }},
      {"logits -1", kCorrupt, "logits value -1", [](auto& g) { g.logits = -1; }},
      {"logits beyond", kCorrupt, "logits value 9999", [](auto& g) { g.logits = 9999; }},
      {"logits too narrow", kCorrupt, "logits are 32 wide, the vocabulary has 40",
       [](auto& g) { g.logits = 1; }},
      {"attention beyond", kCorrupt, "attention 7 is not in 0..1",
       [](auto& g) { FirstOp<fb::AttentionOpT>(g).attention = 7; }},
  });
}

TEST_CASE("group 13: unknown operations and enumerations are refused", "[model][hostile]") {
  ExpectRefused({
      {"operation 200", kUnsupported, "operation 200 is unknown",
       [](auto& g) {
         g.ops[1]->attributes.Reset();
         g.ops[1]->attributes.type = Unknown<fb::OpAttributes>();
       }},
      {"activation 200", kUnsupported, "activation 200 is unknown",
       [](auto& g) {
         FirstOp<fb::GatedActivationOpT>(g).activation = Unknown<fb::ActivationKind>();
       }},
      {"no activation", kCorrupt, "no activation",
       [](auto& g) { FirstOp<fb::GatedActivationOpT>(g).activation = fb::ActivationKind::None; }},
      {"norm 200", kUnsupported, "norm kind 200",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->kind = Unknown<fb::NormKind>(); }},
      {"no norm kind", kCorrupt, "has no kind",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->kind = fb::NormKind::None; }},
      {"symbol 200", kUnsupported, "dimension symbol 200",
       [](auto& g) { g.values[1]->dims[0] = fb::Dim(Unknown<fb::DimSymbol>(), 1); }},
      {"mix 200", kUnsupported, "mix 200 is unknown",
       [](auto& g) {
         Plan(g).mix.Reset();
         Plan(g).mix.type = Unknown<fb::Mix>();
       }},
      {"term 200", kUnsupported, "view term 200",
       [](auto& g) { Window(g).kind = Unknown<fb::TermKind>(); }},
      {"no term", kCorrupt, "view term 0 has no kind",
       [](auto& g) { Window(g).kind = fb::TermKind::None; }},
      {"border 200", kUnsupported, "border 200",
       [](auto& g) { Axis(g).border = Unknown<fb::Border>(); }},
      {"query 200", kUnsupported, "query kind 200",
       [](auto& g) { Query(g).kind = Unknown<fb::QueryKind>(); }},
      {"layout 200", kUnsupported, "rope layout 200",
       [](auto& g) { Rope(g).layout = Unknown<fb::RopeLayout>(); }},
      {"time 200", kUnsupported, "rope time 200",
       [](auto& g) { Key(g).rope_time = Unknown<fb::RopeTime>(); }},
      {"codec 200", kUnsupported, "key codec 200",
       [](auto& g) { KeyCodec(g, Unknown<fb::CodecKind>()); }},
      {"retention 200", kUnsupported, "retention 200",
       [](auto& g) { Retention(g, Unknown<fb::RetentionKind>()); }},
      {"place 200", kUnsupported, "place 200",
       [](auto& g) { Store(g).place = Unknown<fb::Place>(); }},
      {"source 200", kUnsupported, "KV source 200",
       [](auto& g) { Store(g).source = Unknown<fb::KvSourceKind>(); }},
      {"positions 200", kUnsupported, "position policy 200",
       [](auto& g) { Group(g).positions = Unknown<fb::PositionPolicy>(); }},
  });
}

TEST_CASE("group 13: shapes that do not fit together are refused", "[model][hostile]") {
  ExpectRefused({
      {"width 0", kCorrupt, "dimension 1 is 0",
       [](auto& g) { g.values[2]->dims[1] = fb::Dim(fb::DimSymbol::Constant, 0); }},
      {"width 2^31", kCorrupt, "wide > 16777216",
       [](auto& g) { g.values[2]->dims[1] = fb::Dim(fb::DimSymbol::Constant, 1u << 31); }},
      {"norm changes width", kCorrupt, "maps 32 to 64 values",
       [](auto& g) { g.values[2]->dims[1] = fb::Dim(fb::DimSymbol::Constant, 64); }},
      {"table too narrow", kCorrupt, "table has 32 columns",
       [](auto& g) { g.values[1]->dims[1] = fb::Dim(fb::DimSymbol::Constant, 16); }},
      {"rows beyond the matrix", kCorrupt, "takes rows 4294967295 + 64",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight->row_begin = 0xffffffff; }},
      {"no rows", kCorrupt, "takes rows 0 + 0",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight->rows = 0; }},
      {"too few rows", kCorrupt, "maps 32 to 64 values, it should map 32 to 63",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight->rows = 63; }},
      {"a vector as matrix", kCorrupt, "not a matrix",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight->tensor = 0; }},
      {"a matrix as norm", kCorrupt, "not f32 [32]",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->weight = 1; }},
      {"norm of another width", kCorrupt, "not f32 [32]",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->weight = 0; }},
      {"bias of another length", kCorrupt, "bias is f32 of rank 1, 4 long",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight->bias = 0; }},
      {"tensor -2", kCorrupt, "weight -2 is not in",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight->tensor = -2; }},
      {"bias beyond", kCorrupt, "bias 9999 is not in",
       [](auto& g) { FirstOp<fb::ProjectionOpT>(g).weight->bias = 9999; }},
      {"table of part of the vocabulary", kCorrupt, "table of 39 rows",
       [](auto& g) { FirstOp<fb::EmbeddingOpT>(g).weight->rows = 39; }},
  });
}

TEST_CASE("group 14: head counts and widths out of range are refused", "[model][hostile]") {
  ExpectRefused({
      {"no query heads", kCorrupt, "0 query heads", [](auto& g) { Projection(g).query_heads = 0; }},
      {"2^31 query heads", kCorrupt, "2147483648 query heads",
       [](auto& g) { Projection(g).query_heads = 1u << 31; }},
      {"no KV heads", kCorrupt, "0 KV heads", [](auto& g) { Projection(g).kv_heads = 0; }},
      {"KV heads -1", kCorrupt, "4294967295 KV heads",
       [](auto& g) { Projection(g).kv_heads = 0xffffffff; }},
      {"no group", kCorrupt, "4 query heads over 3 KV heads without a map",
       [](auto& g) {
         Projection(g).key_map.clear();
         Projection(g).kv_heads = Key(g).heads = ValueStream(g).heads = 3;
       }},
      {"head width 0", kCorrupt, "stream 0 is 0 wide", [](auto& g) { Key(g).width = 0; }},
      {"value width 0", kCorrupt, "stream 1 is 0 wide", [](auto& g) { ValueStream(g).width = 0; }},
      {"head width 2^30", kCorrupt, "wide, not 1..8192", [](auto& g) { Key(g).width = 1u << 30; }},
      {"positions beyond their table", kCorrupt, "rows from 0 on for a context of 512",
       [](auto& g) {
         fb::PositionEmbeddingOpT positions;
         positions.weight = std::make_unique<fb::WeightT>(*FirstOp<fb::EmbeddingOpT>(g).weight);
         g.ops[0]->attributes.Set(std::move(positions));
       }},
      {"no stream heads", kCorrupt, "stream 0 has 0 heads", [](auto& g) { Key(g).heads = 0; }},
      {"score of nothing", kCorrupt, "takes 0 + 0 of a stream of 8",
       [](auto& g) { Projection(g).scores[0]->width = 0; }},
      {"score beyond", kCorrupt, "takes 4 + 8 of a stream of 8",
       [](auto& g) { Projection(g).scores[0]->stream_offset = 4; }},
      {"score stream", kCorrupt, "score stream 5",
       [](auto& g) { Projection(g).scores[0]->stream = 5; }},
      {"value stream", kCorrupt, "value stream 5", [](auto& g) { Projection(g).value_stream = 5; }},
      {"alias of nothing", kCorrupt, "aliased stream 9", [](auto& g) { Key(g).alias_of = 9; }},
      {"query rows", kCorrupt, "query weight has 31 rows, its heads take 32",
       [](auto& g) { Query(g).weight->rows = 31; }},
      {"map too short", kCorrupt, "key map for 3 heads, there are 4",
       [](auto& g) { Projection(g).key_map.pop_back(); }},
      {"norm over the row, of a head's length", kCorrupt, "query norm is f32 of rank 1, 8 long",
       [](auto& g) { Query(g).norm->whole_row = true; }},
      {"map beyond", kCorrupt, "key map names KV head 2 of 2",
       [](auto& g) { Projection(g).key_map[0] = 2; }},
  });
}

TEST_CASE("group 14: rotation and scale out of range are refused", "[model][hostile]") {
  ExpectRefused({
      {"odd", kCorrupt, "rotates 7 dimensions, not an even number",
       [](auto& g) { Rope(g).dims = 7; }},
      {"none", kCorrupt, "rotates 0 dimensions", [](auto& g) { Rope(g).dims = 0; }},
      {"more than the head", kCorrupt, "dimensions 0 + 10 of a head of 8",
       [](auto& g) { Rope(g).dims = 10; }},
      {"offset wraps", kCorrupt, "of a head of 8", [](auto& g) { Rope(g).offset = 0xfffffffe; }},
      {"2^31", kCorrupt, "rotates 2147483648 dimensions", [](auto& g) { Rope(g).dims = 1u << 31; }},
      {"factor 0", kCorrupt, "attention factor 0", [](auto& g) { Rope(g).attention_factor = 0; }},
      {"factor NaN", kCorrupt, "attention factor nan",
       [](auto& g) { Rope(g).attention_factor = kNan; }},
      {"frequencies of another length", kCorrupt, "not f32 [2]", [](auto& g) { Rope(g).dims = 4; }},
      {"no frequencies", kCorrupt, "inverse frequencies -1",
       [](auto& g) { Rope(g).inverse_frequencies = -1; }},
      {"rope -2", kCorrupt, "rope -2 is not in", [](auto& g) { Query(g).rope = Key(g).rope = -2; }},
      {"scale 0", kCorrupt, "scale 0 is not positive", [](auto& g) { Softmax(g).scale = 0; }},
      {"scale NaN", kCorrupt, "scale nan", [](auto& g) { Softmax(g).scale = kNan; }},
      {"scale infinite", kCorrupt, "scale inf", [](auto& g) { Softmax(g).scale = kInfinity; }},
      {"scale negative", kCorrupt, "scale -1", [](auto& g) { Softmax(g).scale = -1; }},
      {"soft cap negative", kCorrupt, "soft cap -1", [](auto& g) { Softmax(g).softcap = -1; }},
      {"soft cap NaN", kCorrupt, "soft cap nan", [](auto& g) { Softmax(g).softcap = kNan; }},
      {"epsilon 0", kCorrupt, "epsilon 0",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->epsilon = 0; }},
      {"epsilon NaN", kCorrupt, "epsilon nan",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->epsilon = kNan; }},
      {"embedding scale NaN", kCorrupt, "scale nan",
       [](auto& g) { FirstOp<fb::EmbeddingOpT>(g).scale = kNan; }},
      {"cap 0", kCorrupt, "cap 0 is not positive",
       [](auto& g) { FirstOp<fb::SoftcapOpT>(g).cap = 0; }},
      {"sink logits of other heads", kCorrupt, "sink logits is f32 of rank 1, 32 long",
       [](auto& g) { Softmax(g).sink_logits = FirstOp<fb::NormOpT>(g).norm->weight; }},
  });
}

TEST_CASE("group 14: frequencies and sink logits that are no numbers are refused",
          "[model][hostile]") {
  for (const float value : {kNan, kInfinity, -1.0f}) {
    test::OpenedFile file;
    std::memcpy(file.payload.data() + file.graph.tensors[0]->data_offset + 4, &value,
                sizeof(value));
    test::ExpectStatus("frequency", test::OpenStatus(file.Assemble().span()), kCorrupt,
                       "rope 0: inverse frequency 1 is");
  }
  test::OpenedFile file;
  const size_t sinks = static_cast<size_t>(Softmax(file.graph).sink_logits);
  std::memcpy(file.payload.data() + file.graph.tensors[sinks]->data_offset + 8, &kNan,
              sizeof(kNan));
  test::ExpectStatus("sink", test::OpenStatus(file.Assemble().span()), kCorrupt,
                     "sink logit of head 2 is nan");
}

TEST_CASE("group 15: windows, sinks and rings that contradict each other are refused",
          "[model][hostile]") {
  ExpectRefused({
      {"window too large", kCorrupt, "window of 2147483648 rows",
       [](auto& g) { Axis(g).left = 1u << 31; }},
      {"no sinks", kCorrupt, "a prefix of 0 rows", [](auto& g) { Group(g).terms[1]->prefix = 0; }},
      {"sinks -1", kCorrupt, "a prefix of 4294967295 rows",
       [](auto& g) { Group(g).terms[1]->prefix = 0xffffffff; }},
      {"ring of 0", kCorrupt, "a ring of 0 rows",
       [](auto& g) { Retention(g, fb::RetentionKind::Ring); }},
      {"window > ring", kCorrupt, "window of 15 rows behind self does not fit a ring of 15",
       [](auto& g) { Retention(g, fb::RetentionKind::Ring).recent = 15; }},
      {"sinks > kept", kCorrupt, "2 sinks seen > 1 kept",
       [](auto& g) {
         Retention(g, fb::RetentionKind::Ring).recent = 16;
         Store(g).retention->sinks = 1;
       }},
      {"unlimited view of a ring", kCorrupt, "does not fit a ring of 64",
       [](auto& g) {
         Retention(g, fb::RetentionKind::Ring).recent = 64;
         Axis(g).left = kUnlimited;
       }},
      {"context 2^31", kCorrupt, "context of 2147483648 tokens",
       [](auto& g) { g.metadata->context_tokens = 1u << 31; }},
  });
}

TEST_CASE("a ring that holds the window and the sinks is accepted", "[model]") {
  test::OpenedFile file;
  Retention(file.graph, fb::RetentionKind::Ring).recent = 16;
  Store(file.graph).retention->sinks = 2;
  KeyCodec(file.graph, fb::CodecKind::I8Token);
  CHECK(test::OpenStatus(file.Assemble().span()).ok());
}

TEST_CASE("group 16: lists per head must name every head once", "[model][hostile]") {
  ExpectRefused({
      {"roles for one head", kCorrupt, "roles for 1 heads, there are 2 KV heads",
       [](auto& g) { Store(g).head_roles = {0}; }},
      {"role beyond", kCorrupt, "head role 3",
       [](auto& g) {
         Store(g).head_roles = {3, 3};
       }},
      {"head twice", kCorrupt, "KV head 1 is named twice",
       [](auto& g) {
         Group(g).kv_heads = {1, 1};
       }},
      {"head beyond", kCorrupt, "KV head of a view 2",
       [](auto& g) {
         Group(g).kv_heads = {0, 2};
       }},
      {"head 65535", kCorrupt, "KV head of a view 65535",
       [](auto& g) { Group(g).kv_heads = {65535}; }},
      {"head missing", kCorrupt, "names 1 of 2 KV heads", [](auto& g) { Group(g).kv_heads = {0}; }},
      {"profile of another attention", kCorrupt, "profile 0: attention 5",
       [](auto& g) {
         auto profile = std::make_unique<fb::ProfileT>();
         profile->lanes.push_back(std::make_unique<fb::LaneRolesT>());
         profile->lanes[0]->attention = 5;
         g.profiles.push_back(std::move(profile));
       }},
      {"profile role beyond", kCorrupt, "profile 0: role 1 is not in",
       [](auto& g) {
         auto profile = std::make_unique<fb::ProfileT>();
         profile->lanes.push_back(std::make_unique<fb::LaneRolesT>());
         profile->lanes[0]->roles = {0, 1};
         g.profiles.push_back(std::move(profile));
         g.roles.push_back(std::make_unique<fb::RoleT>());
       }},
  });
}

TEST_CASE("group 17: linear mixers are refused by name whatever their numbers",
          "[model][hostile]") {
  const auto linear = [](auto change) {
    return [change](fb::ModelT& g) {
      fb::LinearMixT mix;
      change(mix);
      Plan(g).mix.Set(std::move(mix));
    };
  };
  ExpectRefused({
      {"plain", kUnsupported, "attention 0: a linear mixer", linear([](auto&) {})},
      {"chunk 0", kUnsupported, "a linear mixer", linear([](auto& mix) { mix.chunk_tokens = 0; })},
      {"kernel 0", kUnsupported, "a linear mixer", linear([](auto& mix) {
         mix.input_mix = std::make_unique<fb::InputMixT>();
         mix.input_mix->kind = fb::InputMixKind::CausalConvolution;
       })},
      {"epsilon NaN", kUnsupported, "a linear mixer",
       linear([](auto& mix) { mix.epsilon = kNan; })},
      {"decay of no tensor", kUnsupported, "a linear mixer", linear([](auto& mix) {
         mix.decay = std::make_unique<fb::DecayT>();
         mix.decay->kind = fb::DecayKind::HeadConstant;
         mix.decay->log_decay = 9999;
       })},
  });
}

TEST_CASE("group 18: zero strides and dilations are refused", "[model][hostile]") {
  ExpectRefused({
      {"stride 0", kCorrupt, "stride 0, dilation 1", [](auto& g) { Axis(g).stride = 0; }},
      {"dilation 0", kCorrupt, "stride 1, dilation 0", [](auto& g) { Axis(g).dilation = 0; }},
      {"odd halves", kCorrupt, "maps 64 to 31 values, it should map 62 to 31",
       [](auto& g) {
         for (auto& op : g.ops) {
           if (!op->attributes.AsGatedActivationOp()) continue;
           g.values[static_cast<size_t>(op->outputs[0])]->dims[1] =
               fb::Dim(fb::DimSymbol::Constant, 31);
           return;
         }
       }},
  });
}

TEST_CASE("operations this build does not execute are refused by name", "[model]") {
  const auto operation = [](auto attributes) {
    return [attributes](fb::ModelT& g) {
      auto copy = attributes;
      g.ops[1]->attributes.Set(std::move(copy));
    };
  };
  fb::ReshapeOpT reshape;
  reshape.dims.assign(4, fb::Dim(fb::DimSymbol::Constant, 0x7fffffff));
  fb::SliceOpT slice;
  slice.begin = 9;
  slice.end = 3;
  fb::PoolOpT pool;
  pool.stride = {0, 0};
  ExpectRefused({
      {"convolution", kUnsupported, "operation ConvolutionOp", operation(fb::ConvolutionOpT())},
      {"pool with stride 0", kUnsupported, "operation PoolOp", operation(pool)},
      {"resize", kUnsupported, "operation ResizeOp", operation(fb::ResizeOpT())},
      {"reshape to more", kUnsupported, "operation ReshapeOp", operation(reshape)},
      {"reversed slice", kUnsupported, "operation SliceOp", operation(slice)},
      {"top 0", kUnsupported, "operation TopKOp", operation(fb::TopKOpT())},
      {"element-wise product", kUnsupported, "multiplies by 32 values a row, not 1",
       [](auto& g) {
         for (auto& op : g.ops) {
           if (op->attributes.AsAddOp()) return op->attributes.Set(fb::MultiplyOpT());
         }
       }},
      {"spectral gate", kUnsupported, "operation SpectralGateOp", operation(fb::SpectralGateOpT())},
      {"token gate", kUnsupported, "operation TokenGateOp", operation(fb::TokenGateOpT())},
      {"tanh", kUnsupported, "activation Tanh",
       [](auto& g) { FirstOp<fb::GatedActivationOpT>(g).activation = fb::ActivationKind::Tanh; }},
      {"group norm", kUnsupported, "norm is a Group norm",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->kind = fb::NormKind::Group; }},
      {"image input", kUnsupported, "value 0: F32 elements",
       [](auto& g) { g.values[0]->dtype = fb::DType::F32; }},
      {"batch", kUnsupported, "first dimension is not T",
       [](auto& g) { g.values[1]->dims[0] = fb::Dim(fb::DimSymbol::B, 1); }},
      {"prefix rows", kUnsupported, "rows before every prompt",
       [](auto& g) { g.prefix_embedding = 1; }},
      {"pre-pass", kUnsupported, "drops prompt tokens",
       [](auto& g) { g.pre_pass = std::make_unique<fb::PrePassT>(); }},
  });
}

TEST_CASE("projections this build does not execute are refused by name", "[model]") {
  ExpectRefused({
      {"low-rank query", kUnsupported, "LowRank queries",
       [](auto& g) { Query(g).kind = fb::QueryKind::LowRank; }},
      {"augmented query", kUnsupported, "Augmented queries",
       [](auto& g) { Query(g).kind = fb::QueryKind::Augmented; }},
      {"no query kind", kCorrupt, "the query has no kind",
       [](auto& g) { Query(g).kind = fb::QueryKind::None; }},
      {"latent", kUnsupported, "one stream for keys and values (latent)",
       [](auto& g) {
         Projection(g).streams.pop_back();
         Projection(g).value_stream = 0;
       }},
      {"three streams", kUnsupported, "3 streams",
       [](auto& g) { Projection(g).streams.push_back(std::make_unique<fb::StreamT>(Key(g))); }},
      {"consumer", kUnsupported, "no streams of its own",
       [](auto& g) {
         Projection(g).streams.clear();
         Projection(g).scores.clear();
       }},
      {"two segments", kUnsupported, "2 score segments",
       [](auto& g) {
         Projection(g).scores.push_back(
             std::make_unique<fb::ScoreSegmentT>(*Projection(g).scores[0]));
       }},
      {"absorbed keys", kUnsupported, "before the scores",
       [](auto& g) { Projection(g).scores[0]->pre_query = 1; }},
      {"absorbed values", kUnsupported, "behind the values",
       [](auto& g) { Projection(g).post_output = 1; }},
      {"values are keys", kUnsupported, "values that are the keys",
       [](auto& g) { Projection(g).value_stream = 0; }},
      {"part of a stream", kUnsupported, "part of a stream",
       [](auto& g) { Projection(g).value_width = 4; }},
      {"two maps", kUnsupported, "different KV heads",
       [](auto& g) {
         Projection(g).value_map = {1, 1, 0, 0};
       }},
      {"alias", kUnsupported, "aliases another", [](auto& g) { ValueStream(g).alias_of = 0; }},
      {"cross attention", kUnsupported, "cross attention", [](auto& g) { Key(g).input_value = 1; }},
      {"rotation at read", kUnsupported, "rotation at read",
       [](auto& g) { Key(g).rope_time = fb::RopeTime::AtRead; }},
      {"basis", kUnsupported, "in a basis", [](auto& g) { Key(g).basis = 1; }},
      {"Hadamard", kUnsupported, "Hadamard", [](auto& g) { Key(g).hadamard = 8; }},
      {"static scales", kUnsupported, "scales per channel",
       [](auto& g) { Key(g).channel_scales = 1; }},
      {"rotated values", kUnsupported, "rotated values", [](auto& g) { ValueStream(g).rope = 0; }},
      {"value norm", kUnsupported, "norm on values",
       [](auto& g) { ValueStream(g).norm = std::make_unique<fb::NormT>(); }},
      {"other rope", kUnsupported, "different ropes", [](auto& g) { Query(g).rope = -1; }},
      {"rope per head", kUnsupported, "frequencies per head",
       [](auto& g) { Rope(g).per_head = true; }},
      {"rope over an image", kUnsupported, "over 2 axes", [](auto& g) { Rope(g).axes = 2; }},
      {"pair table", kUnsupported, "pair table", [](auto& g) { Rope(g).pair_index = 1; }},
      {"norm over heads", kUnsupported, "over all heads together outside of attention",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->whole_row = true; }},
  });
}

TEST_CASE("views, stores and heads this build does not execute are refused by name", "[model]") {
  ExpectRefused({
      {"selector", kUnsupported, "a selector",
       [](auto& g) { Group(g).selector = std::make_unique<fb::SelectorT>(); }},
      {"span rule", kUnsupported, "a span rule",
       [](auto& g) { Group(g).span_rule = std::make_unique<fb::SpanRuleT>(); }},
      {"two groups", kUnsupported, "2 groups of heads",
       [](auto& g) {
         Plan(g).view->groups.push_back(std::make_unique<fb::ViewGroupT>(Group(g)));
         Plan(g).view->groups[0]->kv_heads = {0};
         Plan(g).view->groups[1]->kv_heads = {1};
       }},
      {"per query head", kUnsupported, "per query head",
       [](auto& g) { Group(g).query_heads = {0}; }},
      {"not causal", kUnsupported, "not causal", [](auto& g) { Group(g).causal = false; }},
      {"segment ids", kUnsupported, "segment ids", [](auto& g) { Group(g).segment_ids = true; }},
      {"slot positions", kUnsupported, "Slot positions",
       [](auto& g) { Group(g).positions = fb::PositionPolicy::Slot; }},
      {"stride", kUnsupported, "stride 2", [](auto& g) { Axis(g).stride = 2; }},
      {"dilation", kUnsupported, "dilation 3", [](auto& g) { Axis(g).dilation = 3; }},
      {"blocks", kUnsupported, "a blocked axis", [](auto& g) { Axis(g).block = 64; }},
      {"border", kUnsupported, "border ShiftInside",
       [](auto& g) { Axis(g).border = fb::Border::ShiftInside; }},
      {"two axes", kUnsupported, "view over 2 axes",
       [](auto& g) { Window(g).axes.push_back(std::make_unique<fb::AxisSpanT>()); }},
      {"stripes", kUnsupported, "view term Stripe",
       [](auto& g) { Window(g).kind = fb::TermKind::Stripe; }},
      {"prefix only", kUnsupported, "a prefix only",
       [](auto& g) { Group(g).terms.erase(Group(g).terms.begin()); }},
      {"bias", kUnsupported, "Alibi bias",
       [](auto& g) {
         Softmax(g).bias = std::make_unique<fb::BiasT>();
         Softmax(g).bias->kind = fb::BiasKind::Alibi;
       }},
      {"landmarks", kUnsupported, "landmark merge",
       [](auto& g) { Softmax(g).landmark_merge = true; }},
      {"shared", kUnsupported, "Alias keys and values",
       [](auto& g) {
         g.attentions[1]->store = std::make_unique<fb::StoreT>();
         g.attentions[1]->store->source = fb::KvSourceKind::Alias;
         g.attentions[1]->store->source_attention = 0;
       }},
      {"shared with itself", kCorrupt, "source attention 0 is not in",
       [](auto& g) {
         Store(g).source = fb::KvSourceKind::Alias;
         Store(g).source_attention = 0;
       }},
      {"pooled", kUnsupported, "Pooled keys",
       [](auto& g) { Store(g).source = fb::KvSourceKind::Pooled; }},
      {"mapped lanes", kUnsupported, "place Mapped",
       [](auto& g) { Store(g).place = fb::Place::Mapped; }},
      {"constant rows", kUnsupported, "constant rows", [](auto& g) { Store(g).constant_keys = 1; }},
      {"roles", kUnsupported, "roles per head",
       [](auto& g) {
         g.roles.push_back(std::make_unique<fb::RoleT>());
         Store(g).head_roles = {0, 0};
       }},
      {"codec", kUnsupported, "key codec Block32I4",
       [](auto& g) { KeyCodec(g, fb::CodecKind::Block32I4); }},
      {"no codec kind", kCorrupt, "key codec has no kind",
       [](auto& g) { KeyCodec(g, fb::CodecKind::None); }},
      {"residual", kUnsupported, "residual rows",
       [](auto& g) { KeyCodec(g, fb::CodecKind::F16).residual_tokens = 1; }},
      {"budget", kUnsupported, "Budget retention",
       [](auto& g) { Retention(g, fb::RetentionKind::Budget); }},
      {"compensated", kUnsupported, "RingCompensated",
       [](auto& g) { Retention(g, fb::RetentionKind::RingCompensated); }},
      {"epilogue", kUnsupported, "gates, offsets or masks",
       [](auto& g) { Heads(g).epilogues.push_back(std::make_unique<fb::HeadEpilogueT>()); }},
      {"adapter", kUnsupported, "low-rank adapters",
       [](auto& g) { Heads(g).adapters.push_back(std::make_unique<fb::AdapterT>()); }},
      {"row edit", kUnsupported, "SinkRedistribution",
       [](auto& g) { Heads(g).row_edit = fb::RowEdit::SinkRedistribution; }},
      {"partial channels", kUnsupported, "partial-channel",
       [](auto& g) { Heads(g).partial = std::make_unique<fb::PartialChannelT>(); }},
  });
}

}  // namespace
}  // namespace headroom
