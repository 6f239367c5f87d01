#include "plan/lower.h"

#include <algorithm>

#include "plan/expand.h"

namespace headroom::plan {
namespace {

using model::AttentionSpec;
using model::Op;
using model::OpKind;
using model::RopeSpec;
using model::WeightRef;

bool Adjacent(const WeightRef& a, const WeightRef& b) {
  return a.tensor == b.tensor && a.bias == b.bias && a.row_begin + a.rows == b.row_begin;
}

bool SameAngles(const RopeSpec& a, const RopeSpec& b) {
  return a.dims == b.dims && a.inverse_frequencies == b.inverse_frequencies &&
         a.attention_factor == b.attention_factor;
}

class Lowering {
 public:
  explicit Lowering(const model::Model& model) : model_(model) {
    buffer_of_.assign(model.values.size(), kNone);
  }

  Result<Lowered> Run() {
    for (size_t i = 0; i < model_.ops.size(); ++i) {
      HR_RETURN_IF_ERROR(LowerOp(static_cast<int32_t>(i)));
    }
    result_.logits = buffer_of_[model_.logits];
    MarkTail();
    MarkLiveness();
    ShareMemory();
    return std::move(result_);
  }

 private:
  int32_t AddBuffer(uint32_t width) {
    result_.buffers.push_back({width});
    return static_cast<int32_t>(result_.buffers.size() - 1);
  }

  int32_t OutputOf(const Op& op) {
    return buffer_of_[op.output] = AddBuffer(model_.values[op.output].width);
  }

  Step& AddStep(StepKind kind, int32_t op, int32_t input, int32_t output) {
    Step step;
    step.kind = kind;
    step.op = op;
    step.inputs[0] = input;
    step.output = output;
    result_.steps.push_back(step);
    return result_.steps.back();
  }

  void AddDense(int32_t op, int32_t input, int32_t output, const WeightRef& ref, uint32_t rows) {
    result_.dense.push_back({ref.tensor, ref.row_begin, rows, ref.bias});
    AddStep(StepKind::kDense, op, input, output).dense =
        static_cast<int32_t>(result_.dense.size() - 1);
  }

  static void AddOnce(std::vector<int32_t>& tensors, int32_t tensor) {
    if (tensor == kNone) return;
    if (std::find(tensors.begin(), tensors.end(), tensor) == tensors.end())
      tensors.push_back(tensor);
  }

  void ReadDirectly(int32_t tensor) { AddOnce(result_.direct_tensors, tensor); }

  void ReadNormAndRope(const model::NormSpec& norm, const RopeSpec& rope) {
    ReadDirectly(norm.weight);
    ReadDirectly(norm.bias);
    ReadDirectly(rope.inverse_frequencies);
  }

  int32_t RopeIndex(const RopeSpec& rope) {
    if (rope.dims == 0) return kNone;
    auto& ropes = result_.ropes;
    auto found = std::find_if(ropes.begin(), ropes.end(),
                              [&](const RopeSpec& other) { return SameAngles(rope, other); });
    if (found == ropes.end()) found = ropes.insert(ropes.end(), rope);
    return static_cast<int32_t>(found - ropes.begin());
  }

  Status LowerOp(int32_t index) {
    const Op& op = model_.ops[index];
    // Value 0 is the token ids: they have no buffer.
    auto input = [&](int i) { return op.inputs[i] <= 0 ? kNone : buffer_of_[op.inputs[i]]; };
    switch (op.kind) {
      case OpKind::kEmbedding:
      case OpKind::kPositionEmbedding:
        AddOnce(result_.embedding_tensors, op.weight.tensor);
        AddStep(StepKind::kEmbed, index, kNone, OutputOf(op));
        return {};
      case OpKind::kNorm:
        AddNorm(index, input(0), OutputOf(op), op.norm);
        return {};
      case OpKind::kProjection:
        AddDense(index, input(0), OutputOf(op), op.weight, op.weight.rows);
        return {};
      case OpKind::kAttention:
        return LowerAttention(index, input(0));
      case OpKind::kGatedActivation:
      case OpKind::kActivation:
        AddActivation(index, input(0), OutputOf(op), op.activation,
                      op.kind == OpKind::kGatedActivation);
        return {};
      case OpKind::kAdd: {
        const int32_t a = input(0), b = input(1);
        AddStep(StepKind::kAdd, index, a, OutputOf(op)).inputs[1] = b;
        return {};
      }
      case OpKind::kMultiply: {
        const int32_t a = input(0), b = input(1);
        AddStep(StepKind::kMultiply, index, a, OutputOf(op)).inputs[1] = b;
        return {};
      }
      case OpKind::kMultiplyAdd:
        ReadDirectly(op.factor);
        ReadDirectly(op.addend);
        AddMany(StepKind::kMultiplyAdd, index);
        return {};
      case OpKind::kHeadProduct:
        AddMany(StepKind::kHeadProduct, index);
        return {};
      case OpKind::kConvolution:
        LowerConvolution(index);
        return {};
      case OpKind::kLinearAttention:
        LowerLinearAttention(index);
        return {};
      case OpKind::kMixture:
        LowerMixture(index, input(0));
        return {};
      case OpKind::kScale:
        AddStep(StepKind::kScale, index, input(0), OutputOf(op));
        return {};
      case OpKind::kSoftcap:
        AddStep(StepKind::kSoftcap, index, input(0), OutputOf(op));
        return {};
    }
    return Status::Make(StatusCode::kUnsupported, "operation kind %d (op %d)",
                        static_cast<int>(op.kind), index);
  }

