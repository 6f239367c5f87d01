#include "session/image_session.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/platform.h"

namespace headroom::session {
namespace {

Status OverBudget(const plan::ImagePlan& plan, const plan::ImageLimits& limits,
                  const char* because) {
  const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  char fitting[64] = "no picture fits";
  if (plan.largest_batch != 0 || plan.largest_side != 0) {
    std::snprintf(fitting, sizeof(fitting), "what fits: batch %u, or sides of %u",
                  plan.largest_batch, plan.largest_side);
  }
  return Status::Make(
      StatusCode::kOverBudget,
      "%sneeds %llu bytes (%llu private) for batch %u of %u x %u pixels; the budget "
      "is %llu (private: %llu; 0: none): %llu bytes missing; %s",
      because, number(plan.total_bytes), number(plan.private_bytes), plan.size.batch,
      plan.size.height, plan.size.width, number(limits.budget_bytes),
      number(limits.private_budget_bytes), number(plan.missing_bytes), fitting);
}

Result<plan::ImagePlan> PlanThatFits(Engine& engine, const plan::ImageLimits& limits) {
  HR_ASSIGN_OR_RETURN(plan::ImagePlan plan, PlanImages(engine, limits));
  if (!plan.fits) return OverBudget(plan, limits, "");
  return plan;
}

}  // namespace

Result<plan::ImagePlan> PlanImages(Engine& engine, const plan::ImageLimits& limits) {
  if (!engine.is_image()) {
    return Status::Make(StatusCode::kUnsupported, "this model takes no pictures");
  }
  HR_ASSIGN_OR_RETURN(const plan::BackendFacts facts, engine.Facts());
  return plan::SolveImage(engine.model(), engine.lowered_image(), facts, limits);
}

Result<std::unique_ptr<ImageSession>> ImageSession::Create(std::shared_ptr<Engine> engine,
                                                           const plan::ImageLimits& limits) {
  const uint64_t start = platform::NowNs();
  HR_RETURN_IF_ERROR(PlanThatFits(*engine, limits).status());
  const auto allow = [&engine, &limits](const plan::BackendFacts& facts) -> Status {
    HR_ASSIGN_OR_RETURN(const plan::ImagePlan plan,
                        plan::SolveImage(engine->model(), engine->lowered_image(), facts, limits));
    return plan.fits ? Status{} : OverBudget(plan, limits, "cache directory unusable; ");
  };
  HR_ASSIGN_OR_RETURN(const PackedWeights weights, engine->Dense(allow));
  std::unique_ptr<ImageSession> session(new ImageSession());
  // Packing may have found that the cache directory cannot be written: plan with what is true.
  HR_ASSIGN_OR_RETURN(session->plan_, PlanThatFits(*engine, limits));
  session->engine_ = std::move(engine);
  HR_RETURN_IF_ERROR(session->Allocate(weights));
  session->stats_.load_ns = platform::NowNs() - start;
  session->stats_.weights_packed_now = weights.packed_now;
  return session;
}

Status ImageSession::Allocate(const PackedWeights& weights) {
  HR_ASSIGN_OR_RETURN(pool_, xnnpack::ThreadPool::Create(plan_.threads));
  HR_ASSIGN_OR_RETURN(arena_, Arena::Create(plan_.arena_bytes(), engine_->options().hooks));
  HR_ASSIGN_OR_RETURN(const auto memory, arena_.Take(plan_.arena_bytes()));
  const plan::LoweredImage& lowered = engine_->lowered_image();
  for (const plan::ImageStep& step : lowered.steps) {
    if (step.kind != plan::ImageStepKind::kConvolution) continue;
    const auto layer = static_cast<size_t>(step.layer);
    const auto stride = [&](int32_t value) {
      return lowered.buffers[lowered.places[value].buffer].channels;
    };
    HR_ASSIGN_OR_RETURN(auto convolution,
                        xnnpack::Convolution::Create(engine_->ConvolutionWeights(layer),
                                                     weights.dense->packed_weights(layer),
                                                     stride(step.inputs[0]), stride(step.output)));
    convolutions_.push_back(std::move(convolution));
  }
  engine_->model().ReleaseContent();
  executor_ = std::make_unique<ImageExecutor>(
      ImageBindings{&engine_->model(), &lowered, &plan_, &convolutions_, pool_.get(),
                    &xnnpack::BestKernels(), memory.data(), &cancel_, &observer_});
  return executor_->Bind();
}

float* ImageSession::input(uint32_t index) { return executor_->Data(0, index); }

std::span<std::byte> ImageSession::caller_scratch() {
  return {arena_.data() + plan_.caller_region.offset, plan_.caller_region.bytes};
}

Status ImageSession::Run(uint32_t count) {
  if (count == 0 || count > plan_.size.batch) {
    return Status::Make(StatusCode::kInvalidArgument, "%u pictures, not 1..%u", count,
                        plan_.size.batch);
  }
  const uint64_t start = platform::NowNs();
  results_ = 0;
  // What an earlier run left there could be anything.
  float* unused = input(count - 1) + uint64_t{plan_.size.height} * plan_.size.width * 3;
  std::fill(unused,
            input(plan_.size.batch - 1) + uint64_t{plan_.size.height} * plan_.size.width * 3, 0.0f);
  HR_RETURN_IF_ERROR(executor_->Run());
  results_ = count;
  stats_.pictures += count;
  ++stats_.runs;
  stats_.run_ns += platform::NowNs() - start;
  return {};
}

std::span<const float> ImageSession::Vector(int32_t value, uint32_t index) const {
  if (index >= results_ || value == model::kNone) return {};
  return {executor_->Data(value, index),
          engine_->model().image.values[static_cast<size_t>(value)].channels};
}

std::span<const float> ImageSession::logits(uint32_t index) const {
  return Vector(engine_->model().image.logits, index);
}

std::span<const float> ImageSession::features(uint32_t index) const {
  return Vector(engine_->model().image.features, index);
}

}  // namespace headroom::session
