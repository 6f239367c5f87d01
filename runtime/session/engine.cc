#include "session/engine.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>

#include "attention/softmax_mix.h"

namespace headroom::session {
namespace {

unsigned long long Ull(uint64_t value) { return value; }

struct LimitText {
  char text[24];
};
LimitText TextOf(uint64_t limit) {
  LimitText made = {"no limit"};
  if (limit != 0) std::snprintf(made.text, sizeof(made.text), "%llu", Ull(limit));
  return made;
}

xnnpack::ConvolutionSpec SpecOf(const model::ImageGraph& graph, const model::ImageOp& op) {
  xnnpack::ConvolutionSpec spec;
  const model::WindowSpec& window = op.window;
  std::copy(std::begin(window.kernel), std::end(window.kernel), spec.kernel);
  std::copy(std::begin(window.stride), std::end(window.stride), spec.stride);
  std::copy(std::begin(window.dilation), std::end(window.dilation), spec.dilation);
  std::copy(std::begin(window.pad), std::end(window.pad), spec.pad);
  const model::ImageValue& in = graph.values[op.inputs[0]];
  const model::ImageValue& out = graph.values[op.output];
  spec.groups = op.groups;
  spec.channels = in.channels;
  if (op.limit == model::Limit::kRelu) spec.high = std::numeric_limits<float>::infinity();
  if (op.limit == model::Limit::kRelu6) spec.high = 6.0f;
  spec.in_scale = in.scale;
  spec.in_zero = in.zero_point;
  spec.out_scale = out.scale;
  spec.out_zero = out.zero_point;
  spec.halves = in.dtype == DType::kF16 ? 1 : 0;
  return spec;
}

}  // namespace

Status OverBudget(const plan::Plan& plan, const plan::Limits& limits, const char* because) {
  const bool rows = plan.state_bytes > 0;  // no cache is chosen where none is kept
  return Status::Make(StatusCode::kOverBudget,
                      "%sneeds %llu bytes (%llu private) for context %u%s%.60s; the budget is "
                      "%s (private: %s): %llu bytes missing; largest context that fits: %u",
                      because, Ull(plan.total_bytes), Ull(plan.private_bytes), plan.context,
                      rows ? ", cache " : "", rows ? plan.profile.c_str() : "",
                      TextOf(limits.budget_bytes).text, TextOf(limits.private_budget_bytes).text,
                      Ull(plan.missing_bytes), plan.max_context);
}

Result<std::shared_ptr<Engine>> Engine::Create(std::unique_ptr<model::Model> model,
                                               EngineOptions options) {
  std::shared_ptr<Engine> engine(new Engine());
  engine->model_ = std::move(model);
  engine->options_ = std::move(options);
  if (engine->is_image()) {
    engine->lowered_image_ = plan::LowerImage(engine->model_->image);
    engine->DescribeConvolutions();
  } else {
    HR_ASSIGN_OR_RETURN(engine->lowered_, plan::Lower(*engine->model_));
  }
  return engine;
}

void Engine::DescribeConvolutions() {
  for (const int32_t index : lowered_image_.convolutions) {
    convolutions_.push_back(SpecOf(model_->image, model_->image.ops[index]));
  }
}

xnnpack::DenseWeights Engine::ConvolutionWeights(size_t layer) const {
  const model::ImageOp& op = model_->image.ops[lowered_image_.convolutions[layer]];
  xnnpack::DenseWeights weights;
  weights.weight = model_->tensors[op.weight];
  weights.rows = weights.weight.rows();
  if (op.bias != model::kNone) weights.bias = model_->tensors[op.bias].f32();
  weights.convolution = &convolutions_[layer];
  return weights;
}

std::vector<xnnpack::DenseWeights> Engine::DenseLayers() const {
  std::vector<xnnpack::DenseWeights> layers;
  for (size_t i = 0; i < convolutions_.size(); ++i) layers.push_back(ConvolutionWeights(i));
  for (const plan::DenseLayer& dense : lowered_.dense) {
    xnnpack::DenseWeights weights;
    weights.weight = model_->tensors[dense.tensor];
    weights.row_begin = dense.row_begin;
    weights.rows = dense.rows;
    weights.parts = dense.parts;
    weights.at_once = dense.used != 0 ? dense.used : dense.parts;
    if (dense.bias != model::kNone) {
      weights.bias = model_->tensors[dense.bias].f32() + dense.row_begin;
    }
    layers.push_back(weights);
  }
  return layers;
}

Result<plan::BackendFacts> Engine::Facts() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (facts_known_) return facts_;
  const auto layers = DenseLayers();
  HR_ASSIGN_OR_RETURN(facts_.packed_bytes, xnnpack::DenseSet::PackedBytes(layers));
  for (const auto& layer : layers) {
    HR_ASSIGN_OR_RETURN(const xnnpack::InputKind kind, xnnpack::DenseSet::InputKindOf(layer));
    facts_.input_kinds.push_back(static_cast<uint8_t>(kind));
  }
  for (size_t i = 0; i < convolutions_.size(); ++i) {
    HR_ASSIGN_OR_RETURN(const bool keeps, xnnpack::DenseSet::KeepsPointers(layers[i]));
    facts_.keeps_pointers.push_back(keeps);
  }
  facts_.weights_are_mapped = options_.weights_are_mapped;
  facts_.packed_is_mapped = !options_.cache_directory.empty();
  for (uint64_t bytes : facts_.packed_bytes) facts_.packed_total_bytes += bytes;
  if (facts_.packed_is_mapped && facts_.packed_total_bytes != 0) {
    facts_.packed_total_bytes = xnnpack::DenseSet::CacheFileBytes(facts_.packed_bytes);
  }
  facts_.input_bytes = [](uint8_t kind, uint32_t rows, uint32_t columns) {
    return xnnpack::DenseSet::InputBytes(static_cast<xnnpack::InputKind>(kind), rows, columns);
  };
  facts_.mix_scratch_bytes = attention::MixScratchBytes;
  facts_known_ = true;
  return facts_;
}

