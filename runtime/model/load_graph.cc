// Values and operations: every value written once and before it is read, every shape agreeing with
// its weights.
#include <algorithm>
#include <cmath>
#include <vector>

#include "model/load.h"

namespace headroom::model {
namespace {

constexpr uint32_t kTokensValue = 0;

struct Shape {
  uint32_t in = 0;
  uint32_t out = 0;
};

Where At(uint32_t index, std::string_view name) {
  return Where("op %u \"%.*s\"", index, static_cast<int>(std::min<size_t>(name.size(), 80)),
               name.data());
}

Status LoadValue(uint32_t index, const fb::Value& value, Value* out) {
  const Where where("value %u", index);
  std::string_view name;
  HR_RETURN_IF_ERROR(CheckText(where, "name", value.name(), kMaxNameBytes, false, &name));
  HR_RETURN_IF_ERROR(CheckKnown(where, "element type", value.dtype()));
  for (uint32_t i = 0; i < Count(value.dims()); ++i) {
    HR_RETURN_IF_ERROR(CheckKnown(where, "dimension symbol", value.dims()->Get(i)->symbol()));
    if (value.dims()->Get(i)->size() == 0) return Corrupt(where, "dimension %u is 0", i);
  }
  const bool tokens = index == kTokensValue;
  const fb::DType dtype = tokens ? fb::DType::I32 : fb::DType::F32;
  const uint32_t rank = tokens ? 1 : 2;
  if (value.dtype() == fb::DType::None) return Corrupt(where, "no element type");
  if (value.dtype() != dtype) {
    return Unsupported(where, "%s elements, not %s", fb::EnumNameDType(value.dtype()),
                       fb::EnumNameDType(dtype));
  }
  if (Count(value.dims()) != rank)
    return Unsupported(where, "%u dimensions, not %u", Count(value.dims()), rank);
  if (value.dims()->Get(0)->symbol() != fb::DimSymbol::T || value.dims()->Get(0)->size() != 1) {
    return Unsupported(where, "its first dimension is not T");
  }
  if (tokens) return {};
  if (value.dims()->Get(1)->symbol() != fb::DimSymbol::Constant) {
    return Unsupported(where, "its second dimension is not constant");
  }
  out->width = value.dims()->Get(1)->size();
  if (out->width > kMaxWidth) return Corrupt(where, "%u wide > %u", out->width, kMaxWidth);
  return {};
}

Status CheckWidths(const Where& where, const Shape& shape, uint64_t in, uint64_t out) {
  if (shape.in == in && shape.out == out) return {};
  return Corrupt(where, "maps %u to %u values, it should map %llu to %llu", shape.in, shape.out,
                 static_cast<unsigned long long>(in), static_cast<unsigned long long>(out));
}

Status LoadEmbedding(const LoadContext& context, const Where& where, const fb::EmbeddingOp& from,
                     const Shape& shape, Op* op) {
  op->kind = OpKind::kEmbedding;
  op->scale = from.scale();
  HR_RETURN_IF_ERROR(CheckFactor(where, "scale", from.scale()));
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "table", from.weight(), shape.out, &op->weight));
  if (op->inputs[0] != static_cast<int32_t>(kTokensValue))
    return Corrupt(where, "reads value %d, not the tokens", op->inputs[0]);
  const uint32_t vocabulary = context.model.metadata.vocabulary;
  if (op->weight.row_begin != 0 || op->weight.rows != vocabulary) {
    return Corrupt(where, "table of %u rows from %u on for a vocabulary of %u", op->weight.rows,
                   op->weight.row_begin, vocabulary);
  }
  if (op->weight.bias != kNone) return Unsupported(where, "a table with a bias");
  return {};
}

