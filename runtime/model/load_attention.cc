// Attention plans: from the five parts of the schema to the AttentionSpec this build executes.
// Everything else the schema can say is refused by its name.
#include <algorithm>
#include <cmath>

#include "model/load.h"

namespace headroom::model {
namespace {

bool Positive(float value) { return std::isfinite(value) && value > 0.0f; }

Status LoadRope(const LoadContext& context, const Where& where, int32_t index, uint32_t head_width,
                RopeSpec* out) {
  *out = {};
  if (index == kNone) return {};
  HR_RETURN_IF_ERROR(CheckIndex(where, "rope", index, Count(context.graph.ropes())));
  const fb::Rope& rope = *context.graph.ropes()->Get(static_cast<uint32_t>(index));
  HR_RETURN_IF_ERROR(CheckKnown(where, "rope layout", rope.layout()));
  if (rope.dims() == 0 || rope.dims() % 2 != 0) {
    return Corrupt(where, "rope %d rotates %u dimensions, not an even number", index, rope.dims());
  }
  if (uint64_t{rope.offset()} + rope.dims() > head_width) {
    return Corrupt(where, "rope %d rotates dimensions %u + %u of a head of %u", index,
                   rope.offset(), rope.dims(), head_width);
  }
  if (rope.per_head()) return Unsupported(where, "rope %d with frequencies per head", index);
  if (rope.axes() != 1) return Unsupported(where, "rope %d over %u axes", index, rope.axes());
  if (rope.pair_index() != kNone) return Unsupported(where, "rope %d with a pair table", index);
  if (!Positive(rope.attention_factor())) {
    return Corrupt(where, "rope %d attention factor %g is not positive", index,
                   static_cast<double>(rope.attention_factor()));
  }
  HR_RETURN_IF_ERROR(CheckVector(context, where, "inverse frequencies", rope.inverse_frequencies(),
                                 rope.dims() / 2));
  *out = {rope.dims(), rope.offset(),
          rope.layout() == fb::RopeLayout::HalfSplit ? RopeLayout::kHalfSplit
                                                     : RopeLayout::kInterleaved,
          rope.inverse_frequencies(), rope.attention_factor()};
  return {};
}

// The numbers behind every rope; read once, since many layers share one.
Status CheckFrequencies(const LoadContext& context) {
  const auto* ropes = context.graph.ropes();
  HR_RETURN_IF_ERROR(CheckCount("ropes", Count(ropes), kMaxRopes));
  for (uint32_t i = 0; i < Count(ropes); ++i) {
    const Where where("rope %u", i);
    const int32_t tensor = ropes->Get(i)->inverse_frequencies();
    if (ropes->Get(i)->dims() > kMaxHeadWidth) {
      return Corrupt(where, "rotates %u dimensions > %u", ropes->Get(i)->dims(), kMaxHeadWidth);
    }
    HR_RETURN_IF_ERROR(
        CheckIndex(where, "inverse frequencies", tensor, context.model.tensors.size()));
    const TensorView& view = context.model.tensors[static_cast<size_t>(tensor)];
    if (view.dtype != DType::kF32 || view.rank != 1) continue;  // refused where it is used
    for (uint32_t k = 0; k < std::min(view.extents[0], kMaxHeadWidth); ++k) {
      const float frequency = view.f32()[k];
      if (std::isfinite(frequency) && frequency >= 0.0f) continue;
      return Corrupt(where, "inverse frequency %u is %g, not finite and >= 0", k,
                     static_cast<double>(frequency));
    }
  }
  return {};
}

Status CheckShape(const Where& where, const fb::Projection& projection) {
  if (projection.query_heads() == 0 || projection.query_heads() > kMaxHeads) {
    return Corrupt(where, "%u query heads, not 1..%u", projection.query_heads(), kMaxHeads);
  }
  if (projection.kv_heads() == 0 || projection.kv_heads() > kMaxHeads) {
    return Corrupt(where, "%u KV heads, not 1..%u", projection.kv_heads(), kMaxHeads);
  }
  for (uint32_t i = 0; i < Count(projection.streams()); ++i) {
    const fb::Stream& stream = *projection.streams()->Get(i);
    HR_RETURN_IF_ERROR(CheckKnown(where, "rope time", stream.rope_time()));
    if (stream.width() == 0 || stream.width() > kMaxHeadWidth) {
      return Corrupt(where, "stream %u is %u wide, not 1..%u", i, stream.width(), kMaxHeadWidth);
    }
    if (stream.heads() == 0 || stream.heads() > kMaxHeads) {
      return Corrupt(where, "stream %u has %u heads, not 1..%u", i, stream.heads(), kMaxHeads);
    }
    if (stream.alias_of() != kNone) {
      HR_RETURN_IF_ERROR(
          CheckIndex(where, "aliased stream", stream.alias_of(), projection.streams()->size()));
    }
  }
  const uint32_t streams = Count(projection.streams());
  for (uint32_t i = 0; i < Count(projection.scores()); ++i) {
    const fb::ScoreSegment& score = *projection.scores()->Get(i);
    HR_RETURN_IF_ERROR(CheckIndex(where, "score stream", score.stream(), streams));
    const uint64_t end = uint64_t{score.stream_offset()} + score.width();
    const uint32_t width = projection.streams()->Get(score.stream())->width();
    if (score.width() == 0 || end > width) {
      return Corrupt(where, "score segment %u takes %u + %u of a stream of %u", i,
                     score.stream_offset(), score.width(), width);
    }
  }
  return {};
}

Status CheckMap(const Where& where, const char* what, const flatbuffers::Vector<uint16_t>* map,
                const fb::Projection& projection) {
  if (Count(map) == 0) return {};
  if (map->size() != projection.query_heads()) {
    return Corrupt(where, "%s for %u heads, there are %u", what, map->size(),
                   projection.query_heads());
  }
  for (const uint16_t head : *map) {
    if (head >= projection.kv_heads()) {
      return Corrupt(where, "%s names KV head %u of %u", what, head, projection.kv_heads());
    }
  }
  return {};
}

// Every KV head is a view of its own; the map says which of them a query head reads.
Status LoadViews(LoadContext& context, const Where& where, const fb::Projection& projection,
                 AttentionSpec* out) {
  const auto* keys = projection.key_map();
  const auto* values = projection.value_map();
  HR_RETURN_IF_ERROR(CheckMap(where, "key map", keys, projection));
  HR_RETURN_IF_ERROR(CheckMap(where, "value map", values, projection));
  const uint32_t heads = projection.query_heads();
  if (Count(keys) == 0 && heads % projection.kv_heads() != 0) {
    return Corrupt(where, "%u query heads over %u KV heads without a map", heads,
                   projection.kv_heads());
  }
  HR_RETURN_IF_ERROR(context.Charge(heads, sizeof(uint16_t), "head map entries"));
  HR_RETURN_IF_ERROR(context.Charge(projection.kv_heads(), sizeof(ViewHeads), "KV heads"));
  for (uint32_t g = 0; g < projection.kv_heads(); ++g) {
    const auto head = static_cast<uint16_t>(g);
    out->views.push_back({head, 0, head});
  }
  out->head_map.resize(heads);
  const uint32_t group = heads / std::min(heads, projection.kv_heads());
  for (uint32_t h = 0; h < heads; ++h) {
    out->head_map[h] = Count(keys) != 0 ? keys->Get(h) : static_cast<uint16_t>(h / group);
    if (Count(values) != 0 && values->Get(h) != out->head_map[h]) {
      return Unsupported(where, "keys and values of query head %u come from different KV heads", h);
    }
  }
  return {};
}

// The named features of a projection that later builds will execute.
Status CheckExecutableStreams(const Where& where, const fb::Projection& projection) {
  const uint32_t streams = Count(projection.streams());
  if (streams == 0) return Unsupported(where, "no streams of its own");
  if (streams > 2) return Unsupported(where, "%u streams (latent or split keys)", streams);
  if (streams == 1) return Unsupported(where, "one stream for keys and values (latent)");
  if (Count(projection.scores()) != 1) {
    return Unsupported(where, "%u score segments", Count(projection.scores()));
  }
  if (projection.post_output() != kNone)
    return Unsupported(where, "a matrix behind the values (absorbed)");
  const fb::ScoreSegment& score = *projection.scores()->Get(0);
  HR_RETURN_IF_ERROR(CheckIndex(where, "value stream", projection.value_stream(), streams));
  if (score.pre_query() != kNone)
    return Unsupported(where, "a matrix before the scores (absorbed)");
  if (score.stream() == projection.value_stream())
    return Unsupported(where, "values that are the keys");
  const fb::Stream& key = *projection.streams()->Get(score.stream());
  const fb::Stream& value = *projection.streams()->Get(projection.value_stream());
  if (score.stream_offset() != 0 || score.query_offset() != 0 || score.width() != key.width() ||
      projection.value_offset() != 0 || projection.value_width() != value.width()) {
    return Unsupported(where, "scores or values from a part of a stream");
  }
  for (const fb::Stream* stream : {&key, &value}) {
    if (stream->heads() != projection.kv_heads()) {
      return Unsupported(where, "a stream of %u heads beside %u KV heads", stream->heads(),
                         projection.kv_heads());
    }
    if (stream->alias_of() != kNone) return Unsupported(where, "a stream that aliases another");
    if (stream->input_value() != kNone) return Unsupported(where, "cross attention");
    if (stream->rope_time() != fb::RopeTime::AtWrite) return Unsupported(where, "rotation at read");
    if (stream->hadamard() != 0) return Unsupported(where, "Hadamard-rotated streams");
    if (stream->basis() != kNone || Count(stream->ranks()) != 0)
      return Unsupported(where, "a stream in a basis");
    if (stream->channel_scales() != kNone) return Unsupported(where, "static scales per channel");
  }
  if (value.rope() != kNone) return Unsupported(where, "rotated values");
  if (value.norm() != nullptr) return Unsupported(where, "a norm on values");
  if (key.rope() != projection.query()->rope())
    return Unsupported(where, "queries and keys with different ropes");
  return {};
}

Status CheckRows(const Where& where, const char* what, const WeightRef& weight, uint64_t rows) {
  if (weight.rows == rows) return {};
  return Corrupt(where, "%s has %u rows, its heads take %llu", what, weight.rows,
                 static_cast<unsigned long long>(rows));
}

// Columns of the matrix a Weight names, for the parts whose input width the graph will check.
uint64_t ColumnsOf(const LoadContext& context, const fb::Weight* weight) {
  const auto& tensors = context.model.tensors;
  if (weight == nullptr || weight->tensor() < 0 ||
      static_cast<size_t>(weight->tensor()) >= tensors.size()) {
    return 0;
  }
  return tensors[static_cast<size_t>(weight->tensor())].columns();
}

struct StreamNames {
  const char *weight, *norm;
};

Status LoadStream(LoadContext& context, const Where& where, const StreamNames& names,
                  const fb::Stream& stream, uint64_t columns, StreamSpec* out) {
  out->heads = stream.heads();
  out->width = stream.width();
  HR_RETURN_IF_ERROR(
      LoadWeight(context, where, names.weight, stream.weight(), columns, &out->weight));
  HR_RETURN_IF_ERROR(
      CheckRows(where, names.weight, out->weight, uint64_t{out->heads} * out->width));
  HR_RETURN_IF_ERROR(
      LoadNorm(context, where, names.norm, stream.norm(), out->width, out->heads, &out->norm));
  return LoadRope(context, where, stream.rope(), out->width, &out->rope);
}

Status LoadProjection(LoadContext& context, const Where& where, const fb::Projection* projection,
                      AttentionSpec* out) {
  if (projection == nullptr) return Corrupt(where, "no projection");
  if (projection->query() == nullptr) return Corrupt(where, "no query");
  const fb::Query& query = *projection->query();
  HR_RETURN_IF_ERROR(CheckKnown(where, "query kind", query.kind()));
  if (query.kind() == fb::QueryKind::None) return Corrupt(where, "the query has no kind");
  HR_RETURN_IF_ERROR(CheckShape(where, *projection));
  if (query.kind() != fb::QueryKind::Dense) {
    return Unsupported(where, "%s queries", fb::EnumNameQueryKind(query.kind()));
  }
  HR_RETURN_IF_ERROR(CheckExecutableStreams(where, *projection));
  const fb::Stream& key = *projection->streams()->Get(projection->scores()->Get(0)->stream());
  const fb::Stream& value = *projection->streams()->Get(projection->value_stream());
  out->query_heads = projection->query_heads();
  HR_RETURN_IF_ERROR(LoadViews(context, where, *projection, out));
  const uint64_t columns = ColumnsOf(context, query.weight());
  HR_RETURN_IF_ERROR(
      LoadWeight(context, where, "query weight", query.weight(), columns, &out->query.weight));
  HR_RETURN_IF_ERROR(
      LoadStream(context, where, {"key weight", "key norm"}, key, columns, &out->key));
  HR_RETURN_IF_ERROR(
      LoadStream(context, where, {"value weight", "value norm"}, value, columns, &out->value));
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "output weight", projection->output(),
                                uint64_t{out->query_heads} * out->value_width(), &out->output));
  HR_RETURN_IF_ERROR(CheckRows(where, "query weight", out->query.weight,
                               uint64_t{out->query_heads} * out->key_width()));
  HR_RETURN_IF_ERROR(LoadNorm(context, where, "query norm", query.norm(), out->key_width(),
                              out->query_heads, &out->query.norm));
  return LoadRope(context, where, query.rope(), out->key_width(), &out->query.rope);
}

