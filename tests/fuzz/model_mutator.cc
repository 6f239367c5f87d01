#include "fuzz/model_mutator.h"

#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "headroom_generated.h"

namespace headroom::fuzz {
namespace {

class Mutator {
 public:
  Mutator(fb::ModelT& graph, uint32_t seed) : graph_(graph), random_(seed) {}

  void Edit() {
    switch (Below(8)) {
      case 0:
        return EditTensor();
      case 1:
        return EditOp();
      case 2:
        return EditProjection();
      case 3:
        return EditView();
      case 4:
        return EditStore();
      case 5:
        return EditTokenizer();
      case 6:
        return EditFacts();
      default:
        return EditLists();
    }
  }

 private:
  uint32_t Below(size_t limit) {
    return static_cast<uint32_t>(random_() % (limit == 0 ? 1 : limit));
  }

  template <typename T>
  T* Any(std::vector<std::unique_ptr<T>>& list) {
    return list.empty() ? nullptr : list[Below(list.size())].get();
  }

  // Numbers on which checks turn: small, powers of two and their neighbours, extremes, the old one
  // and beside it.
  template <typename T>
  void Number(T& value) {
    switch (Below(5)) {
      case 0:
        value = static_cast<T>(Below(40));
        return;
      case 1:
        value = static_cast<T>((uint64_t{1} << Below(64)) - Below(2));
        return;
      case 2:
        value = static_cast<T>(static_cast<uint64_t>(value) + 1);
        return;
      case 3:
        value = static_cast<T>(static_cast<uint64_t>(value) - 1);
        return;
      default:
        value = static_cast<T>(~uint64_t{0} - Below(64));
        return;
    }
  }

  void Real(float& value) {
    constexpr float kValues[] = {0.0f,
                                 1.0f,
                                 -1.0f,
                                 1e-6f,
                                 std::numeric_limits<float>::infinity(),
                                 std::numeric_limits<float>::quiet_NaN(),
                                 std::numeric_limits<float>::denorm_min()};
    value = kValues[Below(std::size(kValues))];
  }

  template <typename E>
  void Kind(E& value) {
    value = static_cast<E>(Below(static_cast<size_t>(E::MAX) + 2));
  }

  void Text(std::string& text) {
    text.insert(text.begin() + Below(text.size() + 1), static_cast<char>(Below(256)));
  }

  // Drops, repeats or swaps elements; for vectors of numbers.
  template <typename T>
  void List(std::vector<T>& list) {
    if (list.empty() || Below(3) == 0) return list.push_back(T());
    if (Below(2) == 0) return (void)list.erase(list.begin() + Below(list.size()));
    Number(list[Below(list.size())]);
  }

  template <typename T>
  void Pointers(std::vector<std::unique_ptr<T>>& list) {
    if (list.empty()) return list.push_back(std::make_unique<T>());
    const uint32_t i = Below(list.size());
    if (Below(2) == 0) return (void)list.erase(list.begin() + i);
    list.push_back(std::make_unique<T>(*list[i]));
  }

  template <typename T>
  T& Ensure(std::unique_ptr<T>& pointer) {
    if (!pointer) pointer = std::make_unique<T>();
    return *pointer;
  }

  void EditTensor() {
    fb::TensorT* tensor = Any(graph_.tensors);
    if (tensor == nullptr) return;
    switch (Below(9)) {
      case 0:
        return Text(tensor->name);
      case 1:
        return Kind(tensor->dtype);
      case 2:
        return List(tensor->extents);
      case 3:
        return Number(tensor->block);
      case 4:
        return Number(tensor->segment);
      case 5:
        return Number(tensor->data_offset);
      case 6:
        return Number(tensor->data_bytes);
      case 7:
        return Number(tensor->scale_offset);
      default:
        return Number(tensor->scale_bytes);
    }
  }

  void EditWeight(std::unique_ptr<fb::WeightT>& pointer) {
    fb::WeightT& weight = Ensure(pointer);
    switch (Below(5)) {
      case 0:
        return Number(weight.tensor);
      case 1:
        return Number(weight.row_begin);
      case 2:
        return Number(weight.rows);
      case 3:
        return Number(weight.bias);
      default:
        return pointer.reset();
    }
  }

  void EditNorm(std::unique_ptr<fb::NormT>& pointer) {
    fb::NormT& norm = Ensure(pointer);
    switch (Below(5)) {
      case 0:
        return Kind(norm.kind);
      case 1:
        return Number(norm.weight);
      case 2:
        return Number(norm.bias);
      case 3:
        return Real(norm.epsilon);
      default:
        return pointer.reset();
    }
  }