Status LoadPositionEmbedding(const LoadContext& context, const Where& where,
                             const fb::PositionEmbeddingOp& from, const Shape& shape, Op* op) {
  op->kind = OpKind::kPositionEmbedding;
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "table", from.weight(), shape.out, &op->weight));
  if (op->inputs[0] != static_cast<int32_t>(kTokensValue))
    return Corrupt(where, "reads value %d, not the tokens", op->inputs[0]);
  const uint32_t positions = context.model.metadata.context_tokens;
  if (op->weight.row_begin != 0 || op->weight.rows < positions) {
    return Corrupt(where, "table of %u rows from %u on for a context of %u", op->weight.rows,
                   op->weight.row_begin, positions);
  }
  if (op->weight.bias != kNone) return Unsupported(where, "a table with a bias");
  return {};
}

Status LoadProjectionOp(const LoadContext& context, const Where& where,
                        const fb::ProjectionOp& from, const Shape& shape, Op* op) {
  op->kind = OpKind::kProjection;
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "weight", from.weight(), shape.in, &op->weight));
  return CheckWidths(where, shape, shape.in, op->weight.rows);
}

Status LoadAttentionOp(const LoadContext& context, const Where& where, const fb::AttentionOp& from,
                       const Shape& shape, Op* op) {
  op->kind = OpKind::kAttention;
  HR_RETURN_IF_ERROR(
      CheckIndex(where, "attention", from.attention(), context.model.attentions.size()));
  op->attention = static_cast<int32_t>(from.attention());
  const AttentionSpec& spec = context.model.attentions[from.attention()];
  const WeightRef& first =
      spec.query.kind == QueryKind::kLowRank ? spec.query.down : spec.query.weight;
  const TensorView& query = context.model.tensors[static_cast<size_t>(first.tensor)];
  return CheckWidths(where, shape, query.columns(), spec.output_width());
}

Status LoadNormOp(const LoadContext& context, const Where& where, const fb::NormOp& from,
                  const Shape& shape, Op* op) {
  op->kind = OpKind::kNorm;
  if (from.norm() == nullptr) return Corrupt(where, "no norm");
  HR_RETURN_IF_ERROR(LoadNorm(context, where, "norm", from.norm(), shape.in, 0, &op->norm));
  return CheckWidths(where, shape, shape.in, shape.in);
}

Status LoadPointwise(const Where& where, const fb::Op& from, const Shape& shape, Op* op) {
  switch (from.attributes_type()) {
    case fb::OpAttributes::GatedActivationOp:
      op->kind = OpKind::kGatedActivation;
      HR_RETURN_IF_ERROR(LoadActivation(where, from.attributes_as_GatedActivationOp()->activation(),
                                        &op->activation));
      return CheckWidths(where, shape, uint64_t{shape.out} * 2, shape.out);
    case fb::OpAttributes::ActivationOp:
      op->kind = OpKind::kActivation;
      HR_RETURN_IF_ERROR(
          LoadActivation(where, from.attributes_as_ActivationOp()->activation(), &op->activation));
      break;
    case fb::OpAttributes::AddOp:
      op->kind = OpKind::kAdd;
      break;
    case fb::OpAttributes::MultiplyOp:
      op->kind = OpKind::kMultiply;
      break;
    case fb::OpAttributes::HeadProductOp:
      op->kind = OpKind::kHeadProduct;
      op->heads = from.attributes_as_HeadProductOp()->heads();
      if (op->heads == 0 || shape.in % op->heads != 0) {
        return Corrupt(where, "%u values in %u heads", shape.in, op->heads);
      }
      break;
    case fb::OpAttributes::ScaleOp:
      op->kind = OpKind::kScale;
      op->scale = from.attributes_as_ScaleOp()->scale();
      HR_RETURN_IF_ERROR(CheckFactor(where, "scale", op->scale));
      break;
    case fb::OpAttributes::SoftcapOp:
      op->kind = OpKind::kSoftcap;
      op->scale = from.attributes_as_SoftcapOp()->cap();
      if (!std::isfinite(op->scale) || op->scale <= 0.0f) {
        return Corrupt(where, "cap %g is not positive", static_cast<double>(op->scale));
      }
      break;
    default:
      return Unsupported(where, "operation %s", fb::EnumNameOpAttributes(from.attributes_type()));
  }
  return CheckWidths(where, shape, shape.in, shape.in);
}

