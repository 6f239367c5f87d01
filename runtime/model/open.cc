// Opening: map, check the container, verify the FlatBuffer, then load step by step.
#include <algorithm>
#include <utility>

#include "model/container.h"
#include "model/load.h"
#include "model/model.h"

namespace headroom::model {
namespace {

// The deepest path of the schema (model, attention, view, group, term, axis) takes less than half
// of this; the count stops files whose lists point a million times at one table.
constexpr flatbuffers::uoffset_t kMaxDepth = 16;
constexpr flatbuffers::uoffset_t kMaxTables = 1u << 19;

Result<const fb::Model*> VerifyGraph(std::span<const std::byte> bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  flatbuffers::Verifier::Options options;
  options.max_depth = kMaxDepth;
  options.max_tables = kMaxTables;
  flatbuffers::Verifier verifier(data, bytes.size(), options);
  if (!fb::VerifyModelBuffer(verifier)) {
    return Status::Make(
        StatusCode::kCorrupt,
        "the graph of %zu bytes is not a FlatBuffer \"%s\" within depth %u and %u tables",
        bytes.size(), fb::ModelIdentifier(), kMaxDepth, kMaxTables);
  }
  return fb::GetModel(data);
}

Status LoadAll(LoadContext& context) {
  HR_RETURN_IF_ERROR(LoadTensors(context));
  HR_RETURN_IF_ERROR(LoadMetadata(context));
  HR_RETURN_IF_ERROR(LoadAttentions(context));
  if (context.graph.vision() != nullptr) return LoadImageGraph(context);
  HR_RETURN_IF_ERROR(LoadGraph(context));
  HR_RETURN_IF_ERROR(LoadTokenizer(context));
  return LoadProfiles(context);
}

Status Load(std::span<const std::byte> file, const OpenOptions& options, Model& model) {
  // Kernels and FlatBuffers read in place; offsets inside are multiples of 64.
  if (reinterpret_cast<uintptr_t>(file.data()) % kTensorAlignment != 0) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "the model starts at an address or offset that is not a "
                        "multiple of %llu",
                        static_cast<unsigned long long>(kTensorAlignment));
  }
  HR_ASSIGN_OR_RETURN(const Header header, ReadHeader(file));
  HR_ASSIGN_OR_RETURN(const fb::Model* graph,
                      VerifyGraph(file.subspan(header.graph_offset, header.graph_bytes)));
  model.file_bytes = file.size();
  model.digest = Checksum(file.first(kHeaderBytes));
  LoadContext context{*graph, file, header.graph_offset + header.graph_bytes, model,
                      std::max<uint64_t>(kExpansionFloorBytes, file.size() * kExpansion)};
  HR_RETURN_IF_ERROR(LoadAll(context));
  if (options.verify_checksums) {
    HR_RETURN_IF_ERROR(model.VerifyContent(options.progress, options.progress_user_data));
  }
  options.log.Line(LogLevel::kInfo, "model \"%.*s\": %zu operations, %zu tensors, %llu bytes",
                   static_cast<int>(model.metadata.name.size()), model.metadata.name.data(),
                   model.ops.size() + model.image.ops.size(), model.tensors.size(),
                   static_cast<unsigned long long>(model.file_bytes));
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> Model::OpenMapping(platform::FileMapping mapping,
                                                  const OpenOptions& options) {
  auto model = std::make_unique<Model>();
  model->mapping_ = std::move(mapping);
  model->mapped_ = true;
  HR_RETURN_IF_ERROR(Load({model->mapping_.data(), model->mapping_.bytes()}, options, *model));
  return model;
}

Result<std::unique_ptr<Model>> Model::OpenPath(const char* path, const OpenOptions& options) {
  HR_ASSIGN_OR_RETURN(platform::FileMapping mapping, platform::FileMapping::OpenPath(path));
  Result<std::unique_ptr<Model>> model = OpenMapping(std::move(mapping), options);
  if (!model.ok())
    return Status::Make(model.status().code(), "%s: %s", path, model.status().message());
  return model;
}

Result<std::unique_ptr<Model>> Model::OpenFd(int fd, uint64_t offset, uint64_t length,
                                             const OpenOptions& options) {
  HR_ASSIGN_OR_RETURN(platform::FileMapping mapping,
                      platform::FileMapping::OpenFd(fd, offset, length));
  return OpenMapping(std::move(mapping), options);
}

Result<std::unique_ptr<Model>> Model::OpenMemory(const void* data, uint64_t bytes,
                                                 const OpenOptions& options) {
  if (data == nullptr)
    return Status::Make(StatusCode::kInvalidArgument, "the model's memory is null");
  auto model = std::make_unique<Model>();
  HR_RETURN_IF_ERROR(Load({static_cast<const std::byte*>(data), bytes}, options, *model));
  return model;
}

}  // namespace headroom::model
