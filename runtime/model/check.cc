// The checks that all loading steps share.
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "base/math.h"
#include "model/load.h"

namespace headroom::model {
namespace {

Status MakeAt(StatusCode code, const Where& where, const char* format, va_list arguments) {
  char fact[192];
  std::vsnprintf(fact, sizeof(fact), format, arguments);
  return Status::Make(code, "%s: %s", where.text(), fact);
}

// Length of the UTF-8 sequence that starts at text[i], 0 when there is none. Refuses overlong
// forms, surrogates and values past U+10FFFF.
size_t Utf8Length(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) -> uint32_t {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : 0;
  };
  const auto tail = [&](size_t k) { return (byte(k) & 0xc0u) == 0x80u; };
  const uint32_t lead = byte(i);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return tail(i + 1) ? 2 : 0;
  if (lead >= 0xe0 && lead < 0xf0) {
    const uint32_t second = byte(i + 1);
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0)) return 0;
    return tail(i + 1) && tail(i + 2) ? 3 : 0;
  }
  if (lead >= 0xf0 && lead < 0xf5) {
    const uint32_t second = byte(i + 1);
    if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90)) return 0;
    return tail(i + 1) && tail(i + 2) && tail(i + 3) ? 4 : 0;
  }
  return 0;
}

bool IsControl(std::string_view text, size_t i, bool lines) {
  const unsigned char c = static_cast<unsigned char>(text[i]);
  if (lines && (c == '\n' || c == '\r' || c == '\t')) return false;
  if (c < 0x20 || c == 0x7f) return true;
  // U+0080..U+009F, which terminals obey like escapes.
  return c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
}

}  // namespace

Where::Where(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text_, sizeof(text_), format, arguments);
  va_end(arguments);
}

Status Corrupt(const Where& where, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  Status status = MakeAt(StatusCode::kCorrupt, where, format, arguments);
  va_end(arguments);
  return status;
}

Status Unsupported(const Where& where, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  Status status = MakeAt(StatusCode::kUnsupported, where, format, arguments);
  va_end(arguments);
  return status;
}

Status LoadContext::Charge(uint64_t count, uint64_t element_bytes, const char* what) {
  uint64_t bytes = 0;
  if (!CheckedMul(count, element_bytes, &bytes) || bytes > heap_left_bytes) {
    return Status::Make(StatusCode::kCorrupt,
                        "%llu %s need %llu bytes of heap > %llu left for a file of %llu bytes",
                        static_cast<unsigned long long>(count), what,
                        static_cast<unsigned long long>(bytes),
                        static_cast<unsigned long long>(heap_left_bytes),
                        static_cast<unsigned long long>(file.size()));
  }
  heap_left_bytes -= bytes;
  return {};
}

Status CheckIndex(const Where& where, const char* what, int64_t index, uint64_t count) {
  if (index >= 0 && static_cast<uint64_t>(index) < count) return {};
  return Corrupt(where, "%s %lld is not in 0..%llu", what, static_cast<long long>(index),
                 static_cast<unsigned long long>(count) - 1);
}

Status CheckCount(const char* list, uint64_t count, uint64_t limit) {
  if (count <= limit) return {};
  return Status::Make(StatusCode::kCorrupt, "%llu %s > %llu",
                      static_cast<unsigned long long>(count), list,
                      static_cast<unsigned long long>(limit));
}

Status CheckText(const Where& where, const char* what, const flatbuffers::String* text,
                 uint64_t max_bytes, bool lines, std::string_view* out) {
  *out = {};
  if (text == nullptr) return {};
  const std::string_view view(text->c_str(), text->size());
  if (view.size() > max_bytes) {
    return Corrupt(where, "%s of %zu bytes > %llu", what, view.size(),
                   static_cast<unsigned long long>(max_bytes));
  }
  for (size_t i = 0; i < view.size();) {
    if (IsControl(view, i, lines)) {
      return Corrupt(where, "%s has control character 0x%02x at byte %zu", what,
                     static_cast<unsigned char>(view[i]), i);
    }
    const size_t length = Utf8Length(view, i);
    if (length == 0) return Corrupt(where, "%s is not UTF-8 at byte %zu", what, i);
    i += length;
  }
  *out = view;
  return {};
}

