#include "convert/graph_linear.h"

#include <cmath>

namespace headroom::convert {
namespace {

using model::OpKind;
using model::WeightRef;

constexpr const char* kPartNames[kLinearParts] = {"gate",   "queries", "keys",
                                                  "values", "decay",   "strength"};

class LinearPlanner {
 public:
  LinearPlanner(TensorPlanner& tensors, OpWriter& ops, const LayerPlace& place, int32_t x)
      : tensors_(tensors),
        ops_(ops),
        model_(tensors.shape()),
        shape_(model_.linear),
        from_(*model_.recipe->linear),
        place_(place),
        x_(x) {}

  int32_t Plan() {
    Project(false, x_);
    Convolve();
    Project(true, at(LinearPart::kValues));
    if (from_.activated) ActivateAll();
    if (from_.unit_lengths) {
      at(LinearPart::kQueries) = UnitLength("queries", at(LinearPart::kQueries), 1.0 / Keys());
      at(LinearPart::kKeys) = UnitLength("keys", at(LinearPart::kKeys), 1.0 / std::sqrt(Keys()));
    }
    return Output(GateAndNorm(Skip(Mix())));
  }

 private:
  std::string Name(const std::string& part) const { return place_.name + "." + part; }
  std::string Source(std::string_view name) const { return place_.source + std::string(name); }
  int32_t& at(LinearPart part) { return made_[static_cast<size_t>(part)]; }
  uint32_t AllValues() const { return shape_.heads * shape_.value_width; }
  double Keys() const { return shape_.key_width; }

  // ---- Projections

  uint32_t RowsOf(LinearPart part) const {
    switch (part) {
      case LinearPart::kGate:
      case LinearPart::kValues:
        return AllValues();
      case LinearPart::kQueries:
      case LinearPart::kKeys:
        return shape_.key_heads * shape_.key_width;
      case LinearPart::kDecay:
        return shape_.rank != 0 ? shape_.rank : shape_.heads;
      case LinearPart::kStrength:
        return shape_.heads;
    }
    return 0;
  }

  // Where the rows of a part lie in its matrix.
  std::vector<MatrixSource> SourcesOf(const PartsMatrix& matrix, LinearPart wanted) const {
    uint64_t all = 0, before = 0;
    for (const LinearPart part : matrix.parts) {
      if (part == wanted) before = all;
      all += RowsOf(part);
    }
    const uint64_t groups = matrix.by_head ? shape_.key_heads : 1;
    const uint64_t rows = RowsOf(wanted) / groups;
    const float scale = shape_.scales[static_cast<size_t>(wanted)];
    std::vector<MatrixSource> sources;
    for (uint64_t g = 0; g < groups; ++g) {
      sources.push_back({matrix.name,
                         all,
                         (g * all + before) / groups,
                         rows,
                         {},
                         scale * shape_.input_scale,
                         scale});
    }
    return sources;
  }

  // Parts of the usual format in one tensor, what decides in its own.
  void Project(bool of_values, int32_t x) {
    std::vector<MatrixSource> sources;
    std::vector<LinearPart> parts;
    for (const PartsMatrix& matrix : from_.inputs) {
      if (matrix.reads_values != of_values) continue;
      for (const LinearPart part : matrix.parts) {
        const std::vector<MatrixSource> rows = SourcesOf(matrix, part);
        if (part == LinearPart::kDecay || part == LinearPart::kStrength) {
          Decide(part, matrix, rows, x);
          continue;
        }
        sources.insert(sources.end(), rows.begin(), rows.end());
        parts.push_back(part);
      }
    }
    if (parts.empty()) return;
    const WeightRef all =
        tensors_.AddMatrix(Name(of_values ? "value_input" : "input"), place_.source, ops_.width(x),
                           sources, shape_.bias && !of_values);
    uint32_t row = 0;
    for (const LinearPart part : parts) {
      const WeightRef weight = {all.tensor, row, RowsOf(part), all.bias};
      at(part) = ops_.Project(Name(kPartNames[static_cast<size_t>(part)]), weight, x);
      row += weight.rows;
    }
  }

