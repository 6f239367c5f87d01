#include "convert/convert_images.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "convert/image_graph.h"
#include "convert/row_writer.h"
#include "convert/shvit.h"
#include "convert/vit.h"
#include "convert/workers.h"
#include "model/container.h"

namespace headroom::convert {
namespace {

Status CheckOptions(const Options& options) {
  const auto refuse = [](const char* what) {
    return Status::Make(StatusCode::kInvalidArgument, "%s is not for vision models", what);
  };
  const WeightFormat format = options.weights.value_or(WeightFormat::kF32);
  if (format != WeightFormat::kF32 && format != WeightFormat::kF16) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "weights of a vision model are f32 or f16 here");
  }
  if (options.head) return refuse("a type of the output matrix");
  if (options.context != 0) return refuse("a number of tokens");
  if (!options.chat_format.empty()) return refuse("a chat format");
  if (!options.importance.empty() || !options.bases.empty()) return refuse("a text to measure by");
  return {};
}

Result<ImagePlan> MakePlan(const Options& options, Config& config, const Checkpoint& checkpoint) {
  const WeightFormat format = options.weights.value_or(WeightFormat::kF32);
  const bool random = !options.preset.empty(), shvit = IsShvit(config);
  ImageSource source = random  ? ImageSource(options.seed)
                       : shvit ? OpenShvit(checkpoint)
                               : ImageSource(checkpoint, [](const auto& name) { return name; });
  HR_ASSIGN_OR_RETURN(ImagePlan plan,
                      shvit ? PlanShvit(config, source, format) : PlanVit(config, source, format));
  HR_RETURN_IF_ERROR(source.RefuseUnused());
  const size_t labels = plan.description.image.labels.size();
  const uint32_t classes = plan.description.metadata.vocabulary;
  if (labels == 0 || labels == classes) return plan;
  return Status::Make(StatusCode::kUnsupported, "config.json: %zu labels for %u classes", labels,
                      classes);
}

std::string FolderName(const std::string& path) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(path, error);
  const std::string name = whole.filename().string();
  return name.empty() ? whole.parent_path().filename().string() : name;
}

void SetNames(const Options& options, MetadataDescription& metadata) {
  const bool random = !options.preset.empty();
  const std::string name = random ? options.preset : FolderName(options.source);
  metadata.name = options.name.empty() ? name : options.name;
  metadata.source = random ? "random weights" : name;
}

Summary Summarise(const ImagePlan& plan) {
  Summary summary;
  const MetadataDescription& metadata = plan.description.metadata;
  summary.name = metadata.name;
  summary.architecture = metadata.architecture;
  summary.tokenizer = "none";
  summary.vision = true;
  summary.layers = plan.layers;
  summary.channels = plan.channels;
  summary.vocabulary = metadata.vocabulary;
  summary.tensors = static_cast<uint32_t>(plan.tensors.size());
  for (const TensorDescription& tensor : plan.description.tensors) {
    uint64_t elements = 1;
    for (const uint32_t extent : tensor.extents) elements *= extent;
    summary.parameters += elements;
    summary.weight_bytes += elements * DTypeBits(tensor.dtype) / 8;
  }
  return summary;
}

// Writes one tensor and measures what is lost; its floats are held until it is written.
Result<float> WriteTensor(const ImagePlan& plan, size_t index, const Workers& workers,
                          HrmWriter& writer) {
  const TensorDescription& tensor = plan.description.tensors[index];
  HR_ASSIGN_OR_RETURN(const std::vector<double> numbers, plan.tensors[index]());
  for (const double x : numbers) {
    if (std::abs(x) <= std::numeric_limits<float>::max()) continue;
    return Status::Make(StatusCode::kCorrupt, "tensor \"%s\" would hold %g", tensor.name.c_str(),
                        x);
  }
  RowWriter rows(tensor, index, {}, workers, writer);
  RowSource source;
  source.read = [&](uint64_t first, std::span<float> values) -> Status {
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(numbers[first * rows.columns() + i]);
    }
    return {};
  };
  source.written = [](uint64_t, uint64_t) -> Status { return {}; };
  HR_RETURN_IF_ERROR(rows.Write(tensor.extents[0], source));
  writer.SetSourceError(index, rows.error());
  return rows.error();
}

Status WriteTensors(const Options& options, const ImagePlan& plan, HrmWriter& writer,
                    Summary* summary) {
  HR_ASSIGN_OR_RETURN(const std::unique_ptr<Workers> workers, Workers::Start(options.threads));
  Progress progress;
  progress.total_bytes = writer.file_bytes();
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    progress.tensor = plan.description.tensors[i].name;
    HR_ASSIGN_OR_RETURN(const float error, WriteTensor(plan, i, *workers, writer));
    if (error > summary->largest_error) {
      summary->largest_error = error;
      summary->largest_error_tensor = progress.tensor;
    }
    progress.done_bytes += writer.data_bytes(i);
    if (options.progress && !options.progress(progress)) {
      return Status::Make(StatusCode::kCancelled, "conversion was cancelled at %s",
                          progress.tensor.c_str());
    }
  }
  return {};
}

}  // namespace

bool IsVision(const Config& config) { return IsShvit(config) || IsVit(config); }

Result<Summary> ConvertImages(const Options& options, Config& config,
                              const Checkpoint& checkpoint) {
  HR_RETURN_IF_ERROR(CheckOptions(options));
  HR_ASSIGN_OR_RETURN(ImagePlan plan, MakePlan(options, config, checkpoint));
  SetNames(options, plan.description.metadata);
  Summary summary = Summarise(plan);
  if (options.outline) {
    HR_ASSIGN_OR_RETURN(summary.file_bytes, HrmWriter::WriteOutline(options.out, plan.description));
    return summary;
  }
  HR_ASSIGN_OR_RETURN(HrmWriter writer, HrmWriter::Create(options.out, plan.description));
  summary.file_bytes = writer.file_bytes();
  HR_RETURN_IF_ERROR(WriteTensors(options, plan, writer, &summary));
  HR_RETURN_IF_ERROR(writer.Finish());
  return summary;
}

}  // namespace headroom::convert
