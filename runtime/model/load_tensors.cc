// Segments and tensors: that what the file says about bytes agrees with the bytes that are there.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/math.h"
#include "model/container.h"
#include "model/load.h"

namespace headroom::model {
namespace {

Status LoadSegments(LoadContext& context) {
  const auto* segments = context.graph.segments();
  HR_RETURN_IF_ERROR(CheckCount("segments", Count(segments), kMaxSegments));
  if (Count(segments) == 0) return {};
  // The verifier looks at the alignment of a list's length, not of its elements.
  if (reinterpret_cast<uintptr_t>(segments->Data()) % alignof(fb::Segment) != 0) {
    return Corrupt(Where("segments"), "the list is not aligned to %zu bytes", alignof(fb::Segment));
  }
  HR_RETURN_IF_ERROR(context.Charge(segments->size(), sizeof(Model::Segment), "segments"));
  context.model.segments.reserve(segments->size());
  uint64_t previous_end = context.graph_end;
  for (uint32_t i = 0; i < segments->size(); ++i) {
    const fb::Segment& segment = *segments->Get(i);
    const Where where("segment %u", i);
    uint64_t end = 0;
    if (segment.bytes() == 0) return Corrupt(where, "0 bytes");
    if (segment.offset() % kSegmentAlignment != 0) {
      return Corrupt(where, "offset %llu is not a multiple of %llu", Number(segment.offset()),
                     Number(kSegmentAlignment));
    }
    if (!CheckedAdd(segment.offset(), segment.bytes(), &end) || end > context.file.size()) {
      return Corrupt(where, "%llu + %llu leaves the file of %llu bytes", Number(segment.offset()),
                     Number(segment.bytes()), Number(context.file.size()));
    }
    if (segment.offset() < previous_end) {
      return Corrupt(where, "starts at %llu inside what ends at %llu", Number(segment.offset()),
                     Number(previous_end));
    }
    context.model.segments.push_back(
        {context.file.data() + segment.offset(), segment.bytes(), segment.checksum()});
    previous_end = end;
  }
  return {};
}

Result<DType> LoadDType(const Where& where, fb::DType dtype) {
  switch (dtype) {
    case fb::DType::F32:
      return DType::kF32;
    case fb::DType::F16:
      return DType::kF16;
    case fb::DType::BF16:
      return DType::kBF16;
    case fb::DType::I8:
      return DType::kI8;
    case fb::DType::I4:
      return DType::kI4;
    case fb::DType::I32:
      return DType::kI32;
    case fb::DType::None:
      break;
  }
  if (dtype == fb::DType::None) return Corrupt(where, "no element type");
  return Unsupported(where, "element type %u is unknown to this build",
                     static_cast<unsigned>(dtype));
}

// [offset, offset + bytes) of the segment, as it lies in the file.
Status Locate(const LoadContext& context, const Where& where, const char* what,
              const fb::Segment& segment, uint64_t offset, uint64_t bytes, const std::byte** out) {
  uint64_t end = 0;
  if (offset % kTensorAlignment != 0) {
    return Corrupt(where, "%s offset %llu is not a multiple of %llu", what, Number(offset),
                   Number(kTensorAlignment));
  }
  if (!CheckedAdd(offset, bytes, &end) || end > segment.bytes()) {
    return Corrupt(where, "%s at %llu + %llu leaves its segment of %llu bytes", what,
                   Number(offset), Number(bytes), Number(segment.bytes()));
  }
  *out = context.file.data() + segment.offset() + offset;
  return {};
}

Status LoadTensor(const LoadContext& context, uint32_t index, const fb::Tensor* entry,
                  TensorView* out) {
  Where where("tensor %u", index);
  HR_RETURN_IF_ERROR(CheckText(where, "name", entry->name(), kMaxNameBytes, false, &out->name));
  if (out->name.empty()) return Corrupt(where, "no name");
  where = Where("tensor \"%.*s\"", static_cast<int>(std::min<size_t>(out->name.size(), 80)),
                out->name.data());
  HR_ASSIGN_OR_RETURN(out->dtype, LoadDType(where, entry->dtype()));
  std::span<const uint32_t> extents;
  if (entry->extents() != nullptr) extents = {entry->extents()->data(), entry->extents()->size()};
  const Result<TensorBytes> bytes = TensorBytesOf(out->dtype, entry->block(), extents);
  if (!bytes.ok()) return Corrupt(where, "%s", bytes.status().message());
  if (entry->data_bytes() != bytes.value().data || entry->scale_bytes() != bytes.value().scales) {
    return Corrupt(where, "states %llu + %llu bytes, its extents take %llu + %llu",
                   Number(entry->data_bytes()), Number(entry->scale_bytes()),
                   Number(bytes.value().data), Number(bytes.value().scales));
  }
  HR_RETURN_IF_ERROR(
      CheckIndex(where, "segment", entry->segment(), Count(context.graph.segments())));
  const fb::Segment& segment = *context.graph.segments()->Get(entry->segment());
  HR_RETURN_IF_ERROR(Locate(context, where, "data", segment, entry->data_offset(),
                            entry->data_bytes(), &out->data));
  if (entry->scale_bytes() != 0) {
    HR_RETURN_IF_ERROR(Locate(context, where, "scales", segment, entry->scale_offset(),
                              entry->scale_bytes(), &out->scales));
  }
  out->rank = static_cast<uint8_t>(extents.size());
  std::copy(extents.begin(), extents.end(), out->extents.begin());
  out->block = entry->block();
  out->data_bytes = entry->data_bytes();
  out->scale_bytes = entry->scale_bytes();
  return {};
}

Status LoadOrigin(uint32_t index, const fb::Tensor& entry, TensorOrigin* out) {
  const Where where("tensor %u", index);
  HR_RETURN_IF_ERROR(CheckText(where, "source type", entry.source_type(), kMaxNameBytes, false,
                               &out->source_type));
  out->error = entry.source_error();
  if (std::isfinite(out->error)) return {};
  return Corrupt(where, "source error %g", static_cast<double>(out->error));
}

struct Range {
  const std::byte* begin;
  const std::byte* end;
  uint32_t tensor;
};

Status CheckOverlap(LoadContext& context) {
  const std::vector<TensorView>& tensors = context.model.tensors;
  HR_RETURN_IF_ERROR(context.Charge(2 * tensors.size(), sizeof(Range), "ranges"));
  std::vector<Range> ranges;
  ranges.reserve(2 * tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    ranges.push_back({tensors[i].data, tensors[i].data + tensors[i].data_bytes, i});
    if (tensors[i].scale_bytes == 0) continue;
    ranges.push_back({tensors[i].scales, tensors[i].scales + tensors[i].scale_bytes, i});
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].begin >= ranges[i - 1].end) continue;
    return Corrupt(Where("tensor %u", ranges[i].tensor), "its bytes overlap those of tensor %u",
                   ranges[i - 1].tensor);
  }
  return {};
}