Status LoadMixtureOp(LoadContext& context, const Where& where, const fb::MixtureOp& from,
                     const Shape& shape, Op* op) {
  op->kind = OpKind::kMixture;
  HR_RETURN_IF_ERROR(CheckWidths(where, shape, shape.in, shape.in));
  HR_RETURN_IF_ERROR(context.Charge(1, sizeof(MixtureSpec), "mixtures"));
  op->mixture = static_cast<int32_t>(context.model.mixtures.size());
  return LoadMixture(context, where, from, shape.in, &context.model.mixtures.emplace_back());
}

Status LoadAttributes(LoadContext& context, const Where& where, const fb::Op& from,
                      const Shape& shape, Op* op) {
  switch (from.attributes_type()) {
    case fb::OpAttributes::EmbeddingOp:
      return LoadEmbedding(context, where, *from.attributes_as_EmbeddingOp(), shape, op);
    case fb::OpAttributes::PositionEmbeddingOp:
      return LoadPositionEmbedding(context, where, *from.attributes_as_PositionEmbeddingOp(), shape,
                                   op);
    case fb::OpAttributes::MixtureOp:
      return LoadMixtureOp(context, where, *from.attributes_as_MixtureOp(), shape, op);
    case fb::OpAttributes::NormOp:
      return LoadNormOp(context, where, *from.attributes_as_NormOp(), shape, op);
    case fb::OpAttributes::ProjectionOp:
      return LoadProjectionOp(context, where, *from.attributes_as_ProjectionOp(), shape, op);
    case fb::OpAttributes::AttentionOp:
      return LoadAttentionOp(context, where, *from.attributes_as_AttentionOp(), shape, op);
    case fb::OpAttributes::LinearAttentionOp:
      return LoadLinearAttention(context, where, *from.attributes_as_LinearAttentionOp(), shape.out,
                                 op);
    case fb::OpAttributes::ConvolutionOp:
      HR_RETURN_IF_ERROR(CheckWidths(where, shape, shape.in, shape.in));
      return LoadConvolution(context, where, *from.attributes_as_ConvolutionOp(), shape.in, op);
    case fb::OpAttributes::MultiplyAddOp:
      HR_RETURN_IF_ERROR(CheckWidths(where, shape, shape.in, shape.in));
      return LoadMultiplyAdd(context, where, *from.attributes_as_MultiplyAddOp(), shape.in, op);
    default:
      return LoadPointwise(where, from, shape, op);
  }
}

// By the number of the operation's attributes.
bool IsExecuted(fb::OpAttributes kind) {
  return kind <= fb::OpAttributes::SoftcapOp || kind == fb::OpAttributes::MultiplyOp ||
         kind == fb::OpAttributes::ConvolutionOp || kind >= fb::OpAttributes::PositionEmbeddingOp;
}

struct Arity {
  uint32_t least = 1, most = 1;
};
Arity ArityOf(fb::OpAttributes kind) {
  switch (kind) {
    case fb::OpAttributes::AddOp:
    case fb::OpAttributes::MultiplyOp:
      return {2, 2};
    case fb::OpAttributes::MultiplyAddOp:
      return {1, 3};
    case fb::OpAttributes::HeadProductOp:
      return {3, 3};
    case fb::OpAttributes::LinearAttentionOp:
      return {kMostInputs, kMostInputs};
    default:
      return {};
  }
}

// Inputs that meet number by number are of one width; a factor may be one number a row. Those of
// linear attention are checked where it is loaded.
Status CheckOthers(const LoadContext& context, const Where& where, fb::OpAttributes kind,
                   const Op& op) {
  if (kind == fb::OpAttributes::LinearAttentionOp) return {};
  const auto width = [&](int i) {
    return context.model.values[static_cast<size_t>(op.inputs[i])].width;
  };
  for (int i = 1; i < kMostInputs && op.inputs[i] != kNone; ++i) {
    if (width(i) == width(0)) continue;
    if (kind == fb::OpAttributes::MultiplyOp && width(i) == 1) continue;
    return Corrupt(where, "%s %u and %u values",
                   kind == fb::OpAttributes::AddOp ? "adds" : "multiplies", width(0), width(i));
  }
  return {};
}

