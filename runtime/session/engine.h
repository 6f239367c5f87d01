// Engine: what all sessions of one model share: the model, its lowered steps and its packed
// weights.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "backends/xnnpack/dense.h"
#include "base/arena.h"
#include "base/log.h"
#include "base/status.h"
#include "model/model.h"
#include "plan/image.h"
#include "plan/lower.h"
#include "plan/solve.h"

namespace headroom::session {

struct EngineOptions {
  AllocatorHooks hooks;
  Log log;
  std::string cache_directory;      // empty: packed weights are private memory
  bool weights_are_mapped = false;  // from a file: pages may be dropped once packed
  bool (*progress)(void* user_data, float fraction) = nullptr;
  void* progress_user_data = nullptr;
};

struct PackedWeights {
  xnnpack::DenseSet* dense = nullptr;  // lives as long as the engine
  bool packed_now = false;             // by this call, rather than found or made by another one
};

// The refusal of a plan that does not fit; `because` begins its text.
Status OverBudget(const plan::Plan& plan, const plan::Limits& limits, const char* because = "");

// Thread-safe after Create.
class Engine {
 public:
  static Result<std::shared_ptr<Engine>> Create(std::unique_ptr<model::Model> model,
                                                EngineOptions options);

  const model::Model& model() const { return *model_; }
  const plan::Lowered& lowered() const { return lowered_; }
  // Of a vision model; the other one is empty then.
  const plan::LoweredImage& lowered_image() const { return lowered_image_; }
  bool is_image() const { return !model_->image.empty(); }
  const EngineOptions& options() const { return options_; }

  // What the backend would need; measured without packing at the first call, then remembered.
  Result<plan::BackendFacts> Facts();
  // Packs or maps the weights at the first call; calls from other threads wait for it, and try
  // themselves when it failed. Errors: as DenseSet::Create; kWrongState when called from a callback
  // of the packing itself, which would wait for its own end; what `allow` says of facts with packed
  // weights in private memory, when the cache directory cannot be used.
  using AllowPrivate = std::function<Status(const plan::BackendFacts& facts)>;
  Result<PackedWeights> Dense(const AllowPrivate& allow);
  // Of a vision model by its layer, as packed.
  xnnpack::DenseWeights ConvolutionWeights(size_t layer) const;

 private:
  Engine() = default;
  std::vector<xnnpack::DenseWeights> DenseLayers() const;
  Result<bool> TakePackingTurn();
  Result<std::unique_ptr<xnnpack::DenseSet>> Pack(const AllowPrivate& allow);
  void DescribeConvolutions();
  void EndPackingTurn(std::unique_ptr<xnnpack::DenseSet> dense);

  std::unique_ptr<model::Model> model_;
  plan::Lowered lowered_;
  plan::LoweredImage lowered_image_;
  std::vector<xnnpack::ConvolutionSpec> convolutions_;  // by layer
  EngineOptions options_;
  std::mutex mutex_;  // guards all below; never held while the app is called back
  std::condition_variable packing_ended_;
  std::thread::id packer_;  // none: nobody packs
  bool facts_known_ = false;
  plan::BackendFacts facts_;
  std::unique_ptr<xnnpack::DenseSet> dense_;  // once there, it stays
};

}  // namespace headroom::session
