#include "convert/hrm_writer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <system_error>

#include <xxhash.h>

#include "base/math.h"
#include "base/platform.h"
#include "convert/hrm_graph.h"
#include "model/container.h"

namespace headroom::convert {
namespace {

// A segment is closed once it has this many bytes: large enough that padding does not matter, small
// enough that a damaged one can be named usefully.
constexpr uint64_t kSegmentBytes = 32u << 20;
// Tensors below this (norms, biases, tables) lie side by side ahead of all others, whatever their
// order in the graph: systems map up to 2 MiB of a file where one byte is read, and each norm
// between two matrices would keep so much of them resident.
constexpr uint64_t kSmallTensorBytes = 64u << 10;
// Written-back granularity.
constexpr uint64_t kFlushBytes = 16u << 20;

struct Place {
  uint64_t offset = 0;  // in the file once laid out
  uint64_t bytes = 0;
  uint64_t written = 0;
  uint64_t flushed = 0;
};

struct TensorPlaces {
  std::string name;
  Place data, scales;
};

std::vector<std::byte> Serialise(const fb::ModelT& graph) {
  flatbuffers::FlatBufferBuilder builder;
  fb::FinishModelBuffer(builder, fb::Model::Pack(builder, &graph));
  const auto* begin = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {begin, begin + builder.GetSize()};
}

// Puts tensors one behind another into segments, whose offsets are relative to the first.
class Placer {
 public:
  explicit Placer(fb::ModelT& graph) : graph_(graph) {}

  void Put(fb::TensorT& entry, const model::TensorBytes& bytes) {
    if (segment_bytes_ >= kSegmentBytes) Close();
    entry.segment = static_cast<uint32_t>(graph_.segments.size());
    entry.data_offset = RoundUp(segment_bytes_, model::kTensorAlignment);
    entry.data_bytes = bytes.data;
    segment_bytes_ = entry.data_offset + entry.data_bytes;
    if (bytes.scales == 0) return;
    entry.scale_offset = RoundUp(segment_bytes_, model::kTensorAlignment);
    entry.scale_bytes = bytes.scales;
    segment_bytes_ = entry.scale_offset + entry.scale_bytes;
  }
  void Close() {
    if (segment_bytes_ == 0) return;
    graph_.segments.emplace_back(segment_begin_, segment_bytes_, 0);
    segment_begin_ = RoundUp(segment_begin_ + segment_bytes_, model::kSegmentAlignment);
    segment_bytes_ = 0;
  }

 private:
  fb::ModelT& graph_;
  uint64_t segment_begin_ = 0, segment_bytes_ = 0;
};

Status PlaceTensors(const ModelDescription& description, fb::ModelT& graph) {
  std::vector<model::TensorBytes> bytes;
  for (const TensorDescription& tensor : description.tensors) {
    const auto of = model::TensorBytesOf(tensor.dtype, tensor.block, tensor.extents);
    if (!of.ok()) {
      return Status::Make(StatusCode::kInvalidArgument, "tensor \"%s\": %s", tensor.name.c_str(),
                          of.status().message());
    }
    bytes.push_back(of.value());
  }
  Placer placer(graph);
  for (const bool small : {true, false}) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      if ((bytes[i].data + bytes[i].scales < kSmallTensorBytes) != small) continue;
      placer.Put(*graph.tensors[i], bytes[i]);
    }
  }
  placer.Close();
  return {};
}

}  // namespace

struct HrmWriter::Impl {
  fb::ModelT graph;
  uint64_t graph_bytes = 0;
  std::vector<TensorPlaces> tensors;
  platform::FileBuilder file;

  uint64_t unflushed_bytes = 0;  // of all tensors together: many small ones add up, too

  Result<uint64_t> LayOut(const ModelDescription& description);  // the file's length
  Result<std::vector<std::byte>> Head(uint64_t file_bytes) const;
  Status FlushAll();
  Status Append(Place& place, const char* name, std::span<const std::byte> bytes);
  Status ChecksumSegments();
};

HrmWriter::HrmWriter() : impl_(std::make_unique<Impl>()) {}
HrmWriter::HrmWriter(HrmWriter&&) noexcept = default;
HrmWriter& HrmWriter::operator=(HrmWriter&&) noexcept = default;
HrmWriter::~HrmWriter() = default;