Status LoadAxisTerm(const Where& where, const fb::SpanTerm& term, uint32_t* left) {
  if (Count(term.axes()) == 0) return Corrupt(where, "an Axis term without an axis");
  if (term.axes()->size() != 1)
    return Unsupported(where, "a view over %u axes", term.axes()->size());
  const fb::AxisSpan& axis = *term.axes()->Get(0);
  HR_RETURN_IF_ERROR(CheckKnown(where, "border", axis.border()));
  if (axis.stride() == 0 || axis.dilation() == 0) {
    return Corrupt(where, "stride %u, dilation %u: 0 is none", axis.stride(), axis.dilation());
  }
  if (axis.stride() != 1) return Unsupported(where, "a view with stride %u", axis.stride());
  if (axis.dilation() != 1) return Unsupported(where, "a view with dilation %u", axis.dilation());
  if (axis.border() != fb::Border::Clip) {
    return Unsupported(where, "border %s", fb::EnumNameBorder(axis.border()));
  }
  if (axis.block() != 0 || axis.phase() != 0 || axis.halo() != 0)
    return Unsupported(where, "a blocked axis");
  if (axis.left() != kUnlimited && axis.left() > kMaxTokens) {
    return Corrupt(where, "window of %u rows > %u", axis.left(), kMaxTokens);
  }
  *left = axis.left();
  return {};
}

