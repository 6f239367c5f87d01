// Hostile files: values and operations.
#include <catch2/catch_test_macros.hpp>

#include "model/hostile_graph.h"

namespace headroom::test {
namespace {

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

}  // namespace
}  // namespace headroom::test
