// Linear attention and what stands around it: states, causal convolutions, products.
#include <cmath>

#include "model/load.h"

namespace headroom::model {
namespace {

// Log decays of a file: finite and at most 0, so that no state grows by itself.
Status CheckLogDecays(const LoadContext& context, const Where& where, int32_t tensor) {
  const TensorView& view = context.model.tensors[static_cast<size_t>(tensor)];
  const uint64_t count = view.data_bytes / sizeof(float);
  for (uint64_t i = 0; i < count; ++i) {
    const float value = view.f32()[i];
    if (std::isfinite(value) && value <= 0.0f) continue;
    return Corrupt(where, "log decay %llu is %g, not finite and <= 0", Number(i),
                   static_cast<double>(value));
  }
  return {};
}

Status CheckMatrix(const LoadContext& context, const Where& where, const char* what, int32_t tensor,
                   uint64_t rows, uint64_t columns) {
  HR_RETURN_IF_ERROR(CheckIndex(where, what, tensor, context.model.tensors.size()));
  const TensorView& view = context.model.tensors[static_cast<size_t>(tensor)];
  if (view.dtype == DType::kF32 && view.rank == 2 && view.extents[0] == rows &&
      view.extents[1] == columns) {
    return {};
  }
  return Corrupt(where, "%s is %s of rank %u, not f32 [%llu, %llu]", what, DTypeName(view.dtype),
                 view.rank, Number(rows), Number(columns));
}

// Both lists are in the schema's order.
static_assert(static_cast<int>(fb::DecayKind::MAX) == static_cast<int>(DecayKind::kDeltaTimesA));
static_assert(static_cast<int>(fb::StateUpdate::MAX) ==
              static_cast<int>(StateUpdate::kDeltaUndecayed));

Status LoadDecay(const LoadContext& context, const Where& where, const fb::Decay* decay,
                 LinearSpec* out) {
  if (decay == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "decay", decay->kind()));
  out->decay = static_cast<DecayKind>(decay->kind());
  if (decay->base() != kNone || decay->lora_down() != kNone || decay->lora_up() != kNone ||
      decay->a_log() != kNone || decay->dt_bias() != kNone || decay->projection() != nullptr) {
    return Unsupported(where, "a decay that is not made by operations of its own");
  }
  const uint64_t channels = uint64_t{out->heads} * out->key_width;
  const uint64_t values = uint64_t{out->heads} * out->value_width;
  out->log_decay = decay->log_decay();
  switch (out->decay) {
    case DecayKind::kHeadConstant:
      HR_RETURN_IF_ERROR(CheckVector(context, where, "log decay", out->log_decay, out->heads));
      break;
    case DecayKind::kChannelConstant:
      HR_RETURN_IF_ERROR(CheckVector(context, where, "log decay", out->log_decay, channels));
      break;
    case DecayKind::kDeltaTimesA:
      HR_RETURN_IF_ERROR(
          CheckMatrix(context, where, "log decay", out->log_decay, out->key_width, values));
      break;
    default:
      if (out->log_decay == kNone) return {};
      return Corrupt(where, "a tensor of log decays for a decay that is none or of the tokens");
  }
  return CheckLogDecays(context, where, out->log_decay);
}

// What LinearMix can say beside what the operation executes.
Status RefuseOthers(const Where& where, const fb::LinearMix& mix) {
  const auto identity = [](const fb::Feature* feature) {
    return feature == nullptr || feature->kind() == fb::FeatureMap::Identity;
  };
  if (mix.input_mix() != nullptr || !identity(mix.query_feature()) ||
      !identity(mix.key_feature()) || mix.beta() != nullptr || mix.skip() != kNone ||
      mix.query_scale() != 1.0f || mix.window() != 0 || mix.window_gain() != kNone ||
      mix.output_norm() != fb::OutputNorm::None || mix.gate() != nullptr ||
      mix.gate_activation() != fb::ActivationKind::None || mix.local_weight() != kNone) {
    return Unsupported(where,
                       "input mix, feature map, window, norm or gate inside of linear attention, "
                       "not as operations of their own");
  }
  if (!mix.causal()) return Unsupported(where, "linear attention that is not causal");
  if (mix.state_f16()) return Unsupported(where, "a state in f16");
  HR_RETURN_IF_ERROR(CheckKnown(where, "state execution", mix.execution()));
  if (mix.execution() == fb::StateExecution::Summary ||
      mix.execution() == fb::StateExecution::TwoPass) {
    return Unsupported(where, "state execution %s", fb::EnumNameStateExecution(mix.execution()));
  }
  return {};
}

Status LoadMix(const LoadContext& context, const Where& where, const fb::LinearMix& mix,
               LinearSpec* out) {
  HR_RETURN_IF_ERROR(RefuseOthers(where, mix));
  HR_RETURN_IF_ERROR(LoadDecay(context, where, mix.decay(), out));
  HR_RETURN_IF_ERROR(CheckKnown(where, "state update", mix.update()));
  out->update = static_cast<StateUpdate>(mix.update());
  HR_RETURN_IF_ERROR(CheckKnown(where, "state read", mix.read()));
  const bool before = mix.read() == fb::StateRead::BeforeWithBonus;
  out->bonus = mix.bonus();
  if (before != (out->bonus != kNone)) return Corrupt(where, "a bonus and no read before, or none");
  if (before) {
    const uint64_t channels = uint64_t{out->heads} * out->key_width;
    HR_RETURN_IF_ERROR(CheckVector(context, where, "bonus", out->bonus, channels));
  }
  HR_RETURN_IF_ERROR(CheckKnown(where, "normaliser", mix.normaliser()));
  if (mix.normaliser() != fb::Normaliser::None && mix.normaliser() != fb::Normaliser::SumKey) {
    return Unsupported(where, "normaliser %s", fb::EnumNameNormaliser(mix.normaliser()));
  }
  out->sum_keys = mix.normaliser() == fb::Normaliser::SumKey;
  out->epsilon = mix.epsilon();
  if (out->sum_keys && !(out->epsilon > 0.0f && out->epsilon <= 1.0f)) {
    return Corrupt(where, "epsilon %g is not in (0, 1]", static_cast<double>(out->epsilon));
  }
  const bool element = out->decay == DecayKind::kDeltaTimesA;
  if ((before || element || out->sum_keys) && out->update != StateUpdate::kAdditive) {
    return Unsupported(where, "a delta rule read before, normalised, or with decay DeltaTimesA");
  }
  if (int{before} + int{element} + int{out->sum_keys} > 1) {
    return Unsupported(where, "two of: read before, normaliser, decay DeltaTimesA");
  }
  return {};
}

Status LoadSizes(const Where& where, const fb::LinearAttentionOp& from, LinearSpec* out) {
  out->key_heads = from.key_heads();
  out->heads = from.heads();
  out->key_width = from.key_width();
  out->value_width = from.value_width();
  if (out->heads == 0 || out->heads > kMaxHeads || out->key_heads == 0 ||
      out->heads % out->key_heads != 0) {
    return Corrupt(where, "%u heads of keys for %u heads of a state, 1..%u", out->key_heads,
                   out->heads, kMaxHeads);
  }
  if (out->key_width == 0 || out->key_width > kMaxStateWidth || out->value_width == 0 ||
      out->value_width > kMaxWidth / out->heads) {
    return Corrupt(where, "a state of %u x %u numbers, at most %u x %u", out->key_width,
                   out->value_width, kMaxStateWidth, kMaxWidth / out->heads);
  }
  return {};
}

// Which inputs there must be, and how wide; 0: must be absent.
Status CheckInputs(const LoadContext& context, const Where& where, const LinearSpec& spec,
                   const Op& op) {
  const uint32_t keys = spec.key_heads * spec.key_width;
  const uint32_t channels = spec.heads * spec.key_width;
  const uint32_t values = spec.heads * spec.value_width;
  const bool removal = spec.update == StateUpdate::kDeltaUndecayed;
  const bool element = spec.decay == DecayKind::kDeltaTimesA;
  uint32_t decay = 0;
  if (spec.decay == DecayKind::kHeadDynamic) decay = spec.heads;
  if (spec.decay == DecayKind::kChannelDynamic) decay = channels;
  const uint32_t widths[kMostInputs] = {keys,
                                        keys,
                                        values,
                                        decay,
                                        element ? values : spec.heads,
                                        removal ? channels : 0,
                                        removal ? channels : 0};
  for (int i = 0; i < kMostInputs; ++i) {
    if (op.inputs[i] == kNone && (widths[i] == 0 || (i == kStrength && !element))) continue;
    if (op.inputs[i] == kNone) return Corrupt(where, "input %d is missing", i);
    const uint32_t width = context.model.values[static_cast<size_t>(op.inputs[i])].width;
    if (width != widths[i]) {
      return Corrupt(where, "input %d is %u wide, not %u", i, width, widths[i]);
    }
  }
  return {};
}

}  // namespace

