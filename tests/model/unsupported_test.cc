// Well-formed files that this build does not execute: each is refused by what it asks for.
#include <catch2/catch_test_macros.hpp>

#include "model/hostile_graph.h"

namespace headroom::test {
namespace {

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
      {"convolution of images", kUnsupported, "a convolution that is not causal",
       operation(fb::ConvolutionOpT())},
      {"pool with stride 0", kUnsupported, "operation PoolOp", operation(pool)},
      {"resize", kUnsupported, "operation ResizeOp", operation(fb::ResizeOpT())},
      {"reshape to more", kUnsupported, "operation ReshapeOp", operation(reshape)},
      {"reversed slice", kUnsupported, "operation SliceOp", operation(slice)},
      {"top 0", kUnsupported, "operation TopKOp", operation(fb::TopKOpT())},
      {"spectral gate", kUnsupported, "operation SpectralGateOp", operation(fb::SpectralGateOpT())},
      {"token gate", kUnsupported, "operation TokenGateOp", operation(fb::TokenGateOpT())},
      {"hard swish", kUnsupported, "activation HardSwish",
       [](auto& g) {
         FirstOp<fb::GatedActivationOpT>(g).activation = fb::ActivationKind::HardSwish;
       }},
      {"group norm of keys", kUnsupported, "in groups inside of attention",
       [](auto& g) { Key(g).norm->kind = fb::NormKind::Group; }},
      {"L2 norm", kUnsupported, "norm is a L2 norm",
       [](auto& g) { FirstOp<fb::NormOpT>(g).norm->kind = fb::NormKind::L2; }},
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
      {"augmented query", kUnsupported, "Augmented queries",
       [](auto& g) { Query(g).kind = fb::QueryKind::Augmented; }},
      {"no query kind", kCorrupt, "the query has no kind",
       [](auto& g) { Query(g).kind = fb::QueryKind::None; }},
      {"a latent that is rotated", kUnsupported, "rotated values",
       [](auto& g) {
         Projection(g).streams.pop_back();
         Projection(g).value_stream = 0;
       }},
      {"three streams", kUnsupported, "3 streams, 2 are read",
       [](auto& g) { Projection(g).streams.push_back(std::make_unique<fb::StreamT>(Key(g))); }},
      {"consumer", kUnsupported, "no streams of its own",
       [](auto& g) {
         Projection(g).streams.clear();
         Projection(g).scores.clear();
       }},
      {"two segments", kUnsupported, "two score segments of one stream",
       [](auto& g) {
         Projection(g).scores.push_back(
             std::make_unique<fb::ScoreSegmentT>(*Projection(g).scores[0]));
       }},
      {"absorbed keys", kUnsupported, "before the scores",
       [](auto& g) { Projection(g).scores[0]->pre_query = 1; }},
      {"absorbed values", kUnsupported, "behind the values",
       [](auto& g) { Projection(g).post_output = 1; }},
      {"values are keys", kUnsupported, "2 streams, 1 are read",
       [](auto& g) { Projection(g).value_stream = 0; }},
      {"part of a stream", kUnsupported, "part of a stream",
       [](auto& g) { Projection(g).value_width = 4; }},
      {"alias", kUnsupported, "aliases another", [](auto& g) { ValueStream(g).alias_of = 0; }},
      {"cross attention", kUnsupported, "cross attention", [](auto& g) { Key(g).input_value = 1; }},
      {"rotation at read", kUnsupported, "rotation at read",
       [](auto& g) { Key(g).rope_time = fb::RopeTime::AtRead; }},
      {"ranks of a stream", kUnsupported, "ranks of a stream",
       [](auto& g) {
         Key(g).ranks = {8, 8};
       }},
      {"Hadamard", kUnsupported, "Hadamard", [](auto& g) { Key(g).hadamard = 8; }},
      {"static scales", kUnsupported, "scales per channel",
       [](auto& g) { Key(g).channel_scales = 1; }},
      {"rotated values", kUnsupported, "rotated values", [](auto& g) { ValueStream(g).rope = 0; }},
      {"value norm", kUnsupported, "norm on values",
       [](auto& g) { ValueStream(g).norm = std::make_unique<fb::NormT>(); }},
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
}  // namespace headroom::test
