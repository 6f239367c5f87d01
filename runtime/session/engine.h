// Engine: what all sessions of one model share: the model, its lowered steps and its packed
// weights.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "backends/xnnpack/dense.h"
#include "base/arena.h"
#include "base/log.h"
#include "base/status.h"
#include "model/model.h"
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

// Thread-safe after Create.
class Engine {
 public:
  static Result<std::shared_ptr<Engine>> Create(std::unique_ptr<model::Model> model,
                                                EngineOptions options);

  const model::Model& model() const { return *model_; }
  const plan::Lowered& lowered() const { return lowered_; }
  const EngineOptions& options() const { return options_; }

  // What the backend would need; measured without packing at the first call, then remembered.
  Result<plan::BackendFacts> Facts();
  // Packs or maps the weights at the first call. Errors: as DenseSet::Create.
  Result<xnnpack::DenseSet*> Dense();

 private:
  Engine() = default;
  std::vector<xnnpack::DenseWeights> DenseLayers() const;

  std::unique_ptr<model::Model> model_;
  plan::Lowered lowered_;
  EngineOptions options_;
  std::mutex mutex_;
  bool facts_known_ = false;
  plan::BackendFacts facts_;
  std::unique_ptr<xnnpack::DenseSet> dense_;
};

}  // namespace headroom::session