Status CheckVector(const LoadContext& context, const Where& where, const char* what, int32_t tensor,
                   uint64_t length) {
  HR_RETURN_IF_ERROR(CheckIndex(where, what, tensor, context.model.tensors.size()));
  const TensorView& view = context.model.tensors[static_cast<size_t>(tensor)];
  if (view.dtype != DType::kF32 || view.rank != 1 || view.extents[0] != length) {
    return Corrupt(where, "%s is %s of rank %u, %u long, not f32 [%llu]", what,
                   DTypeName(view.dtype), view.rank, view.extents[0],
                   static_cast<unsigned long long>(length));
  }
  return {};
}

Status LoadWeight(const LoadContext& context, const Where& where, const char* what,
                  const fb::Weight* weight, uint64_t columns, WeightRef* out) {
  if (weight == nullptr) return Corrupt(where, "%s is missing", what);
  HR_RETURN_IF_ERROR(CheckIndex(where, what, weight->tensor(), context.model.tensors.size()));
  const TensorView& tensor = context.model.tensors[static_cast<size_t>(weight->tensor())];
  if (tensor.dtype == DType::kBF16) return Unsupported(where, "%s has bf16 elements", what);
  if (tensor.dtype == DType::kI32 || tensor.rank != 2) {
    return Corrupt(where, "%s is %s of rank %u, not a matrix", what, DTypeName(tensor.dtype),
                   tensor.rank);
  }
  if (tensor.columns() != columns) {
    return Corrupt(where, "%s has %u columns, its input has %llu", what, tensor.columns(),
                   static_cast<unsigned long long>(columns));
  }
  const uint64_t end = uint64_t{weight->row_begin()} + weight->rows();
  if (weight->rows() == 0 || end > tensor.rows()) {
    return Corrupt(where, "%s takes rows %u + %u of %u", what, weight->row_begin(), weight->rows(),
                   tensor.rows());
  }
  if (weight->bias() != kNone) {
    HR_RETURN_IF_ERROR(CheckVector(context, where, "bias", weight->bias(), tensor.rows()));
  }
  *out = {weight->tensor(), weight->row_begin(), weight->rows(), weight->bias()};
  return {};
}

Status LoadNorm(const LoadContext& context, const Where& where, const char* what,
                const fb::Norm* norm, uint64_t width, uint64_t heads, NormSpec* out) {
  *out = {};
  if (norm == nullptr) return {};
  HR_RETURN_IF_ERROR(CheckKnown(where, "norm kind", norm->kind()));
  if (norm->kind() == fb::NormKind::None) return Corrupt(where, "%s has no kind", what);
  if (norm->kind() == fb::NormKind::L2) {
    return Unsupported(where, "%s is a %s norm", what, fb::EnumNameNormKind(norm->kind()));
  }
  const bool grouped =
      norm->kind() == fb::NormKind::Group || norm->kind() == fb::NormKind::GroupRms;
  const bool layer = norm->kind() == fb::NormKind::Layer || norm->kind() == fb::NormKind::Group;
  const uint32_t groups = grouped ? norm->groups() : 1;
  if (groups == 0 || width % groups != 0) {
    return Corrupt(where, "%s of %llu values in %u groups", what, Number(width), groups);
  }
  if (grouped && heads != 0) return Unsupported(where, "%s in groups inside of attention", what);
  if (norm->whole_row() && (heads == 0 || grouped)) {
    return Unsupported(where, "%s over all heads together outside of attention", what);
  }
  if (norm->whole_row()) width *= heads;
  if (norm->weight() == kNone) return Unsupported(where, "%s without a weight", what);
  // A weight of another length than the row's must be as long as a part.
  HR_RETURN_IF_ERROR(CheckIndex(where, what, norm->weight(), context.model.tensors.size()));
  const bool shared =
      grouped && context.model.tensors[static_cast<size_t>(norm->weight())].extents[0] != width;
  if (shared) width /= groups;
  HR_RETURN_IF_ERROR(CheckVector(context, where, what, norm->weight(), width));
  if (norm->bias() != kNone) {
    if (!layer) return Unsupported(where, "%s is an Rms norm with a bias", what);
    HR_RETURN_IF_ERROR(CheckVector(context, where, "norm bias", norm->bias(), width));
  }
  if (!(norm->epsilon() > 0.0f) || !(norm->epsilon() <= 1.0f)) {
    return Corrupt(where, "%s epsilon %g is not in (0, 1]", what,
                   static_cast<double>(norm->epsilon()));
  }
  *out = {layer ? NormKind::kLayer : NormKind::kRms,
          norm->weight(),
          norm->bias(),
          norm->epsilon(),
          norm->whole_row(),
          groups,
          shared};
  return {};
}

}  // namespace headroom::model
