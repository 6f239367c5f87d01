// SHViT (arXiv 2401.16456) from the layouts that timm and the authors publish.
#pragma once

#include <vector>

#include "convert/config.h"
#include "convert/image_graph.h"

namespace headroom::convert {

struct ShvitStage {
  uint32_t width = 0;    // channels
  uint32_t partial = 0;  // of them those that attend
  uint32_t query = 16;   // width of queries and keys
  uint32_t depth = 0;    // blocks
  bool attends = false;  // its blocks
};

struct ShvitShape {
  std::vector<ShvitStage> stages;
  uint32_t classes = 0;
  uint32_t side = 0;  // of the pictures it was trained on, unless pretrained_cfg says another
};

// Whether config.json is one that timm writes and names one of them.
bool IsShvit(const Config& config);

// "architecture" and what "model_args" changes of it. Errors: kUnsupported, kCorrupt, by key.
Result<ShvitShape> ReadShvitShape(Config& config);

// The checkpoint by timm's names, whichever layout it has.
ImageSource OpenShvit(const Checkpoint& checkpoint);

// Errors: kUnsupported, kCorrupt; they name the key or the tensor.
Result<ImagePlan> PlanShvit(Config& config, ImageSource& source, WeightFormat format);

}  // namespace headroom::convert