  // A step with all the inputs of its operation.
  void AddMany(StepKind kind, int32_t index) {
    const Op& op = model_.ops[index];
    int32_t inputs[model::kMostInputs];
    for (int i = 0; i < model::kMostInputs; ++i) {
      inputs[i] = op.inputs[i] <= 0 ? kNone : buffer_of_[op.inputs[i]];
    }
    Step& step = AddStep(kind, index, kNone, OutputOf(op));
    std::copy(std::begin(inputs), std::end(inputs), step.inputs);
  }

  int32_t AddState(uint64_t floats) {
    result_.states.push_back(floats);
    return static_cast<int32_t>(result_.states.size() - 1);
  }

  void LowerConvolution(int32_t index) {
    const Op& op = model_.ops[index];
    ReadDirectly(op.weight.tensor);
    ReadDirectly(op.addend);
    const int32_t input = buffer_of_[op.inputs[0]];
    Step& step = AddStep(StepKind::kConvolve, index, input, OutputOf(op));
    step.activation = op.activation;
    step.state = AddState(uint64_t{op.kernel - 1} * model_.values[op.output].width);
  }

  void LowerLinearAttention(int32_t index) {
    const Op& op = model_.ops[index];
    const model::LinearSpec& spec = model_.linears[op.linear];
    ReadDirectly(spec.log_decay);
    ReadDirectly(spec.bonus);
    AddMany(StepKind::kLinearMix, index);
    Step& step = result_.steps.back();
    step.linear = op.linear;
    const uint64_t columns = uint64_t{spec.value_width} + (spec.sum_keys ? 1 : 0);
    step.state = AddState(spec.heads * columns * spec.key_width);
  }

  void AddNorm(int32_t op, int32_t input, int32_t output, const model::NormSpec& norm) {
    ReadDirectly(norm.weight);
    ReadDirectly(norm.bias);
    Step& step = AddStep(StepKind::kNorm, op, input, output);
    step.norm = norm;
  }

  void AddActivation(int32_t op, int32_t input, int32_t output, model::Activation activation,
                     bool gated) {
    Step& step = AddStep(StepKind::kActivation, op, input, output);
    step.activation = activation;
    step.gated = gated;
  }

  // Dense q, k and v: one layer where their rows are neighbours, so the input is read once. What
  // goes straight into another dense layer stays by itself.
  void LowerProjections(int32_t op, int32_t input, const AttentionSpec& spec, Step* append) {
    const model::QuerySpec& query = spec.query;
    const bool low_rank = query.kind == model::QueryKind::kLowRank;
    const bool alone =
        query.kind == model::QueryKind::kGated || (low_rank && !query.down_norm.present());
    std::vector<WeightRef> refs = {low_rank ? query.down : query.weight};
    std::vector<Slice*> slices = {&append->query};
    for (int i = 0; i < kStreams; ++i) {
      if (!MakesStream(spec, i)) continue;
      refs.push_back(StreamOf(spec, i).weight);
      slices.push_back(&append->streams[i]);
    }
    for (size_t begin = 0; begin < refs.size();) {
      size_t end = begin + 1;
      uint32_t rows = refs[begin].rows;
      while (end < refs.size() && Adjacent(refs[end - 1], refs[end]) && !(alone && begin == 0)) {
        rows += refs[end++].rows;
      }
      const int32_t buffer = AddBuffer(rows);
      AddDense(op, input, buffer, refs[begin], rows);
      for (uint32_t column = 0; begin < end; column += refs[begin++].rows) {
        *slices[begin] = {buffer, column};
      }
    }
  }