  void EditMixture(fb::MixtureOpT& mixture) {
    switch (Below(14)) {
      case 0:
        return EditWeight(mixture.router);
      case 1:
        return EditWeight(mixture.gate_up);
      case 2:
        return EditWeight(mixture.down);
      case 3:
        return Kind(mixture.score);
      case 4:
        return Number(mixture.chosen);
      case 5:
        mixture.renormalise = !mixture.renormalise;
        return;
      case 6:
        return Real(mixture.scale);
      case 7:
        return Number(mixture.choice_bias);
      case 8:
        return Number(mixture.groups);
      case 9:
        return Number(mixture.top_groups);
      case 10:
        return Number(mixture.group_best);
      case 11:
        return Kind(mixture.activation);
      case 12:
        return Real(mixture.limit);
      default:
        return Real(mixture.up_offset);
    }
  }

  void EditOp() {
    fb::OpT* op = Any(graph_.ops);
    if (op == nullptr) return;
    switch (Below(5)) {
      case 0:
        return List(op->inputs);
      case 1:
        return List(op->outputs);
      case 2:
        return Text(op->name);
      default:
        break;
    }
    if (auto* projection = op->attributes.AsProjectionOp()) return EditWeight(projection->weight);
    if (auto* embedding = op->attributes.AsEmbeddingOp()) return EditWeight(embedding->weight);
    if (auto* mixture = op->attributes.AsMixtureOp()) return EditMixture(*mixture);
    if (auto* norm = op->attributes.AsNormOp()) return EditNorm(norm->norm);
    if (auto* gated = op->attributes.AsGatedActivationOp()) return Kind(gated->activation);
    if (auto* attention = op->attributes.AsAttentionOp()) return Number(attention->attention);
    if (auto* softcap = op->attributes.AsSoftcapOp()) return Real(softcap->cap);
    if (EditImageOp(*op)) return;
    if (Below(2) == 0) return op->attributes.Set(fb::ScaleOpT());
    op->attributes.Reset();
  }

  void EditConvolution(fb::ConvolutionOpT& convolution) {
    std::vector<uint32_t>* lists[] = {&convolution.kernel, &convolution.stride,
                                      &convolution.dilation, &convolution.pad_begin,
                                      &convolution.pad_end};
    switch (Below(4)) {
      case 0:
        return EditWeight(convolution.weight);
      case 1:
        return List(*lists[Below(std::size(lists))]);
      case 2:
        return Number(convolution.groups);
      default:
        return Kind(convolution.activation);
    }
  }

  void EditPool(fb::PoolOpT& pool) {
    std::vector<uint32_t>* lists[] = {&pool.kernel, &pool.stride, &pool.pad_begin, &pool.pad_end};
    switch (Below(3)) {
      case 0:
        return Kind(pool.kind);
      case 1:
        return List(*lists[Below(std::size(lists))]);
      default:
        pool.adaptive = !pool.adaptive;
        return;
    }
  }

  void EditImageAttention(fb::SelfAttentionOpT& attention) {
    switch (Below(5)) {
      case 0:
        return Number(attention.heads);
      case 1:
        return Number(attention.query_width);
      case 2:
        return Number(attention.value_width);
      case 3:
        return Real(attention.scale);
      default:
        return Kind(attention.activation);
    }
  }

  // Whether the operation is one that graphs on pictures alone have.
  bool EditImageOp(fb::OpT& op) {
    fb::OpAttributesUnion& of = op.attributes;
    if (auto* convolution = of.AsConvolutionOp()) return EditConvolution(*convolution), true;
    if (auto* pool = of.AsPoolOp()) return EditPool(*pool), true;
    if (auto* attention = of.AsSelfAttentionOp()) return EditImageAttention(*attention), true;
    if (auto* slice = of.AsSliceOp()) return Number(Below(2) ? slice->begin : slice->end), true;
    if (auto* resize = of.AsResizeOp()) {
      uint32_t* numbers[] = {&resize->height, &resize->width, &resize->factor};
      return Number(*numbers[Below(3)]), true;
    }
    if (auto* concat = of.AsConcatOp()) return Number(concat->axis), true;
    if (auto* positions = of.AsPositionEmbeddingOp()) {
      Below(2) ? Number(positions->prefix) : EditWeight(positions->weight);
      return true;
    }
    return false;
  }