Result<PackedWeights> Engine::Dense(const AllowPrivate& allow) {
  HR_ASSIGN_OR_RETURN(const bool mine, TakePackingTurn());
  if (!mine) return PackedWeights{dense_.get(), false};
  auto packed = Pack(allow);
  const Status status = packed.status();
  EndPackingTurn(packed.ok() ? packed.Take() : nullptr);
  HR_RETURN_IF_ERROR(status);
  return PackedWeights{dense_.get(), dense_->packed().built};
}

// Waits while another thread packs. False: the weights are there. True: the caller packs, with the
// mutex free, because the app's callbacks may make any call on the model meanwhile.
Result<bool> Engine::TakePackingTurn() {
  std::unique_lock<std::mutex> lock(mutex_);
  const std::thread::id self = std::this_thread::get_id();
  if (packer_ == self) {
    return Status::Make(StatusCode::kWrongState,
                        "a session cannot be created from a callback of the creation that packs "
                        "this model's weights");
  }
  packing_ended_.wait(lock, [this] { return packer_ == std::thread::id(); });
  if (dense_ != nullptr) return false;
  packer_ = self;
  return true;
}

Result<std::unique_ptr<xnnpack::DenseSet>> Engine::Pack(const AllowPrivate& allow) {
  HR_ASSIGN_OR_RETURN(plan::BackendFacts facts, Facts());
  struct Creation {
    plan::BackendFacts* facts;
    const AllowPrivate* allow;
  } creation{&facts, &allow};
  xnnpack::DenseOptions options;
  options.cache_directory = options_.cache_directory;
  options.model_digest = model_->digest;
  options.release_source = options_.weights_are_mapped;
  options.check_source = [](void* model) {
    return static_cast<model::Model*>(model)->VerifyContent(nullptr, nullptr);
  };
  options.check_source_context = model_.get();
  options.hooks = options_.hooks;
  options.log = options_.log;
  options.progress = options_.progress;
  options.progress_user_data = options_.progress_user_data;
  options.allow_private = [](void* context, uint64_t bytes) {
    // The creation was planned with packed weights in clean file pages. What it would be without
    // them is known before they are taken, so that a refusal leaves nothing behind.
    const auto& creation = *static_cast<const Creation*>(context);
    creation.facts->packed_is_mapped = false;
    creation.facts->packed_total_bytes = bytes;
    return (*creation.allow)(*creation.facts);
  };
  options.allow_private_user_data = &creation;
  auto dense = xnnpack::DenseSet::Create(DenseLayers(), options);
  model_->ReleaseContent();
  return dense;
}

// `dense` is null when packing failed: the next creator tries again.
void Engine::EndPackingTurn(std::unique_ptr<xnnpack::DenseSet> dense) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    packer_ = {};
    dense_ = std::move(dense);
    if (dense_ != nullptr) {
      // The cache directory may have turned out to be unwritable: plans made from here on say so.
      const xnnpack::PackedFacts& packed = dense_->packed();
      facts_.packed_is_mapped = packed.mapped;
      facts_.packed_total_bytes = packed.mapped ? packed.mapped_bytes : packed.private_bytes;
    }
  }
  packing_ended_.notify_all();
}

}  // namespace headroom::session