Result<uint64_t> HrmWriter::Impl::LayOut(const ModelDescription& description) {
  HR_ASSIGN_OR_RETURN(graph, BuildGraph(description));
  HR_RETURN_IF_ERROR(PlaceTensors(description, graph));
  // Offsets and checksums are fixed-width structs, so this size is final although their values are
  // not.
  graph_bytes = Serialise(graph).size();
  const uint64_t first = RoundUp(model::kHeaderBytes + graph_bytes, model::kSegmentAlignment);
  uint64_t file_bytes = model::kHeaderBytes + graph_bytes;
  for (fb::Segment& segment : graph.segments) {
    segment = fb::Segment(segment.offset() + first, segment.bytes(), 0);
    file_bytes = segment.offset() + segment.bytes();
  }
  return file_bytes;
}

// What older readers must refuse rather than overlook: of the attention plans, of the tokenizer.
uint64_t RequiredByAttentions(const fb::ModelT& graph) {
  uint64_t features = 0;
  for (const auto& plan : graph.attentions) {
    const fb::ProjectionT& projection = *plan->projection;
    bool matrices = projection.value_matrix != nullptr;
    for (const auto& score : projection.scores) matrices |= score->query_matrix != nullptr;
    if (matrices) features |= model::kFeatureHeadMatrices;
    if (projection.query->factors != model::kNone) features |= model::kFeatureQueryFactors;
  }
  return features;
}

uint64_t RequiredByTokenizer(const fb::ModelT& graph) {
  if (!graph.tokenizer) return 0;
  const fb::TokenizerT& tokenizer = *graph.tokenizer;
  const auto& added = tokenizer.added_tokens;
  const bool words =
      std::any_of(added.begin(), added.end(), [](const auto& token) { return token->single_word; });
  const bool steps = words || !tokenizer.normal_steps.empty() || !tokenizer.splits.empty();
  const bool form = tokenizer.normal_form != fb::NormalForm::AsIs;
  return (form ? model::kFeatureNormalForm : 0) | (steps ? model::kFeatureTextSteps : 0);
}

// Header and graph, as they begin the file.
Result<std::vector<std::byte>> HrmWriter::Impl::Head(uint64_t file_bytes) const {
  const std::vector<std::byte> serialised = Serialise(graph);
  if (serialised.size() != graph_bytes) {
    return Status::Make(StatusCode::kInternal, "the graph grew from %llu to %zu bytes",
                        static_cast<unsigned long long>(graph_bytes), serialised.size());
  }
  model::Header header;
  header.required_features = RequiredByAttentions(graph) | RequiredByTokenizer(graph);
  if (graph.vision) header.required_features |= model::kFeatureImages;
  header.graph_bytes = serialised.size();
  header.file_bytes = file_bytes;
  header.graph_checksum = model::Checksum(serialised);
  std::vector<std::byte> head(header.graph_offset + serialised.size());
  std::memcpy(head.data() + header.graph_offset, serialised.data(), serialised.size());
  model::WriteHeader(header,
                     std::span<std::byte, model::kHeaderBytes>(head.data(), model::kHeaderBytes));
  return head;
}

Result<HrmWriter> HrmWriter::Create(const std::string& path, const ModelDescription& description) {
  HrmWriter writer;
  Impl& impl = *writer.impl_;
  HR_ASSIGN_OR_RETURN(const uint64_t file_bytes, impl.LayOut(description));
  for (const auto& entry : impl.graph.tensors) {
    const uint64_t base = impl.graph.segments[entry->segment].offset();
    TensorPlaces places;
    places.name = entry->name;
    places.data = {base + entry->data_offset, entry->data_bytes, 0, 0};
    places.scales = {base + entry->scale_offset, entry->scale_bytes, 0, 0};
    impl.tensors.push_back(std::move(places));
  }
  HR_ASSIGN_OR_RETURN(impl.file, platform::FileBuilder::Create(path.c_str(), file_bytes));
  return writer;
}