// Which values exist by the time an operation runs, and which attention states have an owner.
struct Progress {
  std::vector<bool> written;
  std::vector<bool> attended;
};

Status LoadEdges(const LoadContext& context, const Where& where, const fb::Op& from,
                 Progress& progress, Op* op, Shape* shape) {
  const std::vector<Value>& values = context.model.values;
  const fb::OpAttributes kind = from.attributes_type();
  const Arity arity = ArityOf(kind);
  const uint32_t count = Count(from.inputs());
  if (count < arity.least || count > arity.most || Count(from.outputs()) != 1) {
    const uint32_t wanted = count < arity.least ? arity.least : arity.most;
    return Corrupt(where, "%u inputs and %u outputs, not %u and 1", count, Count(from.outputs()),
                   wanted);
  }
  for (uint32_t i = 0; i < count; ++i) {
    op->inputs[i] = from.inputs()->Get(i);
    if (op->inputs[i] == kNone && kind == fb::OpAttributes::LinearAttentionOp && i != 0) continue;
    HR_RETURN_IF_ERROR(CheckIndex(where, "input value", op->inputs[i], values.size()));
    if (!progress.written[static_cast<size_t>(op->inputs[i])]) {
      return Corrupt(where, "reads value %d before it is written", op->inputs[i]);
    }
    const bool tokens = op->inputs[i] == static_cast<int32_t>(kTokensValue);
    if (tokens && kind != fb::OpAttributes::EmbeddingOp &&
        kind != fb::OpAttributes::PositionEmbeddingOp) {
      return Corrupt(where, "reads the token ids");
    }
  }
  op->output = from.outputs()->Get(0);
  HR_RETURN_IF_ERROR(CheckIndex(where, "output value", op->output, values.size()));
  if (progress.written[static_cast<size_t>(op->output)]) {
    return Corrupt(where, "writes value %d again", op->output);
  }
  progress.written[static_cast<size_t>(op->output)] = true;
  *shape = {values[static_cast<size_t>(op->inputs[0])].width,
            values[static_cast<size_t>(op->output)].width};
  return CheckOthers(context, where, kind, *op);
}

Status LoadOp(LoadContext& context, uint32_t index, const fb::Op& from, Progress& progress,
              Op* op) {
  Where where("op %u", index);
  HR_RETURN_IF_ERROR(CheckText(where, "name", from.name(), kMaxNameBytes, false, &op->name));
  where = At(index, op->name);
  const fb::OpAttributes kind = from.attributes_type();
  HR_RETURN_IF_ERROR(CheckKnown(where, "operation", kind));
  if (kind == fb::OpAttributes::NONE || from.attributes() == nullptr)
    return Corrupt(where, "no attributes");
  if (!IsExecuted(kind)) {
    return Unsupported(where, "operation %s", fb::EnumNameOpAttributes(kind));
  }
  Shape shape;
  HR_RETURN_IF_ERROR(LoadEdges(context, where, from, progress, op, &shape));
  HR_RETURN_IF_ERROR(LoadAttributes(context, where, from, shape, op));
  if (op->kind != OpKind::kAttention) return {};
  const size_t attention = static_cast<size_t>(op->attention);
  if (progress.attended[attention])
    return Corrupt(where, "shares the state of attention %zu", attention);
  const int32_t source = context.model.attentions[attention].source_attention;
  if (source != kNone && !progress.attended[static_cast<size_t>(source)]) {
    return Corrupt(where, "reads rows of attention %d before they are made", source);
  }
  progress.attended[attention] = true;
  return {};
}