Status LoadLinearAttention(LoadContext& context, const Where& where,
                           const fb::LinearAttentionOp& from, uint32_t out_width, Op* op) {
  op->kind = OpKind::kLinearAttention;
  HR_RETURN_IF_ERROR(context.Charge(1, sizeof(LinearSpec), "linear attentions"));
  LinearSpec spec;
  HR_RETURN_IF_ERROR(LoadSizes(where, from, &spec));
  if (from.mix() == nullptr) return Corrupt(where, "no mix");
  HR_RETURN_IF_ERROR(LoadMix(context, where, *from.mix(), &spec));
  HR_RETURN_IF_ERROR(CheckInputs(context, where, spec, *op));
  if (out_width != spec.heads * spec.value_width) {
    return Corrupt(where, "writes %u values, its heads make %u", out_width,
                   spec.heads * spec.value_width);
  }
  op->linear = static_cast<int32_t>(context.model.linears.size());
  context.model.linears.push_back(spec);
  return {};
}

Status LoadConvolution(const LoadContext& context, const Where& where,
                       const fb::ConvolutionOp& from, uint32_t width, Op* op) {
  op->kind = OpKind::kConvolution;
  const bool one_axis = Count(from.kernel()) == 1 && Count(from.stride()) <= 1 &&
                        Count(from.dilation()) <= 1 && Count(from.pad_begin()) == 0 &&
                        Count(from.pad_end()) == 0;
  if (!one_axis || !from.causal() || from.transposed() || from.groups() != width) {
    return Unsupported(where, "a convolution that is not causal, of one axis and depthwise");
  }
  if ((Count(from.stride()) == 1 && from.stride()->Get(0) != 1) ||
      (Count(from.dilation()) == 1 && from.dilation()->Get(0) != 1)) {
    return Unsupported(where, "a convolution with stride or dilation");
  }
  op->kernel = from.kernel()->Get(0);
  if (op->kernel == 0 || op->kernel > kMaxKernel) {
    return Corrupt(where, "%u taps, not 1..%u", op->kernel, kMaxKernel);
  }
  if (from.weight() == nullptr) return Corrupt(where, "no weight");
  HR_RETURN_IF_ERROR(CheckKnown(where, "padding", from.pad_mode()));
  HR_RETURN_IF_ERROR(
      CheckMatrix(context, where, "weight", from.weight()->tensor(), op->kernel, width));
  if (from.weight()->row_begin() != 0 || from.weight()->rows() != op->kernel) {
    return Corrupt(where, "%u of %u taps from %u on", from.weight()->rows(), op->kernel,
                   from.weight()->row_begin());
  }
  op->weight = {from.weight()->tensor(), 0, op->kernel, kNone};
  op->addend = from.weight()->bias();
  if (op->addend != kNone) {
    HR_RETURN_IF_ERROR(CheckVector(context, where, "bias", op->addend, width));
  }
  op->activated = from.activation() != fb::ActivationKind::None;
  return op->activated ? LoadActivation(where, from.activation(), &op->activation) : Status{};
}

// Inputs behind x are in order: the factor, then the addend, each unless a vector is named.
Status LoadMultiplyAdd(const LoadContext& context, const Where& where,
                       const fb::MultiplyAddOp& from, uint32_t width, Op* op) {
  op->kind = OpKind::kMultiplyAdd;
  op->factor = from.factor();
  op->addend = from.addend();
  if (op->factor != kNone) {
    HR_RETURN_IF_ERROR(CheckVector(context, where, "factor", op->factor, width));
  }
  if (op->addend != kNone) {
    HR_RETURN_IF_ERROR(CheckVector(context, where, "addend", op->addend, width));
  }
  uint32_t behind = 0;
  while (behind < 2 && op->inputs[1 + behind] != kNone) ++behind;
  const uint32_t least = op->factor == kNone ? 1 : 0;
  const uint32_t most = least + (op->addend == kNone ? 1 : 0);
  if (behind < least || behind > most) {
    return Corrupt(where, "%u inputs, not %u..%u", 1 + behind, 1 + least, 1 + most);
  }
  if (op->factor == kNone && op->addend == kNone && behind == 1) {
    return Corrupt(where, "a product without an addend");
  }
  return {};
}

}  // namespace headroom::model
