// Any bytes as a folder's config.json: refused, or a shape that no empty checkpoint fits, however
// little the file says; where it is small, its plan is made, and the checkpoint that the plan
// implies is the one that fits. Of vision models likewise.
#include <cstdint>
#include <string_view>

#include "convert/checkpoint_fit.h"
#include "convert/graph.h"
#include "convert/mxfp4.h"
#include "convert/shape.h"
#include "convert/shvit.h"
#include "convert/vit.h"
#include "convert/write_tensors.h"

namespace {

using namespace headroom::convert;

void Require(bool holds) {
  if (!holds) __builtin_trap();
}

// Tensors without data, of the shapes that the plan's parts say.
TensorIndex Implied(const GraphPlan& plan) {
  TensorIndex tensors;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const auto& extents = plan.description.tensors[i].extents;
    for (const RowPart& part : plan.tensors[i].parts) {
      std::vector<uint64_t> shape = {part.source_rows};
      if (extents.size() > 1) shape.push_back(extents[1]);
      if (part.transposed) std::swap(shape[0], shape[1]);
      if (part.matrices != 0) shape.insert(shape.begin(), part.matrices);
      if (!part.mxfp4) {
        tensors[part.source] = {FindSafetensorsType("F32"), shape};
        continue;
      }
      shape.back() /= kMxfp4Block;
      tensors[part.source + "_scales"] = {FindSafetensorsType("U8"), shape};
      shape.push_back(kMxfp4Block / 2);
      tensors[part.source + "_blocks"] = {FindSafetensorsType("U8"), shape};
    }
  }
  return tensors;
}

bool IsSmall(const ModelShape& shape) {
  return shape.layers.size() <= 8 && shape.query_heads <= 64 && shape.mixture.experts <= 64;
}

// Whichever of its layouts the experts have.
void PlanAll(ModelShape& shape) {
  const size_t layouts = shape.recipe->mixture ? shape.recipe->mixture->names.size() : 1;
  for (size_t names = 0; names < layouts; ++names) {
    shape.mixture.names = names;
    const Checkpoint none;
    const GraphPlan plan = BuildGraphPlan(shape, {WeightFormat::kKeep, {}, {}, &none});
    const Checkpoint implied({}, Implied(plan));
    Require(FitToCheckpoint(implied, shape).ok());
    const bool whole =
        !shape.recipe->mixture || !shape.recipe->mixture->names[shape.mixture.names].mxfp4 ||
        (shape.channels % kMxfp4Block == 0 && shape.mixture.inner % kMxfp4Block == 0);
    Require(CheckSources(plan, shape, implied).ok() == whole);
  }
}

// A vision model's: refused, or a plan that no empty checkpoint fits and noise does.
void PlanPictures(Config& config) {
  ImageSource nothing = OpenShvit(Checkpoint());
  Config again = config;
  Require(!(IsShvit(config) ? PlanShvit(config, nothing, WeightFormat::kF32)
                            : PlanVit(config, nothing, WeightFormat::kF32))
               .ok());
  if (!IsShvit(again)) return;
  ImageSource noise(1);
  const auto plan = PlanShvit(again, noise, WeightFormat::kF16);
  if (!plan.ok()) return;
  const auto& image = plan.value().description.image;
  Require(image.ops.size() + 1 == image.values.size());
  for (const auto& op : image.ops) {
    for (const int32_t input : op.op.inputs) Require(input < op.op.output);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  auto json = ParseJson({reinterpret_cast<const char*>(data), bytes}, "config.json");
  if (!json.ok()) return 0;
  Config config(json.Take(), "config.json");
  if (IsShvit(config) || IsVit(config)) return PlanPictures(config), 0;
  auto shape = ReadShape(config, 0);
  if (!shape.ok()) return 0;
  Require(!FitToCheckpoint(Checkpoint(), shape.value()).ok());
  if (IsSmall(shape.value())) PlanAll(shape.value());
  return 0;
}