  void EditVision() {
    if (!graph_.vision) return;
    fb::VisionT& vision = *graph_.vision;
    fb::PreprocessT& preprocess = Ensure(vision.preprocess);
    switch (Below(8)) {
      case 0:
        return Number(vision.features);
      case 1:
        return Kind(preprocess.resize);
      case 2:
        return Kind(preprocess.filter);
      case 3:
        return Number(Below(2) ? preprocess.resize_height : preprocess.crop_width);
      case 4:
        return Real(preprocess.scale);
      case 5:
        if (!preprocess.deviation.empty()) Real(preprocess.deviation[0]);
        return;
      case 6:
        vision.labels.emplace_back(Below(300), 'l');
        return;
      default:
        if (!vision.labels.empty()) Text(vision.labels[Below(vision.labels.size())]);
        return;
    }
  }

  void EditProjection() {
    fb::AttentionPlanT* plan = Any(graph_.attentions);
    if (plan == nullptr) return;
    fb::ProjectionT& projection = Ensure(plan->projection);
    fb::QueryT& query = Ensure(projection.query);
    fb::StreamT* stream = Any(projection.streams);
    switch (Below(12)) {
      case 0:
        return Number(projection.query_heads);
      case 1:
        return Number(projection.kv_heads);
      case 2:
        return List(projection.key_map);
      case 3:
        return List(projection.value_map);
      case 4:
        return Pointers(projection.streams);
      case 5:
        return Pointers(projection.scores);
      case 6:
        return EditWeight(Below(2) == 0 ? query.weight : projection.output);
      case 7:
        return EditNorm(query.norm);
      case 8:
        return Number(query.rope);
      case 9:
        return Number(projection.value_stream);
      case 10:
        return Kind(query.kind);
      default:
        break;
    }
    if (stream == nullptr) return;
    switch (Below(5)) {
      case 0:
        return Number(stream->heads);
      case 1:
        return Number(stream->width);
      case 2:
        return EditWeight(stream->weight);
      case 3:
        return Number(stream->rope);
      default:
        return EditNorm(stream->norm);
    }
  }

  void EditView() {
    fb::AttentionPlanT* plan = Any(graph_.attentions);
    if (plan == nullptr) return;
    fb::ViewT& view = Ensure(plan->view);
    fb::ViewGroupT* group = Any(view.groups);
    if (group == nullptr || Below(6) == 0) return Pointers(view.groups);
    fb::SpanTermT* term = Any(group->terms);
    if (term == nullptr || Below(6) == 0) return Pointers(group->terms);
    fb::AxisSpanT* axis = Any(term->axes);
    switch (Below(7)) {
      case 0:
        return Kind(term->kind);
      case 1:
        return Number(term->prefix);
      case 2:
        return Pointers(term->axes);
      case 3:
        return List(group->kv_heads);
      case 4:
        if (axis != nullptr) Number(axis->left);
        return;
      case 5:
        if (axis != nullptr) Number(axis->stride);
        return;
      default:
        if (axis != nullptr) Number(axis->right);
        return;
    }
  }

  void EditStore() {
    fb::AttentionPlanT* plan = Any(graph_.attentions);
    if (plan == nullptr) return;
    fb::StoreT& store = Ensure(plan->store);
    switch (Below(9)) {
      case 0:
        return Kind(Ensure(store.key_codec).kind);
      case 1:
        return Kind(Ensure(store.retention).kind);
      case 2:
        return Number(Ensure(store.retention).recent);
      case 3:
        return Number(Ensure(store.retention).sinks);
      case 4:
        return List(store.head_roles);
      case 5:
        return Kind(store.source);
      case 6:
        return plan->store.reset();
      default:
        break;
    }
    fb::SoftmaxMixT* mix = plan->mix.AsSoftmaxMix();
    if (mix == nullptr) return plan->mix.Set(fb::SoftmaxMixT());
    switch (Below(4)) {
      case 0:
        return Real(mix->scale);
      case 1:
        return Real(mix->softcap);
      case 2:
        return Number(mix->sink_logits);
      default:
        return plan->mix.Set(fb::LinearMixT());
    }
  }

  void EditTokenizer() {
    fb::TokenizerT& tokenizer = Ensure(graph_.tokenizer);
    switch (Below(11)) {
      case 0:
        return Kind(tokenizer.kind);
      case 1:
        return List(tokenizer.token_ends);
      case 2:
        return List(tokenizer.token_bytes);
      case 3: {
        const auto id = [&] { return Below(tokenizer.token_ends.size() + 2); };
        tokenizer.merges.emplace_back(id(), id(), id());
        return;
      }
      case 4:
        return List(tokenizer.special_tokens);
      case 5:
        return List(tokenizer.end_tokens);
      case 6:
        return Number(tokenizer.begin_token);
      case 7:
        return Text(tokenizer.chat_template);
      case 8:
        tokenizer.patterns.emplace_back(Below(3), 'a');
        return;
      case 9:
        return EditTextSteps(tokenizer);
      default:
        return List(tokenizer.byte_tokens);
    }
  }

