// Hostile files: attention plans.
#include <catch2/catch_test_macros.hpp>
#include <cstring>

#include "model/hostile_graph.h"

namespace headroom::test {
namespace {

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
         profile->name = "small";
         profile->lanes.push_back(std::make_unique<fb::LaneRolesT>());
         profile->lanes[0]->attention = 5;
         g.profiles.push_back(std::move(profile));
       }},
      {"profile role beyond", kCorrupt, "profile 0: role 1 is not in",
       [](auto& g) {
         auto profile = std::make_unique<fb::ProfileT>();
         profile->name = "small";
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

}  // namespace
}  // namespace headroom::test