// The union of the terms as (left, sinks).
Status LoadTerms(const Where& where, const fb::ViewGroup& group, AttentionSpec* out) {
  if (Count(group.terms()) == 0) return Corrupt(where, "a view without terms sees nothing");
  bool window = false;
  out->left = 0;
  out->sinks = 0;
  for (uint32_t i = 0; i < group.terms()->size(); ++i) {
    const fb::SpanTerm& term = *group.terms()->Get(i);
    HR_RETURN_IF_ERROR(CheckKnown(where, "view term", term.kind()));
    uint32_t left = 0;
    switch (term.kind()) {
      case fb::TermKind::None:
        return Corrupt(where, "view term %u has no kind", i);
      case fb::TermKind::All:
        left = kUnlimited;
        break;
      case fb::TermKind::Axis:
        HR_RETURN_IF_ERROR(LoadAxisTerm(where, term, &left));
        break;
      case fb::TermKind::Prefix:
        if (term.prefix() == 0 || term.prefix() > kMaxSinks) {
          return Corrupt(where, "a prefix of %u rows, not 1..%u", term.prefix(), kMaxSinks);
        }
        out->sinks = std::max(out->sinks, term.prefix());
        continue;
      default:
        return Unsupported(where, "view term %s", fb::EnumNameTermKind(term.kind()));
    }
    window = true;
    out->left = std::max(out->left, left);
  }
  if (!window) return Unsupported(where, "a view of a prefix only");
  if (out->left == kUnlimited) out->sinks = 0;  // already seen
  return {};
}