  void Decide(LinearPart part, const PartsMatrix& matrix, const std::vector<MatrixSource>& rows,
              int32_t x) {
    const std::string name = Name(kPartNames[static_cast<size_t>(part)]);
    WeightRef weight = tensors_.AddMatrix(name, place_.source, ops_.width(x), rows, false,
                                          tensors_.DecisionFormat(Source(matrix.name)));
    TensorPlan bias;
    bias.role = TensorRole::kBias;
    if (part == LinearPart::kDecay && !from_.step_bias.empty()) {
      bias.parts.push_back({Source(from_.step_bias), shape_.heads, 0, shape_.heads});
    }
    if (shape_.bias && !matrix.reads_values) {
      RowPart own{Source(matrix.name) + ".bias", rows[0].source_rows, rows[0].begin, rows[0].rows};
      own.scale = rows[0].bias_scale;
      (bias.parts.empty() ? bias.parts : bias.plus).push_back(own);
    }
    if (!bias.parts.empty()) {
      weight.bias =
          tensors_.AddTensor({name + ".bias", DType::kF32, 0, {weight.rows}}, std::move(bias));
    }
    at(part) = ops_.Project(name, weight, x);
  }

  // ---- Between projections and recurrence

  // One convolution of the checkpoint, cut into one a part.
  void Convolve() {
    uint32_t all = 0, before = 0;
    for (const LinearPart part : from_.convolved) all += RowsOf(part);
    for (const LinearPart part : from_.convolved) {
      const std::string name =
          Name(std::string("convolution.") + kPartNames[static_cast<size_t>(part)]);
      const uint32_t width = RowsOf(part);
      RowPart taps{Source(from_.convolution) + ".weight", shape_.taps, 0, shape_.taps, true};
      taps.source_columns = all;
      taps.column_begin = before;
      taps.unit_axis = true;
      TensorPlan plan;
      plan.role = TensorRole::kNorm;
      plan.parts = {taps};
      model::Op op;
      op.kind = OpKind::kConvolution;
      op.kernel = shape_.taps;
      op.weight.tensor =
          tensors_.AddTensor({name, DType::kF32, 0, {shape_.taps, width}}, std::move(plan));
      op.weight.rows = shape_.taps;
      if (shape_.convolution_bias) {
        op.addend = tensors_.AddVector(name + ".bias", TensorRole::kBias,
                                       {{Source(from_.convolution) + ".bias", all, before, width}});
      }
      op.activated = true;
      at(part) = ops_.Add(name, op, width, {at(part)});
      before += width;
    }
  }

  void ActivateAll() {
    for (const LinearPart part : {LinearPart::kQueries, LinearPart::kKeys, LinearPart::kValues}) {
      const char* name = kPartNames[static_cast<size_t>(part)];
      at(part) = ops_.Activate(Name(name) + ".activation", model::Activation::kSilu, at(part));
    }
  }

  // x / sqrt(sum x^2 + 1e-6) of each head, times `factor` sqrt(K): an RMS norm with that weight.
  int32_t UnitLength(const std::string& part, int32_t x, double factor) {
    model::NormSpec norm;
    norm.epsilon = static_cast<float>(1e-6 / Keys());
    norm.groups = shape_.key_heads;
    norm.shared = true;
    norm.weight = tensors_.AddFixed(
        Name(part) + ".length", std::vector<float>(shape_.key_width, static_cast<float>(factor)));
    return ops_.Norm(Name(part) + ".length", norm, x);
  }

  // What the state's decay, and often what is written to it, is made of.
  int32_t Step() {
    int32_t low = at(LinearPart::kDecay);
    if (!from_.step_up.empty()) {
      const WeightRef weight = tensors_.AddMatrix(
          Name("step"), place_.source, shape_.rank, {{from_.step_up, AllValues(), 0, AllValues()}},
          true, tensors_.DecisionFormat(Source(from_.step_up)));
      low = ops_.Project(Name("step"), weight, low);
    }
    return ops_.Activate(Name("step.activation"), model::Activation::kSoftplus, low);
  }

  // -exp(a_log).
  int32_t Rates(std::vector<uint32_t> extents, bool transposed) {
    TensorPlan plan;
    plan.role = TensorRole::kBias;
    plan.parts = {{Source(from_.a_log), extents[0], 0, extents[0], transposed}};
    if (!from_.a_is_rate) plan.map = [](float x) { return -std::exp(x); };
    return tensors_.AddTensor({Name("decay.rate"), DType::kF32, 0, std::move(extents)},
                              std::move(plan));
  }

  // See LinearDecay::kSlopes; the small terms are the reference's.
  std::vector<float> Slopes() const {
    const double last = static_cast<double>(model_.layers.size()) - 1.0;
    const double layer = 1.0 - static_cast<double>(place_.layer) / (last + 1e-5) + 1e-5;
    std::vector<float> slopes;
    for (uint32_t h = 0; h < shape_.heads; ++h) {
      slopes.push_back(static_cast<float>(-std::exp2(-8.0 * (h + 1) / shape_.heads) * layer));
    }
    return slopes;
  }

  // ---- The recurrence and what comes behind it