  void EditTextSteps(fb::TokenizerT& tokenizer) {
    auto step = std::make_unique<fb::NormalStepT>();
    step->kind = static_cast<fb::NormalStepKind>(Below(7));
    step->form = static_cast<fb::NormalForm>(Below(6));
    step->pattern.assign(Below(3), 'a');
    step->text.assign(Below(80), 'b');
    step->charsmap.assign(Below(40), static_cast<uint8_t>(Below(256)));
    tokenizer.normal_steps.push_back(std::move(step));
    auto split = std::make_unique<fb::SplitT>();
    split->pattern.assign(Below(3), 'c');
    split->behaviour = static_cast<fb::SplitBehaviour>(Below(6));
    tokenizer.splits.push_back(std::move(split));
  }

  void EditFacts() {
    if (graph_.vision && Below(2) == 0) return EditVision();
    fb::MetadataT& metadata = Ensure(graph_.metadata);
    fb::RopeT* rope = Any(graph_.ropes);
    switch (Below(9)) {
      case 0:
        return Text(metadata.name);
      case 1:
        return Number(metadata.vocabulary);
      case 2:
        return Number(metadata.context_tokens);
      case 3:
        return Real(Ensure(graph_.sampling).top_p);
      case 4:
        return Number(graph_.logits);
      case 5:
        if (rope != nullptr) Number(rope->dims);
        return;
      case 6:
        if (rope != nullptr) Number(rope->offset);
        return;
      case 7:
        if (rope != nullptr) Number(rope->inverse_frequencies);
        return;
      default:
        if (rope != nullptr) Real(rope->attention_factor);
        return;
    }
  }

  void EditLists() {
    switch (Below(9)) {
      case 0:
        return Pointers(graph_.tensors);
      case 1:
        return Pointers(graph_.values);
      case 2:
        return Pointers(graph_.attentions);
      case 3:
        return Pointers(graph_.ropes);
      case 4:
        return Pointers(graph_.profiles);
      case 5:
        return Pointers(graph_.roles);
      case 6:
        return EditSegment();
      case 7:
        return EditValue();
      default:
        return Pointers(graph_.ops);
    }
  }

  void EditSegment() {
    if (graph_.segments.empty() || Below(4) == 0)
      return graph_.segments.emplace_back(16384, 64, 0), void();
    fb::Segment& segment = graph_.segments[Below(graph_.segments.size())];
    uint64_t offset = segment.offset(), bytes = segment.bytes();
    Below(2) == 0 ? Number(offset) : Number(bytes);
    segment = fb::Segment(offset, bytes, segment.checksum());
  }

  void EditValue() {
    fb::ValueT* value = Any(graph_.values);
    if (value == nullptr) return;
    uint32_t size = value->dims.empty() ? 1 : value->dims.back().size();
    Number(size);
    if (!value->dims.empty()) value->dims.back() = fb::Dim(value->dims.back().symbol(), size);
    if (Below(4) == 0) value->dims.emplace_back(static_cast<fb::DimSymbol>(Below(5)), 1);
    if (Below(8) == 0) Kind(value->dtype);
    if (Below(8) == 0) Real(value->scale);
  }

  fb::ModelT& graph_;
  std::minstd_rand random_;
};

// A union with a type and no value verifies, but the packer takes it for whole.
template <typename Union>
void DropEmpty(Union& value) {
  if (value.value == nullptr) value.Reset();
}

}  // namespace

size_t MutateGraph(std::span<uint8_t> data, size_t max_bytes, uint32_t seed) {
  flatbuffers::Verifier::Options options;
  // An object per table: keep a repeated table from becoming a million objects.
  options.max_tables = 4096;
  flatbuffers::Verifier verifier(data.data(), data.size(), options);
  if (data.size() < 8 || !fb::VerifyModelBuffer(verifier)) return 0;
  const std::unique_ptr<fb::ModelT> graph(fb::GetModel(data.data())->UnPack());
  for (auto& op : graph->ops) DropEmpty(op->attributes);
  for (auto& plan : graph->attentions) DropEmpty(plan->mix);
  Mutator mutator(*graph, seed);
  for (uint32_t edits = 1 + seed / 2 % 3; edits > 0; --edits) mutator.Edit();
  flatbuffers::FlatBufferBuilder builder;
  fb::FinishModelBuffer(builder, fb::Model::Pack(builder, graph.get()));
  if (builder.GetSize() > max_bytes) return 0;
  std::memcpy(data.data(), builder.GetBufferPointer(), builder.GetSize());
  return builder.GetSize();
}

}  // namespace headroom::fuzz