// Groups must partition the KV heads; an empty list stands for all of them.
Status CheckPartition(const Where& where, const fb::View& view, uint32_t kv_heads) {
  bool seen[kMaxHeads] = {};
  uint32_t named = 0;
  for (uint32_t g = 0; g < view.groups()->size(); ++g) {
    const auto* heads = view.groups()->Get(g)->kv_heads();
    if (Count(heads) == 0) {
      if (view.groups()->size() == 1) return {};
      return Corrupt(where, "view group %u names no KV heads beside other groups", g);
    }
    for (const uint16_t head : *heads) {
      HR_RETURN_IF_ERROR(CheckIndex(where, "KV head of a view", head, kv_heads));
      if (seen[head]) return Corrupt(where, "KV head %u is named twice by the view", head);
      seen[head] = true;
      ++named;
    }
  }
  if (named == kv_heads) return {};
  return Corrupt(where, "the view names %u of %u KV heads", named, kv_heads);
}

Status LoadView(const Where& where, const fb::View* view, AttentionSpec* out) {
  if (view == nullptr || Count(view->groups()) == 0) return Corrupt(where, "no view");
  HR_RETURN_IF_ERROR(CheckPartition(where, *view, out->kv_heads()));
  if (view->groups()->size() != 1)
    return Unsupported(where, "%u groups of heads in the view", view->groups()->size());
  const fb::ViewGroup& group = *view->groups()->Get(0);
  HR_RETURN_IF_ERROR(CheckKnown(where, "position policy", group.positions()));
  if (group.selector() != nullptr) return Unsupported(where, "a selector");
  if (group.span_rule() != nullptr) return Unsupported(where, "a span rule");
  if (Count(group.query_heads()) != 0) return Unsupported(where, "a view per query head");
  if (!group.causal()) return Unsupported(where, "a view that is not causal");
  if (group.segment_ids()) return Unsupported(where, "segment ids");
  if (group.positions() != fb::PositionPolicy::Absolute) {
    return Unsupported(where, "%s positions", fb::EnumNamePositionPolicy(group.positions()));
  }
  return LoadTerms(where, group, out);
}