  // From the first product of the input to the queries of all heads.
  void LowerQuery(int32_t op, const model::QuerySpec& spec, Slice* query) {
    if (spec.kind == model::QueryKind::kLowRank) {
      int32_t inner = query->buffer;
      if (spec.down_norm.present()) {
        inner = AddBuffer(spec.down.rows);
        AddNorm(op, query->buffer, inner, spec.down_norm);
      }
      *query = {AddBuffer(spec.weight.rows)};
      AddDense(op, inner, query->buffer, spec.weight, spec.weight.rows);
    } else if (spec.kind == model::QueryKind::kGated) {
      const uint32_t width = spec.gate.rows;
      const int32_t gate_up = AddBuffer(2 * width), inner = AddBuffer(width);
      AddDense(op, query->buffer, gate_up, spec.gate, 2 * width);
      AddActivation(op, gate_up, inner, spec.activation, true);
      *query = {AddBuffer(spec.down.rows)};
      AddDense(op, inner, query->buffer, spec.down, spec.down.rows);
    }
    query->head_stride = spec.width;
  }

  int32_t AddHeadDense(const model::HeadMatrix& matrix, uint32_t used) {
    const WeightRef& weight = matrix.weight;
    result_.dense.push_back(
        {weight.tensor, weight.row_begin, matrix.rows, kNone, matrix.blocks, used});
    return static_cast<int32_t>(result_.dense.size() - 1);
  }

  // Every head's vectors times the head's matrix.
  Slice LowerHeadMatrix(int32_t op, uint32_t heads, const model::HeadMatrix& matrix,
                        const Slice& input, uint32_t expand_from) {
    if (!matrix.present()) return input;
    Step& step = AddStep(StepKind::kHeadDense, op, input.buffer, AddBuffer(heads * matrix.rows));
    step.query = input;
    step.expand_from = expand_from;
    step.dense = AddHeadDense(matrix, matrix.blocks);
    return {step.output, 0, matrix.rows};
  }

  Status LowerAttention(int32_t index, int32_t input) {
    const Op& op = model_.ops[index];
    const AttentionSpec& spec = model_.attentions[op.attention];
    ReadNormAndRope(spec.query.norm, spec.query.rope);
    ReadDirectly(spec.sink_logits);
    Step append;
    append.kind = StepKind::kAppend;
    append.op = index;
    append.attention = op.attention;
    append.query_rope = RopeIndex(spec.query.rope);
    for (int i = 0; i < kStreams; ++i) {
      if (!MakesStream(spec, i)) continue;
      const model::StreamSpec& stream = StreamOf(spec, i);
      ReadNormAndRope(stream.norm, stream.rope);
      append.stream_ropes[i] = RopeIndex(stream.rope);
    }
    ReadDirectly(spec.key.basis);
    LowerProjections(index, input, spec, &append);
    LowerQuery(index, spec.query, &append.query);
    ReadDirectly(spec.query.factors);
    result_.steps.push_back(append);

    Step mix;
    mix.kind = StepKind::kMix;
    mix.op = index;
    mix.attention = op.attention;
    if (spec.tail.present()) {
      mix.query_tail = append.query;
      mix.query_tail.column += spec.query_part();
    }
    mix.expand_from = ExpandFrom(model_, spec);
    if (mix.expand_from != kUnlimited) mix.expanded_query = append.query;
    mix.query =
        LowerHeadMatrix(index, spec.query_heads, spec.query.matrix, append.query, mix.expand_from);
    const bool last = !spec.output.present();
    mix.output = last ? OutputOf(op) : AddBuffer(spec.query_heads * spec.value_width());
    const size_t at = result_.steps.size();
    result_.steps.push_back(mix);
    if (last) return {};
    const Slice mixed = LowerHeadMatrix(index, spec.query_heads, spec.value_matrix,
                                        {mix.output, 0, spec.value_width()}, mix.expand_from);
    if (mix.expand_from != kUnlimited) LowerExpansion(spec, mixed.buffer, &result_.steps[at]);
    AddDense(index, mixed.buffer, OutputOf(op), spec.output, spec.output.rows);
    return {};
  }

  // The other way through a mix: what is as wide as a latent for each head exists for few rows.
  void LowerExpansion(const AttentionSpec& spec, int32_t mixed, Step* mix) {
    mix->expanded_output = mixed;
    mix->expand_value = result_.steps.back().dense;
    mix->expand_key = AddHeadDense(spec.key_matrix, 0);
    result_.buffers[mix->query.buffer].most_rows = mix->expand_from - 1;
    result_.buffers[mix->output].most_rows = mix->expand_from - 1;
  }