Status CheckEnds(const LoadContext& context, const Progress& progress) {
  const Model& model = context.model;
  const Where where("graph");
  HR_RETURN_IF_ERROR(
      CheckIndex(where, "logits value", context.graph.logits(), model.values.size()));
  const size_t logits = static_cast<size_t>(context.graph.logits());
  for (size_t i = 0; i < progress.written.size(); ++i) {
    if (!progress.written[i]) return Corrupt(where, "value %zu is written by no operation", i);
  }
  for (size_t i = 0; i < progress.attended.size(); ++i) {
    if (!progress.attended[i]) return Corrupt(where, "attention %zu belongs to no operation", i);
  }
  if (logits == kTokensValue || model.values[logits].width != model.metadata.vocabulary) {
    return Corrupt(where, "logits are %u wide, the vocabulary has %u", model.values[logits].width,
                   model.metadata.vocabulary);
  }
  return {};
}

}  // namespace

Status LoadActivation(const Where& where, fb::ActivationKind kind, Activation* out) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "activation", kind));
  if (kind == fb::ActivationKind::None) return Corrupt(where, "no activation");
  static constexpr struct {
    fb::ActivationKind kind;
    Activation activation;
  } kExecuted[] = {
      {fb::ActivationKind::Silu, Activation::kSilu},
      {fb::ActivationKind::GeluErf, Activation::kGeluErf},
      {fb::ActivationKind::GeluTanh, Activation::kGeluTanh},
      {fb::ActivationKind::Relu, Activation::kRelu},
      {fb::ActivationKind::QuickGelu, Activation::kQuickGelu},
      {fb::ActivationKind::Sigmoid, Activation::kSigmoid},
      {fb::ActivationKind::Tanh, Activation::kTanh},
      {fb::ActivationKind::Softplus, Activation::kSoftplus},
      {fb::ActivationKind::Exp, Activation::kExp},
      {fb::ActivationKind::EluPlus1, Activation::kEluPlus1},
      {fb::ActivationKind::ReluSquared, Activation::kReluSquared},
  };
  for (const auto& row : kExecuted) {
    if (row.kind != kind) continue;
    *out = row.activation;
    return {};
  }
  return Unsupported(where, "activation %s", fb::EnumNameActivationKind(kind));
}

Status CheckFactor(const Where& where, const char* what, float factor) {
  if (std::isfinite(factor) && factor != 0.0f) return {};
  return Corrupt(where, "%s %g is not finite and other than 0", what, static_cast<double>(factor));
}

Status LoadGraph(LoadContext& context) {
  const auto* values = context.graph.values();
  const auto* ops = context.graph.ops();
  Model& model = context.model;
  HR_RETURN_IF_ERROR(CheckCount("values", Count(values), kMaxValues));
  HR_RETURN_IF_ERROR(CheckCount("operations", Count(ops), kMaxOps));
  if (Count(values) == 0 || Count(ops) == 0)
    return Corrupt(Where("graph"), "no values or no operations");
  HR_RETURN_IF_ERROR(context.Charge(values->size(), sizeof(Value) + 1, "values"));
  HR_RETURN_IF_ERROR(context.Charge(ops->size(), sizeof(Op), "operations"));
  model.values.resize(values->size());
  for (uint32_t i = 0; i < values->size(); ++i) {
    HR_RETURN_IF_ERROR(LoadValue(i, *values->Get(i), &model.values[i]));
  }
  Progress progress;
  progress.written.resize(values->size());
  progress.attended.resize(model.attentions.size());
  progress.written[kTokensValue] = true;
  model.ops.resize(ops->size());
  for (uint32_t i = 0; i < ops->size(); ++i) {
    HR_RETURN_IF_ERROR(LoadOp(context, i, *ops->Get(i), progress, &model.ops[i]));
  }
  HR_RETURN_IF_ERROR(CheckEnds(context, progress));
  model.logits = context.graph.logits();
  return {};
}

}  // namespace headroom::model
