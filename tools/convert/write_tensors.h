// Fills a file's tensors slice by slice, from a checkpoint or with noise.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/convert.h"
#include "convert/graph.h"
#include "convert/hrm_writer.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// Every tensor the plan needs is there with the shape the configuration implies, and the checkpoint
// holds no other tensor that might mean something. kCorrupt and kUnsupported name the tensor.
Status CheckSources(const GraphPlan& plan, const ModelShape& shape, const Checkpoint& checkpoint);

// A line for each kind of tensors that the recipe leaves out knowingly and the checkpoint has.
std::vector<std::string> IgnoredNotes(const Recipe& recipe, const Checkpoint& checkpoint);

// Writes into the plan of which element types each tensor is made.
void StateSources(const Checkpoint& checkpoint, GraphPlan& plan);

// What a conversion could not keep.
struct Losses {
  float largest_error = 0.0f;  // relative RMS of a tensor's stored elements against its source's
  std::string tensor;          // whose; empty when nothing was lost
};

using ProgressFunction = std::function<bool(const Progress&)>;

// Working memory: a slice of rows (about 4 MiB of floats), whatever the model's size and the number
// of threads. Of the options: threads, importance (kInvalidArgument when it does not fit a matrix)
// and progress. Errors: kCorrupt (a weight that is not finite), kUnsupported (element type; a
// weight too large for f16), kIo, kCancelled.
Result<Losses> WriteFromCheckpoint(const GraphPlan& plan, const Checkpoint& checkpoint,
                                   const Options& options, HrmWriter& writer);
Status WriteRandom(const GraphPlan& plan, uint64_t seed, const ProgressFunction& progress,
                   HrmWriter& writer);

}  // namespace headroom::convert