  int32_t AddExperts(const WeightRef& blocks, const model::MixtureSpec& spec) {
    result_.dense.push_back({blocks.tensor, blocks.row_begin, blocks.rows / spec.experts,
                             blocks.bias, spec.experts, spec.chosen});
    return static_cast<int32_t>(result_.dense.size() - 1);
  }

  void LowerMixture(int32_t index, int32_t input) {
    const Op& op = model_.ops[index];
    const model::MixtureSpec& spec = model_.mixtures[op.mixture];
    ReadDirectly(spec.choice_bias);
    const int32_t scores = AddBuffer(spec.experts);
    AddDense(index, input, scores, spec.router, spec.experts);
    const int32_t gate_up = AddExperts(spec.gate_up, spec), down = AddExperts(spec.down, spec);
    Step& step = AddStep(StepKind::kExperts, index, input, OutputOf(op));
    step.inputs[1] = scores;
    step.dense = gate_up;
    step.down = down;
  }

  void MarkTail() {
    auto& steps = result_.steps;
    for (size_t i = 0; i < steps.size(); ++i) {
      const bool keeps = steps[i].kind == StepKind::kAppend || steps[i].state != kNone;
      if (keeps) result_.tail_begin = i + 1;
    }
    for (size_t i = result_.tail_begin; i < steps.size(); ++i) {
      result_.buffers[steps[i].output].tail = true;
    }
  }

  template <typename Visit>
  static void ForEachBuffer(const Step& step, Visit visit) {
    for (const int32_t buffer : step.inputs) {
      if (buffer != kNone) visit(buffer);
    }
    for (const int32_t buffer :
         {step.query.buffer, step.query_tail.buffer, step.streams[0].buffer, step.streams[1].buffer,
          step.streams[2].buffer, step.expanded_query.buffer, step.expanded_output, step.output}) {
      if (buffer != kNone) visit(buffer);
    }
  }

  void MarkLiveness() {
    const auto count = static_cast<int32_t>(result_.steps.size());
    for (int32_t i = 0; i < count; ++i) {
      ForEachBuffer(result_.steps[i], [&](int32_t id) {
        Buffer& buffer = result_.buffers[id];
        if (buffer.first_step == kNone) buffer.first_step = i;
        buffer.last_step = i;
      });
    }
    // The tail may run again for another row of the same chunk: what it reads must outlive all of
    // it.
    for (Buffer& buffer : result_.buffers) {
      if (!buffer.tail && buffer.last_step >= static_cast<int32_t>(result_.tail_begin)) {
        buffer.last_step = count;
      }
    }
    result_.buffers[result_.logits].last_step = count;
  }

  // Whether a step's kernel may write over what it reads.
  static bool InPlace(const Step& step) {
    switch (step.kind) {
      case StepKind::kNorm:
      case StepKind::kAdd:
      case StepKind::kScale:
      case StepKind::kSoftcap:
      case StepKind::kMultiply:
      case StepKind::kMultiplyAdd:
      case StepKind::kHeadProduct:
        return true;
      case StepKind::kActivation:
        return !step.gated;
      default:
        return false;
    }
  }

  // Such a step writes over an input that dies in it.
  void ShareMemory() {
    auto root = [&](int32_t id) {
      while (result_.buffers[id].alias_of != kNone) id = result_.buffers[id].alias_of;
      return id;
    };
    for (size_t i = 0; i < result_.steps.size(); ++i) {
      const Step& step = result_.steps[i];
      if (!InPlace(step)) continue;
      for (int32_t input : step.inputs) {
        if (input == kNone) continue;
        const int32_t owner = root(input);
        Buffer& from = result_.buffers[owner];
        Buffer& to = result_.buffers[step.output];
        if (from.last_step != static_cast<int32_t>(i) || from.width != to.width ||
            from.tail != to.tail || result_.buffers[input].last_step != static_cast<int32_t>(i)) {
          continue;
        }
        to.alias_of = owner;
        from.last_step = to.last_step;
        break;
      }
    }
  }

  const model::Model& model_;
  std::vector<int32_t> buffer_of_;  // by value
  Lowered result_;
};

}  // namespace

Result<Lowered> Lower(const model::Model& model) { return Lowering(model).Run(); }

}  // namespace headroom::plan