  int32_t Mix() {
    model::LinearSpec spec;
    spec.key_heads = shape_.key_heads;
    spec.heads = shape_.heads;
    spec.key_width = shape_.key_width;
    spec.value_width = shape_.value_width;
    if (from_.delta) spec.update = model::StateUpdate::kDeltaDecayed;
    int32_t log_decay = model::kNone, strength = model::kNone;
    const int32_t step = from_.decay == LinearDecay::kSlopes ? model::kNone : Step();
    switch (from_.decay) {
      case LinearDecay::kSlopes:
        spec.decay = model::DecayKind::kHeadConstant;
        spec.log_decay = tensors_.AddFixed(Name("decay"), Slopes());
        break;
      case LinearDecay::kStep: {
        spec.decay = model::DecayKind::kHeadDynamic;
        model::Op op;
        op.kind = OpKind::kMultiplyAdd;
        op.factor = Rates({shape_.heads}, false);
        log_decay = ops_.Add(Name("decay.log"), op, shape_.heads, {step});
        break;
      }
      case LinearDecay::kElement:
        spec.decay = model::DecayKind::kDeltaTimesA;
        spec.log_decay = Rates({shape_.key_width, AllValues()}, true);
        break;
    }
    if (from_.strength == LinearStrength::kStep) strength = step;
    if (from_.strength == LinearStrength::kSigmoid) {
      strength = ops_.Activate(Name("strength.activation"), model::Activation::kSigmoid,
                               at(LinearPart::kStrength));
    }
    model::Op op;
    op.kind = OpKind::kLinearAttention;
    op.linear = static_cast<int32_t>(ops_.description().linears.size());
    ops_.description().linears.push_back(spec);
    return ops_.Add(place_.name, op, AllValues(),
                    {at(LinearPart::kQueries), at(LinearPart::kKeys), at(LinearPart::kValues),
                     log_decay, strength});
  }

  int32_t Skip(int32_t mixed) {
    if (from_.skip.empty()) return mixed;
    const uint32_t repeat = from_.decay == LinearDecay::kElement ? 1 : shape_.value_width;
    RowPart part{Source(from_.skip), AllValues() / repeat, 0, AllValues()};
    part.repeat = repeat;
    model::Op op;
    op.kind = OpKind::kMultiplyAdd;
    op.factor = tensors_.AddVector(Name("skip"), TensorRole::kNorm, {part});
    return ops_.Add(Name("skip"), op, AllValues(), {at(LinearPart::kValues), mixed});
  }

  int32_t Norm(int32_t x) {
    if (shape_.norm == LinearNorm::kNone) return x;
    const bool heads = shape_.norm == LinearNorm::kHead;
    const uint32_t width = heads ? shape_.value_width : AllValues();
    model::NormSpec norm;
    norm.epsilon =
        from_.norm_epsilon != 0.0 ? static_cast<float>(from_.norm_epsilon) : model_.epsilon;
    norm.groups = heads ? shape_.heads : from_.norm_groups ? shape_.key_heads : 1;
    norm.shared = heads;
    norm.weight = tensors_.AddVector(Name("output_norm"), TensorRole::kNorm,
                                     {{Source(from_.norm_weight) + ".weight", width, 0, width}});
    return ops_.Norm(Name("output_norm"), norm, x);
  }

  int32_t GateAndNorm(int32_t x) {
    if (shape_.norm_first) x = Norm(x);
    const auto activation =
        from_.sigmoid_gate ? model::Activation::kSigmoid : model::Activation::kSilu;
    x = ops_.Multiply(Name("gated"), x,
                      ops_.Activate(Name("gate.activation"), activation, at(LinearPart::kGate)));
    return shape_.norm_first ? x : Norm(x);
  }

  int32_t Output(int32_t x) {
    const MatrixSource source = {from_.output,        model_.channels,    0, model_.channels, {},
                                 shape_.output_scale, shape_.output_scale};
    return ops_.Project(Name("output"),
                        tensors_.AddMatrix(Name("output"), place_.source, AllValues(), {source},
                                           shape_.output_bias),
                        x);
  }

  TensorPlanner& tensors_;
  OpWriter& ops_;
  const ModelShape& model_;
  const LinearShape& shape_;
  const LinearRecipe& from_;
  const LayerPlace& place_;
  const int32_t x_;
  int32_t made_[kLinearParts] = {model::kNone, model::kNone, model::kNone,
                                 model::kNone, model::kNone, model::kNone};
};

}  // namespace

int32_t PlanLinear(TensorPlanner& tensors, OpWriter& ops, const LayerPlace& place, int32_t x) {
  return LinearPlanner(tensors, ops, place, x).Plan();
}

}  // namespace headroom::convert