Status LoadMix(const LoadContext& context, const Where& where, const fb::AttentionPlan& plan,
               AttentionSpec* out) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "mix", plan.mix_type()));
  if (plan.mix_type() == fb::Mix::NONE || plan.mix() == nullptr) return Corrupt(where, "no mix");
  if (plan.mix_type() != fb::Mix::SoftmaxMix) return Unsupported(where, "a linear mixer");
  const fb::SoftmaxMix& mix = *plan.mix_as_SoftmaxMix();
  if (!Positive(mix.scale()))
    return Corrupt(where, "scale %g is not positive", static_cast<double>(mix.scale()));
  if (!std::isfinite(mix.softcap()) || mix.softcap() < 0.0f) {
    return Corrupt(where, "soft cap %g is not 0 or positive", static_cast<double>(mix.softcap()));
  }
  if (mix.bias() != nullptr) {
    HR_RETURN_IF_ERROR(CheckKnown(where, "bias kind", mix.bias()->kind()));
    if (mix.bias()->kind() != fb::BiasKind::None) {
      return Unsupported(where, "%s bias", fb::EnumNameBiasKind(mix.bias()->kind()));
    }
  }
  if (mix.landmark_merge()) return Unsupported(where, "landmark merge");
  if (mix.sink_logits() != kNone) {
    HR_RETURN_IF_ERROR(
        CheckVector(context, where, "sink logits", mix.sink_logits(), out->query_heads));
    const TensorView& sinks = context.model.tensors[static_cast<size_t>(mix.sink_logits())];
    for (uint32_t h = 0; h < out->query_heads; ++h) {
      if (std::isfinite(sinks.f32()[h])) continue;
      return Corrupt(where, "sink logit of head %u is %g", h, static_cast<double>(sinks.f32()[h]));
    }
  }
  out->scale = mix.scale();
  out->softcap = mix.softcap();
  out->sink_logits = mix.sink_logits();
  return {};
}

Status CheckRetention(const Where& where, const fb::Retention* retention,
                      const AttentionSpec& spec) {
  if (retention == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "retention", retention->kind()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "position policy", retention->positions()));
  switch (retention->kind()) {
    case fb::RetentionKind::AsViewed:
    case fb::RetentionKind::Full:
      break;
    case fb::RetentionKind::Ring:
      // What a view may see, the store must keep.
      if (retention->recent() == 0) return Corrupt(where, "a ring of 0 rows");
      if (spec.left == kUnlimited || retention->recent() <= spec.left) {
        return Corrupt(where, "window of %u rows behind self does not fit a ring of %u", spec.left,
                       retention->recent());
      }
      if (retention->sinks() < spec.sinks) {
        return Corrupt(where, "%u sinks seen > %u kept", spec.sinks, retention->sinks());
      }
      break;
    default:
      return Unsupported(where, "%s retention", fb::EnumNameRetentionKind(retention->kind()));
  }
  if (retention->positions() != fb::PositionPolicy::Absolute) {
    return Unsupported(where, "%s positions", fb::EnumNamePositionPolicy(retention->positions()));
  }
  return {};
}

