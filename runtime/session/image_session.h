// ImageSession: pictures through one vision model, inside one plan.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/status.h"
#include "plan/image_solve.h"
#include "session/engine.h"
#include "session/image_executor.h"

namespace headroom::session {

struct ImageStats {
  uint64_t pictures = 0, runs = 0, run_ns = 0;
  uint64_t load_ns = 0;
  bool weights_packed_now = false;
};

// The plan a session with these limits would get; allocates nothing of it. Errors: kUnsupported (no
// vision model), kInvalidArgument (a size that cannot be).
Result<plan::ImagePlan> PlanImages(Engine& engine, const plan::ImageLimits& limits);

// Used by one thread at a time, except Cancel. After Create nothing allocates.
class ImageSession {
 public:
  // Errors: kOverBudget with the bytes missing, kOutOfMemory, those of PlanImages and
  // Engine::Dense.
  static Result<std::unique_ptr<ImageSession>> Create(std::shared_ptr<Engine> engine,
                                                      const plan::ImageLimits& limits);
  ImageSession(const ImageSession&) = delete;
  ImageSession& operator=(const ImageSession&) = delete;

  // Where the numbers of picture `index` of the next run go, f32 [height, width, 3]; a run uses
  // them up.
  float* input(uint32_t index);
  // Runs the first `count` pictures, 1..batch; takes the time of a whole batch. Errors:
  // kInvalidArgument, kCancelled (there are no results then).
  Status Run(uint32_t count);
  // Of picture `index` of the last run; empty: there are none.
  std::span<const float> logits(uint32_t index) const;
  std::span<const float> features(uint32_t index) const;

  // There are no results any more: the input is being written.
  void Forget() { results_ = 0; }

  std::span<std::byte> caller_scratch();
  const plan::ImagePlan& plan() const { return plan_; }
  const ImageStats& stats() const { return stats_; }
  const Engine& engine() const { return *engine_; }
  const Arena& arena() const { return arena_; }
  void Cancel() { cancel_.store(true, std::memory_order_relaxed); }
  void ClearCancel() { cancel_.store(false, std::memory_order_relaxed); }
  void Observe(ValueObserver observer) { observer_ = observer; }
  // The app gets control back: idle workers go to sleep.
  void Rest() { pool_->Rest(); }

 private:
  ImageSession() = default;
  Status Allocate(const PackedWeights& weights);
  std::span<const float> Vector(int32_t value, uint32_t index) const;

  std::shared_ptr<Engine> engine_;
  plan::ImagePlan plan_;
  Arena arena_;
  std::unique_ptr<xnnpack::ThreadPool> pool_;
  std::vector<xnnpack::Convolution> convolutions_;  // by layer
  std::unique_ptr<ImageExecutor> executor_;
  uint32_t results_ = 0;  // pictures of the last run
  std::atomic<bool> cancel_{false};
  ValueObserver observer_;
  ImageStats stats_;
};

}  // namespace headroom::session
