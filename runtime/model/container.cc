#include "model/container.h"

#include <bit>
#include <cstring>

#include <xxhash.h>

#include "base/math.h"

namespace headroom::model {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is read in place");

// Where each field lies; the header's own checksum covers everything before it.
enum FieldOffset : size_t {
  kVersionAt = 8,
  kHeaderBytesAt = 12,
  kFeaturesAt = 16,
  kGraphOffsetAt = 24,
  kGraphBytesAt = 32,
  kFileBytesAt = 40,
  kGraphChecksumAt = 48,
  kHeaderChecksumAt = 56,
};

// Bit i of required_features; the same order as RequiredFeature in headroom.fbs.
constexpr const char* kFeatureNames[] = {
    "external segments", "compressed segments", "normal form of text",
    "steps of text",     "matrices of heads",   "factors of queries",
    "pictures"};
constexpr uint64_t kSupportedFeatures = kFeatureNormalForm | kFeatureTextSteps |
                                        kFeatureHeadMatrices | kFeatureQueryFactors |
                                        kFeatureImages;

template <typename T>
T Load(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <typename T>
void Store(std::span<std::byte> bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

unsigned long long Number(uint64_t value) { return value; }

Status CheckIdentity(std::span<const std::byte> file) {
  if (file.size() < kHeaderBytes) {
    return Status::Make(StatusCode::kCorrupt, "the file has %llu bytes, a header has %u",
                        Number(file.size()), kHeaderBytes);
  }
  if (std::memcmp(file.data(), kMagic, sizeof(kMagic)) != 0) {
    return Status::Make(StatusCode::kCorrupt,
                        "not a Headroom model: the first 8 bytes are not HEADROOM");
  }
  const uint32_t version = Load<uint32_t>(file, kVersionAt);
  if (version == 0 || version == __builtin_bswap32(kFormatVersion)) {
    return Status::Make(StatusCode::kCorrupt,
                        "format version 0x%08x is none; big-endian files do not exist", version);
  }
  if (version > kFormatVersion) {
    return Status::Make(StatusCode::kNewerFormat,
                        "format version %u > %u, the newest this build reads", version,
                        kFormatVersion);
  }
  const uint32_t header_bytes = Load<uint32_t>(file, kHeaderBytesAt);
  if (header_bytes != kHeaderBytes) {
    return Status::Make(StatusCode::kCorrupt, "header of %u bytes, version %u has %u", header_bytes,
                        version, kHeaderBytes);
  }
  const uint64_t stored = Load<uint64_t>(file, kHeaderChecksumAt);
  const uint64_t actual = Checksum(file.first(kHeaderChecksumAt));
  if (stored != actual) {
    return Status::Make(StatusCode::kCorrupt, "header checksum %016llx, stored %016llx",
                        Number(actual), Number(stored));
  }
  return {};
}

Status CheckFeatures(uint64_t required) {
  const uint64_t unknown = required & ~kSupportedFeatures;
  if (unknown == 0) return {};
  const int bit = std::countr_zero(unknown);
  if (const char* name = RequiredFeatureName(bit)) {
    return Status::Make(StatusCode::kNewerFormat,
                        "the file requires \"%s\" (bit %d), which this build lacks", name, bit);
  }
  return Status::Make(StatusCode::kNewerFormat,
                      "the file requires feature bit %d, unknown to this build", bit);
}

Status CheckGraphRange(const Header& header, std::span<const std::byte> file) {
  if (header.file_bytes != file.size()) {
    return Status::Make(StatusCode::kCorrupt, "the file has %llu bytes, its header says %llu",
                        Number(file.size()), Number(header.file_bytes));
  }
  if (header.graph_offset < kHeaderBytes || header.graph_offset % kTensorAlignment != 0) {
    return Status::Make(StatusCode::kCorrupt,
                        "graph offset %llu is not a multiple of %llu from %u on",
                        Number(header.graph_offset), Number(kTensorAlignment), kHeaderBytes);
  }
  if (header.graph_bytes > kMaxGraphBytes) {
    return Status::Make(StatusCode::kCorrupt, "graph of %llu bytes > %llu",
                        Number(header.graph_bytes), Number(kMaxGraphBytes));
  }
  uint64_t end = 0;
  if (!CheckedAdd(header.graph_offset, header.graph_bytes, &end) || end > file.size()) {
    return Status::Make(StatusCode::kCorrupt, "graph at %llu + %llu leaves the file of %llu bytes",
                        Number(header.graph_offset), Number(header.graph_bytes),
                        Number(file.size()));
  }
  return {};
}

}  // namespace

const char* RequiredFeatureName(int bit) {
  const bool known = bit >= 0 && bit < static_cast<int>(std::size(kFeatureNames));
  return known ? kFeatureNames[bit] : nullptr;
}

uint64_t Checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

Result<Header> ReadHeader(std::span<const std::byte> file) {
  HR_RETURN_IF_ERROR(CheckIdentity(file));
  Header header;
  header.format_version = Load<uint32_t>(file, kVersionAt);
  header.required_features = Load<uint64_t>(file, kFeaturesAt);
  header.graph_offset = Load<uint64_t>(file, kGraphOffsetAt);
  header.graph_bytes = Load<uint64_t>(file, kGraphBytesAt);
  header.file_bytes = Load<uint64_t>(file, kFileBytesAt);
  header.graph_checksum = Load<uint64_t>(file, kGraphChecksumAt);
  HR_RETURN_IF_ERROR(CheckFeatures(header.required_features));
  HR_RETURN_IF_ERROR(CheckGraphRange(header, file));
  const uint64_t actual = Checksum(file.subspan(header.graph_offset, header.graph_bytes));
  if (actual != header.graph_checksum) {
    return Status::Make(StatusCode::kCorrupt, "graph checksum %016llx, the header says %016llx",
                        Number(actual), Number(header.graph_checksum));
  }
  return header;
}

void WriteHeader(const Header& header, std::span<std::byte, kHeaderBytes> out) {
  std::memcpy(out.data(), kMagic, sizeof(kMagic));
  Store(out, kVersionAt, header.format_version);
  Store(out, kHeaderBytesAt, kHeaderBytes);
  Store(out, kFeaturesAt, header.required_features);
  Store(out, kGraphOffsetAt, header.graph_offset);
  Store(out, kGraphBytesAt, header.graph_bytes);
  Store(out, kFileBytesAt, header.file_bytes);
  Store(out, kGraphChecksumAt, header.graph_checksum);
  Store(out, kHeaderChecksumAt, Checksum(out.first(kHeaderChecksumAt)));
}

namespace {

constexpr size_t kMaxRank = 4;
constexpr uint64_t kMaxElements = uint64_t{1} << 48;
constexpr uint32_t kMaxExtent = 0x7fffffffu;

Result<uint64_t> Elements(std::span<const uint32_t> extents) {
  if (extents.empty() || extents.size() > kMaxRank) {
    return Status::Make(StatusCode::kCorrupt, "rank %llu is not 1..%llu", Number(extents.size()),
                        Number(kMaxRank));
  }
  uint64_t elements = 1;
  for (size_t i = 0; i < extents.size(); ++i) {
    if (extents[i] == 0 || extents[i] > kMaxExtent) {
      return Status::Make(StatusCode::kCorrupt, "extent %llu is %u, not 1..%u", Number(i),
                          extents[i], kMaxExtent);
    }
    if (!CheckedMul(elements, extents[i], &elements) || elements > kMaxElements) {
      return Status::Make(StatusCode::kCorrupt, "more than %llu elements", Number(kMaxElements));
    }
  }
  return elements;
}

Result<TensorBytes> QuantisedBytes(DType dtype, uint32_t block, std::span<const uint32_t> extents,
                                   uint64_t elements) {
  if (extents.size() != 2) {
    return Status::Make(StatusCode::kCorrupt, "%s of rank %llu, only matrices are quantised",
                        DTypeName(dtype), Number(extents.size()));
  }
  const uint64_t rows = extents[0];
  const uint64_t columns = extents[1];
  if (block != 0 && block != 32 && block != 64 && block != 128) {
    return Status::Make(StatusCode::kCorrupt, "block %u is not 0, 32, 64 or 128", block);
  }
  const uint32_t whole = block != 0 ? block : 8 / DTypeBits(dtype);  // a row is whole bytes
  if (columns % whole != 0) {
    return Status::Make(StatusCode::kCorrupt, "a row of %llu %s values is not whole blocks of %u",
                        Number(columns), DTypeName(dtype), whole);
  }
  const uint64_t scales = block == 0 ? rows * sizeof(float) : elements / block * sizeof(uint16_t);
  return TensorBytes{elements * DTypeBits(dtype) / 8, scales};
}

}  // namespace

Result<TensorBytes> TensorBytesOf(DType dtype, uint32_t block, std::span<const uint32_t> extents) {
  HR_ASSIGN_OR_RETURN(const uint64_t elements, Elements(extents));
  const bool quantised = dtype == DType::kI8 || dtype == DType::kI4;
  if (block != 0 && !quantised) {
    return Status::Make(StatusCode::kCorrupt, "block %u on %s, which has none", block,
                        DTypeName(dtype));
  }
  if (quantised) return QuantisedBytes(dtype, block, extents, elements);
  return TensorBytes{elements * DTypeBits(dtype) / 8, 0};
}

}  // namespace headroom::model