Status CheckCodec(const Where& where, const char* what, const fb::Codec* codec) {
  if (codec == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, what, codec->kind()));
  switch (codec->kind()) {
    case fb::CodecKind::None:
      return Corrupt(where, "%s has no kind", what);
    case fb::CodecKind::F32:
    case fb::CodecKind::F16:
    case fb::CodecKind::I8Token:
      break;
    default:
      return Unsupported(where, "%s %s", what, fb::EnumNameCodecKind(codec->kind()));
  }
  if (codec->residual_tokens() != 0 || codec->first_f16_tokens() != 0 || codec->hadamard() != 0) {
    return Unsupported(where, "%s with residual rows or a rotation", what);
  }
  return {};
}

Status CheckHeadRoles(const LoadContext& context, const Where& where, const fb::Store& store,
                      uint32_t kv_heads) {
  if (Count(store.head_roles()) == 0) return {};
  if (store.head_roles()->size() != kv_heads) {
    return Corrupt(where, "roles for %u heads, there are %u KV heads", store.head_roles()->size(),
                   kv_heads);
  }
  for (const uint8_t role : *store.head_roles()) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "head role", role, Count(context.graph.roles())));
  }
  return Unsupported(where, "roles per head");
}

Status CheckStore(const LoadContext& context, const Where& where, const fb::Store* store,
                  uint32_t index, const AttentionSpec& spec) {
  if (store == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "place", store->place()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "KV source", store->source()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "share point", store->share_point()));
  if (store->source() == fb::KvSourceKind::Alias) {
    HR_RETURN_IF_ERROR(CheckIndex(where, "source attention", store->source_attention(), index));
  }
  if (store->source() != fb::KvSourceKind::Own) {
    return Unsupported(where, "%s keys and values", fb::EnumNameKvSourceKind(store->source()));
  }
  if (store->place() != fb::Place::Any && store->place() != fb::Place::Arena) {
    return Unsupported(where, "a store in place %s", fb::EnumNamePlace(store->place()));
  }
  if (store->probability_source() != kNone)
    return Unsupported(where, "probabilities of another layer");
  if (store->constant_keys() != kNone || store->constant_values() != kNone) {
    return Unsupported(where, "constant rows before the sequence");
  }
  HR_RETURN_IF_ERROR(CheckHeadRoles(context, where, *store, spec.kv_heads()));
  HR_RETURN_IF_ERROR(CheckCodec(where, "key codec", store->key_codec()));
  HR_RETURN_IF_ERROR(CheckCodec(where, "value codec", store->value_codec()));
  return CheckRetention(where, store->retention(), spec);
}

Status CheckHeads(const Where& where, const fb::Heads* heads) {
  if (heads == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "row edit", heads->row_edit()));
  if (heads->partial() != nullptr) return Unsupported(where, "partial-channel attention");
  if (Count(heads->epilogues()) != 0) return Unsupported(where, "gates, offsets or masks on heads");
  if (Count(heads->adapters()) != 0) return Unsupported(where, "low-rank adapters");
  if (heads->row_edit() != fb::RowEdit::None) {
    return Unsupported(where, "row edit %s", fb::EnumNameRowEdit(heads->row_edit()));
  }
  return {};
}

Status LoadAttention(LoadContext& context, uint32_t index, AttentionSpec* out) {
  const fb::AttentionPlan& plan = *context.graph.attentions()->Get(index);
  const Where where("attention %u", index);
  // The mixer first: a linear plan has no streams of the softmax kind to complain about.
  HR_RETURN_IF_ERROR(CheckKnown(where, "mix", plan.mix_type()));
  if (plan.mix_type() == fb::Mix::LinearMix) return Unsupported(where, "a linear mixer");
  HR_RETURN_IF_ERROR(CheckHeads(where, plan.heads()));
  HR_RETURN_IF_ERROR(LoadProjection(context, where, plan.projection(), out));
  HR_RETURN_IF_ERROR(LoadView(where, plan.view(), out));
  HR_RETURN_IF_ERROR(LoadMix(context, where, plan, out));
  return CheckStore(context, where, plan.store(), index, *out);
}

}  // namespace

Status LoadAttentions(LoadContext& context) {
  const uint32_t count = Count(context.graph.attentions());
  HR_RETURN_IF_ERROR(CheckCount("attentions", count, kMaxAttentions));
  HR_RETURN_IF_ERROR(CheckFrequencies(context));
  HR_RETURN_IF_ERROR(context.Charge(count, sizeof(AttentionSpec), "attentions"));
  context.model.attentions.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    HR_RETURN_IF_ERROR(LoadAttention(context, i, &context.model.attentions[i]));
  }
  return {};
}

}  // namespace headroom::model
