// The 64 bytes at the start of a .hrm file, and the facts about its layout that reader and writer
// share. schema/CONTAINER.md describes the same byte by byte. Everything is little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/status.h"
#include "tensor/dtype.h"

namespace headroom::model {

inline constexpr char kMagic[8] = {'H', 'E', 'A', 'D', 'R', 'O', 'O', 'M'};
inline constexpr uint32_t kFormatVersion = 1;
inline constexpr uint32_t kHeaderBytes = 64;
// Segments start on multiples of this: the largest page size of a phone or server we map on.
inline constexpr uint64_t kSegmentAlignment = 16384;
// Tensors start on multiples of this inside their segment.
inline constexpr uint64_t kTensorAlignment = 64;
// FlatBuffers positions are 32-bit and signed in places; weights lie outside the graph, so it stays
// small.
inline constexpr uint64_t kMaxGraphBytes = 1u << 30;

// Bits of Header::required_features that this build reads.
inline constexpr uint64_t kFeatureNormalForm = uint64_t{1} << 2;
inline constexpr uint64_t kFeatureTextSteps = uint64_t{1} << 3;
inline constexpr uint64_t kFeatureHeadMatrices = uint64_t{1} << 4;
inline constexpr uint64_t kFeatureQueryFactors = uint64_t{1} << 5;
inline constexpr uint64_t kFeatureImages = uint64_t{1} << 6;

// What bit `bit` of Header::required_features stands for; nullptr: this build does not know it.
const char* RequiredFeatureName(int bit);

struct Header {
  uint32_t format_version = kFormatVersion;
  uint64_t required_features = 0;
  uint64_t graph_offset = kHeaderBytes;
  uint64_t graph_bytes = 0;
  uint64_t file_bytes = 0;
  uint64_t graph_checksum = 0;  // XXH3-64 of the graph's bytes
};

// Parses and checks everything the header can say wrong about a file of file.size() bytes, the
// graph's checksum included. Errors: kCorrupt, kNewerFormat.
Result<Header> ReadHeader(std::span<const std::byte> file);

// Fills the 64 bytes, checksum included.
void WriteHeader(const Header& header, std::span<std::byte, kHeaderBytes> out);

struct TensorBytes {
  uint64_t data = 0;
  uint64_t scales = 0;
};
// Exact bytes of a tensor's elements and scales (tensor/dtype.h has the layouts). kCorrupt when the
// combination does not exist: rank, an extent of 0, a product beyond 2^62, a row of int4 that is
// not whole bytes or whole blocks.
Result<TensorBytes> TensorBytesOf(DType dtype, uint32_t block, std::span<const uint32_t> extents);

// XXH3-64, the checksum used throughout the format.
uint64_t Checksum(std::span<const std::byte> bytes);

}  // namespace headroom::model
