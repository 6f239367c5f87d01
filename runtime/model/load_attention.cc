// Attention plans: from the five parts of the schema to the AttentionSpec this build executes.
// Everything else the schema can say is refused by its name.
#include <algorithm>
#include <cmath>

#include "model/load.h"
#include "model/rotation.h"

namespace headroom::model {
namespace {

bool Positive(float value) { return std::isfinite(value) && value > 0.0f; }

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

// Whose rows the attention reads: kNone: its own, else those of an earlier one.
Status LoadSource(const Where& where, const fb::Store* store, uint32_t index, int32_t* source) {
  *source = kNone;
  if (store == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "KV source", store->source()));
  HR_RETURN_IF_ERROR(CheckKnown(where, "share point", store->share_point()));
  if (store->source() == fb::KvSourceKind::Own) return {};
  if (store->source() != fb::KvSourceKind::Alias) {
    return Unsupported(where, "%s keys and values", fb::EnumNameKvSourceKind(store->source()));
  }
  HR_RETURN_IF_ERROR(CheckIndex(where, "source attention", store->source_attention(), index));
  *source = store->source_attention();
  return {};
}

// Rows are kept as the source's queries meet them. Taken at an earlier point they are the same
// where nothing comes between, or the same: no norm, and raw rows are turned by the angles of
// queries.
Status CheckSharePoint(const LoadContext& context, const Where& where, const fb::Store* store,
                       const AttentionSpec& spec) {
  if (spec.source_attention == kNone || store->share_point() == fb::SharePoint::Final) return {};
  const char* point = fb::EnumNameSharePoint(store->share_point());
  const AttentionSpec& source =
      context.model.attentions[static_cast<size_t>(spec.source_attention)];
  for (const StreamSpec* stream : {&source.key, &source.tail, &source.value}) {
    if (!stream->norm.present()) continue;
    return Unsupported(where, "%s rows of attention %d, which norms them", point,
                       spec.source_attention);
  }
  const RopeSpec& turned = (source.tail.present() ? source.tail : source.key).rope;
  if (store->share_point() == fb::SharePoint::BeforeNorm ||
      (RotatesAlike(context.model, spec) &&
       turned.attention_factor == spec.query.rope.attention_factor)) {
    return {};
  }
  return Unsupported(where, "%s rows of attention %d, which rotates them by other angles", point,
                     spec.source_attention);
}

// What is kept is the source's choice.
Status CheckSharedView(const LoadContext& context, const Where& where, const fb::Store* store,
                       const AttentionSpec& spec) {
  if (spec.source_attention == kNone) return {};
  const AttentionSpec& source =
      context.model.attentions[static_cast<size_t>(spec.source_attention)];
  if (spec.left != source.left || spec.sinks != source.sinks) {
    return Unsupported(where, "a view of %u rows and %u sinks on rows kept for %u and %u",
                       spec.left, spec.sinks, source.left, source.sinks);
  }
  if (store->retention() != nullptr || store->key_codec() != nullptr ||
      store->value_codec() != nullptr) {
    return Corrupt(where, "a codec or retention for rows of another attention");
  }
  return {};
}

Status CheckStore(const LoadContext& context, const Where& where, const fb::Store* store,
                  const AttentionSpec& spec) {
  if (store == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "place", store->place()));
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
  int32_t source = kNone;
  HR_RETURN_IF_ERROR(LoadSource(where, plan.store(), index, &source));
  const AttentionSpec* lender =
      source == kNone ? nullptr : &context.model.attentions[static_cast<size_t>(source)];
  HR_RETURN_IF_ERROR(LoadProjection(context, where, plan.projection(), lender, out));
  out->source_attention = source;
  HR_RETURN_IF_ERROR(LoadView(where, plan.view(), out));
  HR_RETURN_IF_ERROR(LoadMix(context, where, plan, out));
  HR_RETURN_IF_ERROR(CheckSharePoint(context, where, plan.store(), *out));
  HR_RETURN_IF_ERROR(CheckSharedView(context, where, plan.store(), *out));
  return CheckStore(context, where, plan.store(), *out);
}

}  // namespace

bool RotatesAlike(const Model& model, const AttentionSpec& attention) {
  const AttentionSpec& source =
      attention.source_attention == kNone
          ? attention
          : model.attentions[static_cast<size_t>(attention.source_attention)];
  const bool by_tail = source.tail.present();
  const RopeSpec& query = attention.query.rope;
  const RopeSpec& key = by_tail ? source.tail.rope : source.key.rope;
  if (by_tail && source.key.rope.dims != 0) return false;
  if (query.dims == 0 || key.dims == 0) return query.dims == key.dims;
  const float* frequencies = model.tensors[static_cast<size_t>(query.inverse_frequencies)].f32();
  return query.dims == key.dims && query.layout == key.layout &&
         query.offset == key.offset + (by_tail ? attention.query_part() : 0) &&
         std::equal(frequencies, frequencies + query.dims / 2,
                    model.tensors[static_cast<size_t>(key.inverse_frequencies)].f32());
}

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
