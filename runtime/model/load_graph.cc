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
  return CheckWidths(where, shape, query.columns(), spec.output.rows);
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
    default:
      return LoadPointwise(where, from, shape, op);
  }
}

// By the number of the operation's attributes.
bool IsExecuted(fb::OpAttributes kind) {
  return kind <= fb::OpAttributes::SoftcapOp || kind == fb::OpAttributes::MultiplyOp ||
         kind == fb::OpAttributes::PositionEmbeddingOp || kind == fb::OpAttributes::MixtureOp;
}

// A second input is added element by element; as a factor it is one number a row.
Status CheckSecond(const Where& where, fb::OpAttributes kind, uint32_t first, uint32_t second) {
  if (kind == fb::OpAttributes::AddOp && first != second) {
    return Corrupt(where, "adds %u and %u values", first, second);
  }
  if (kind == fb::OpAttributes::AddOp || second == 1) return {};
  if (first == second) return Unsupported(where, "multiplies by %u values a row, not 1", second);
  return Corrupt(where, "multiplies %u and %u values", first, second);
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
  const bool binary = kind == fb::OpAttributes::AddOp || kind == fb::OpAttributes::MultiplyOp;
  const uint32_t arity = binary ? 2 : 1;
  if (Count(from.inputs()) != arity || Count(from.outputs()) != 1) {
    return Corrupt(where, "%u inputs and %u outputs, not %u and 1", Count(from.inputs()),
                   Count(from.outputs()), arity);
  }
  for (uint32_t i = 0; i < arity; ++i) {
    op->inputs[i] = from.inputs()->Get(i);
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
  if (!binary) return {};
  return CheckSecond(where, kind, shape->in, values[static_cast<size_t>(op->inputs[1])].width);
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
  switch (kind) {
    case fb::ActivationKind::None:
      return Corrupt(where, "no activation");
    case fb::ActivationKind::Silu:
      *out = Activation::kSilu;
      return {};
    case fb::ActivationKind::GeluErf:
      *out = Activation::kGeluErf;
      return {};
    case fb::ActivationKind::GeluTanh:
      *out = Activation::kGeluTanh;
      return {};
    case fb::ActivationKind::Relu:
      *out = Activation::kRelu;
      return {};
    case fb::ActivationKind::QuickGelu:
      *out = Activation::kQuickGelu;
      return {};
    case fb::ActivationKind::Sigmoid:
      *out = Activation::kSigmoid;
      return {};
    default:
      return Unsupported(where, "activation %s", fb::EnumNameActivationKind(kind));
  }
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
