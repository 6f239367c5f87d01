#include "convert/source_tensor.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "base/platform.h"
#include "convert/ggml_blocks.h"
#include "convert/json_file.h"

namespace headroom::convert {
namespace {

void WidenFloats(const std::byte* data, size_t count, float* out) {
  std::memcpy(out, data, count * sizeof(float));
}

template <float (*kConvert)(uint16_t)>
void WidenHalves(const std::byte* data, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) {
    uint16_t bits;  // unaligned in the file
    std::memcpy(&bits, data + 2 * i, 2);
    out[i] = kConvert(bits);
  }
}

constexpr auto kWidenF16 = WidenHalves<HalfToFloat>;
constexpr auto kWidenBF16 = WidenHalves<BfloatToFloat>;

constexpr ElementType kSafetensorsTypes[] = {
    {"F32", 1, 4, WidenFloats},
    {"F16", 1, 2, kWidenF16},
    {"BF16", 1, 2, kWidenBF16},
    {"BOOL", 1, 1},
    {"U8", 1, 1},
    {"I8", 1, 1},
    {"F8_E5M2", 1, 1},
    {"F8_E4M3", 1, 1},
    {"I16", 1, 2},
    {"U16", 1, 2},
    {"I32", 1, 4},
    {"U32", 1, 4},
    {"I64", 1, 8},
    {"U64", 1, 8},
    {"F64", 1, 8},
};

struct NumberedType {
  uint32_t number;
  ElementType type;
};

// The numbers are those of GGUF files (ggml's enum ggml_type); the gaps are types that were
// withdrawn.
constexpr NumberedType kGgmlTypes[] = {
    {0, {"F32", 1, 4, WidenFloats}},
    {1, {"F16", 1, 2, kWidenF16}},
    {2, {"Q4_0", 32, 18, WidenQ4_0}},
    {3, {"Q4_1", 32, 20, WidenQ4_1}},
    {6, {"Q5_0", 32, 22, WidenQ5_0}},
    {7, {"Q5_1", 32, 24, WidenQ5_1}},
    {8, {"Q8_0", 32, 34, WidenQ8_0}},
    {9, {"Q8_1", 32, 36}},
    {10, {"Q2_K", 256, 84, WidenQ2K}},
    {11, {"Q3_K", 256, 110, WidenQ3K}},
    {12, {"Q4_K", 256, 144, WidenQ4K}},
    {13, {"Q5_K", 256, 176, WidenQ5K}},
    {14, {"Q6_K", 256, 210, WidenQ6K}},
    {15, {"Q8_K", 256, 292}},
    {16, {"IQ2_XXS", 256, 66}},
    {17, {"IQ2_XS", 256, 74}},
    {18, {"IQ3_XXS", 256, 98}},
    {19, {"IQ1_S", 256, 50}},
    {20, {"IQ4_NL", 32, 18}},
    {21, {"IQ3_S", 256, 110}},
    {22, {"IQ2_S", 256, 82}},
    {23, {"IQ4_XS", 256, 136}},
    {24, {"I8", 1, 1}},
    {25, {"I16", 1, 2}},
    {26, {"I32", 1, 4}},
    {27, {"I64", 1, 8}},
    {28, {"F64", 1, 8}},
    {29, {"IQ1_M", 256, 56}},
    {30, {"BF16", 1, 2, kWidenBF16}},
    {34, {"TQ1_0", 256, 54}},
    {35, {"TQ2_0", 256, 66}},
    {kGgmlMxfp4, {"MXFP4", 32, 17, WidenMxfp4}},
    {40, {"NVFP4", 64, 36}},
    {41, {"Q1_0", 128, 18}},
    {42, {"Q2_0", 64, 18}},
};

}  // namespace

const ElementType* FindSafetensorsType(std::string_view name) {
  for (const ElementType& type : kSafetensorsTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

const ElementType* FindGgmlType(uint32_t number) {
  for (const NumberedType& entry : kGgmlTypes) {
    if (entry.number == number) return &entry.type;
  }
  return nullptr;
}

Status CheckOverlap(const TensorIndex& index, const std::string& what) {
  std::vector<std::pair<const std::byte*, const TensorIndex::value_type*>> order;
  for (const auto& item : index) {
    if (item.second.bytes > 0) order.emplace_back(item.second.data, &item);
  }
  std::sort(order.begin(), order.end());
  for (size_t i = 1; i < order.size(); ++i) {
    const auto& [name, before] = *order[i - 1].second;
    if (before.data + before.bytes > order[i].first) {
      return Status::Make(StatusCode::kCorrupt, "%s: tensor \"%s\": overlaps \"%s\"", what.c_str(),
                          Printable(name).c_str(), Printable(order[i].second->first).c_str());
    }
  }
  return {};
}

const SourceTensor* Checkpoint::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

Result<std::span<const std::byte>> ReadBlocks(const std::string& name, const SourceTensor& tensor,
                                              uint64_t begin, uint64_t count) {
  const ElementType& type = *tensor.type;
  const uint64_t elements = tensor.bytes / type.block_bytes * type.block;
  if (begin > elements || count > elements - begin || begin % type.block || count % type.block) {
    return Status::Make(StatusCode::kInternal,
                        "tensor \"%s\": elements %llu + %llu of %llu in blocks of %u",
                        Printable(name).c_str(), static_cast<unsigned long long>(begin),
                        static_cast<unsigned long long>(count),
                        static_cast<unsigned long long>(elements), type.block);
  }
  return std::span(tensor.data + begin / type.block * type.block_bytes,
                   count / type.block * type.block_bytes);
}

Status ReadFloats(const std::string& name, const SourceTensor& tensor, uint64_t begin,
                  std::span<float> out) {
  const ElementType& type = *tensor.type;
  if (!type.widen) {
    return Status::Make(StatusCode::kUnsupported,
                        "tensor \"%s\" is %s, which cannot be read as weights",
                        Printable(name).c_str(), std::string(type.name).c_str());
  }
  HR_ASSIGN_OR_RETURN(const auto blocks, ReadBlocks(name, tensor, begin, out.size()));
  type.widen(blocks.data(), out.size() / type.block, out.data());
  return {};
}

}  // namespace headroom::convert