Status CheckNames(LoadContext& context) {
  const std::vector<TensorView>& tensors = context.model.tensors;
  HR_RETURN_IF_ERROR(context.Charge(tensors.size(), sizeof(std::string_view), "names"));
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorView& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return {};
  return Corrupt(Where("tensors"), "two are named \"%.*s\"",
                 static_cast<int>(std::min<size_t>(twice->size(), 80)), twice->data());
}

}  // namespace

Status LoadTensors(LoadContext& context) {
  HR_RETURN_IF_ERROR(LoadSegments(context));
  const auto* entries = context.graph.tensors();
  HR_RETURN_IF_ERROR(CheckCount("tensors", Count(entries), kMaxTensors));
  HR_RETURN_IF_ERROR(context.Charge(Count(entries), sizeof(TensorView), "tensors"));
  std::vector<TensorView>& tensors = context.model.tensors;
  tensors.resize(Count(entries));
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    HR_RETURN_IF_ERROR(LoadTensor(context, i, entries->Get(i), &tensors[i]));
  }
  HR_RETURN_IF_ERROR(context.Charge(Count(entries), sizeof(TensorOrigin), "origins"));
  context.model.origins.resize(Count(entries));
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    HR_RETURN_IF_ERROR(LoadOrigin(i, *entries->Get(i), &context.model.origins[i]));
  }
  HR_RETURN_IF_ERROR(CheckNames(context));
  return CheckOverlap(context);
}

}  // namespace headroom::model