Result<uint64_t> HrmWriter::WriteOutline(const std::string& path,
                                         const ModelDescription& description) {
  Impl impl;
  HR_ASSIGN_OR_RETURN(const uint64_t file_bytes, impl.LayOut(description));
  HR_ASSIGN_OR_RETURN(const std::vector<std::byte> head, impl.Head(file_bytes));
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(head.data()), static_cast<std::streamsize>(head.size()));
  file.close();
  std::error_code error;
  if (file) std::filesystem::resize_file(path, file_bytes, error);
  if (file && !error) return file_bytes;
  return Status::Make(StatusCode::kIo, "cannot write %s", path.c_str());
}

uint64_t HrmWriter::data_bytes(size_t tensor) const { return impl_->tensors[tensor].data.bytes; }
uint64_t HrmWriter::scale_bytes(size_t tensor) const { return impl_->tensors[tensor].scales.bytes; }
uint64_t HrmWriter::file_bytes() const { return impl_->file.bytes(); }

Status HrmWriter::Impl::Append(Place& place, const char* name, std::span<const std::byte> bytes) {
  if (bytes.size() > place.bytes - place.written) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "tensor \"%s\" takes %llu bytes, %llu were appended", name,
                        static_cast<unsigned long long>(place.bytes),
                        static_cast<unsigned long long>(place.written + bytes.size()));
  }
  if (!bytes.empty())
    std::memcpy(file.data() + place.offset + place.written, bytes.data(), bytes.size());
  place.written += bytes.size();
  unflushed_bytes += bytes.size();
  return unflushed_bytes < kFlushBytes ? Status() : FlushAll();
}

Status HrmWriter::Impl::FlushAll() {
  for (TensorPlaces& tensor : tensors) {
    for (Place* place : {&tensor.data, &tensor.scales}) {
      if (place->written == place->flushed) continue;
      HR_RETURN_IF_ERROR(
          file.Flush(place->offset + place->flushed, place->written - place->flushed));
      place->flushed = place->written;
    }
  }
  unflushed_bytes = 0;
  return {};
}

Status HrmWriter::Append(size_t tensor, std::span<const std::byte> bytes) {
  TensorPlaces& places = impl_->tensors[tensor];
  return impl_->Append(places.data, places.name.c_str(), bytes);
}

Status HrmWriter::AppendScales(size_t tensor, std::span<const std::byte> bytes) {
  TensorPlaces& places = impl_->tensors[tensor];
  return impl_->Append(places.scales, places.name.c_str(), bytes);
}

void HrmWriter::SetSourceError(size_t tensor, float error) {
  fb::TensorT& entry = *impl_->graph.tensors[tensor];
  if (!entry.source_type.empty()) entry.source_error = error;
}

Status HrmWriter::Impl::ChecksumSegments() {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  for (fb::Segment& segment : graph.segments) {
    XXH3_64bits_reset(state.get());
    for (uint64_t done = 0; done < segment.bytes();) {
      const uint64_t bytes = std::min(kFlushBytes, segment.bytes() - done);
      XXH3_64bits_update(state.get(), file.data() + segment.offset() + done, bytes);
      HR_RETURN_IF_ERROR(file.Flush(segment.offset() + done, bytes));
      done += bytes;
    }
    segment = fb::Segment(segment.offset(), segment.bytes(), XXH3_64bits_digest(state.get()));
  }
  return {};
}

Status HrmWriter::Finish() {
  for (const TensorPlaces& tensor : impl_->tensors) {
    for (const Place* place : {&tensor.data, &tensor.scales}) {
      if (place->written == place->bytes) continue;
      return Status::Make(StatusCode::kWrongState, "tensor \"%s\" got %llu of its %llu %s bytes",
                          tensor.name.c_str(), static_cast<unsigned long long>(place->written),
                          static_cast<unsigned long long>(place->bytes),
                          place == &tensor.data ? "data" : "scale");
    }
  }
  HR_RETURN_IF_ERROR(impl_->ChecksumSegments());
  HR_ASSIGN_OR_RETURN(const std::vector<std::byte> head, impl_->Head(impl_->file.bytes()));
  std::memcpy(impl_->file.data(), head.data(), head.size());
  return impl_->file.Commit();
}

}  // namespace headroom::convert
