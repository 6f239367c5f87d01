#include "backends/xnnpack/weights_cache.h"

#include <xxhash.h>

#include <cstdio>
#include <cstring>

#include "base/math.h"

namespace headroom::xnnpack {
namespace {

constexpr uint64_t kMagic = 0x31304b4341505248u;  // "HRPACK01" in little-endian order
constexpr uint32_t kLayoutVersion = 1;
constexpr uint64_t kPayloadAlignment = 4096;
constexpr uint64_t kEntryAlignment = 64;

struct CacheHeader {
  uint64_t magic;
  uint32_t layout_version;
  uint32_t entry_bytes;
  uint64_t model_digest;
  uint64_t packing_digest;
  char xnnpack_version[40];
  uint64_t layers;
  uint64_t payload_offset;
  uint64_t file_bytes;
  uint64_t index_checksum;  // of this header with the field zero, then the entries
  uint64_t reserved[2];
};
static_assert(sizeof(CacheHeader) == 120 && sizeof(CacheEntry) == 32, "stored on disk");

CacheHeader HeaderOf(const CacheLayout& layout) {
  CacheHeader header = {};
  header.magic = kMagic;
  header.layout_version = kLayoutVersion;
  header.entry_bytes = sizeof(CacheEntry);
  header.model_digest = layout.key.model_digest;
  header.packing_digest = layout.key.packing_digest;
  std::snprintf(header.xnnpack_version, sizeof(header.xnnpack_version), "%s", HR_XNNPACK_VERSION);
  header.layers = layout.entries.size();
  header.payload_offset = layout.payload_offset;
  header.file_bytes = layout.file_bytes;
  return header;
}

uint64_t IndexChecksum(CacheHeader header, const CacheEntry* entries) {
  header.index_checksum = 0;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, &header, sizeof(header));
  XXH3_64bits_update(&state, entries, header.layers * sizeof(CacheEntry));
  return XXH3_64bits_digest(&state);
}

Status Differs(StatusCode code, const char* what, uint64_t found, uint64_t expected) {
  return Status::Make(code, "%s: found %llx, expected %llx", what,
                      static_cast<unsigned long long>(found),
                      static_cast<unsigned long long>(expected));
}

// Everything but the content. `file` is at least the payload offset long.
Status CheckIndex(const std::byte* file, const CacheLayout& layout) {
  CacheHeader header;
  std::memcpy(&header, file, sizeof(header));
  const auto* entries = reinterpret_cast<const CacheEntry*>(file + sizeof(header));
  const CacheHeader expected = HeaderOf(layout);
  if (header.magic != kMagic) return Differs(StatusCode::kCorrupt, "magic", header.magic, kMagic);
  if (header.layers != expected.layers) {
    return Differs(StatusCode::kMismatch, "layers", header.layers, expected.layers);
  }
  const uint64_t checksum = IndexChecksum(header, entries);
  if (header.index_checksum != checksum) {
    return Differs(StatusCode::kCorrupt, "index checksum", checksum, header.index_checksum);
  }
  if (header.model_digest != expected.model_digest) {
    return Differs(StatusCode::kMismatch, "model digest", header.model_digest,
                   expected.model_digest);
  }
  if (header.packing_digest != expected.packing_digest) {
    return Differs(StatusCode::kMismatch, "packing digest", header.packing_digest,
                   expected.packing_digest);
  }
  header.index_checksum = 0;
  if (std::memcmp(&header, &expected, sizeof(header)) != 0) {
    return Status::Make(StatusCode::kMismatch, "written by another version");
  }
  for (size_t i = 0; i < layout.entries.size(); ++i) {
    const CacheEntry& wanted = layout.entries[i];
    if (entries[i].signature != wanted.signature || entries[i].offset != wanted.offset ||
        entries[i].bytes != wanted.bytes) {
      return Status::Make(StatusCode::kMismatch, "layer %zu is another layer", i);
    }
  }
  return {};
}

}  // namespace

uint64_t CachePayloadOffset(size_t layers) {
  return RoundUp(sizeof(CacheHeader) + layers * sizeof(CacheEntry), kPayloadAlignment);
}

CacheLayout LayOut(const CacheKey& key, std::vector<CacheEntry> entries) {
  CacheLayout layout;
  layout.key = key;
  layout.entries = std::move(entries);
  layout.payload_offset = CachePayloadOffset(layout.entries.size());
  layout.file_bytes = layout.payload_offset;
  for (CacheEntry& entry : layout.entries) {
    entry.offset = layout.file_bytes;
    layout.file_bytes += RoundUp(entry.bytes, kEntryAlignment);
  }
  return layout;
}

std::string CachePath(const std::string& directory, const CacheLayout& layout) {
  CacheHeader header = HeaderOf(layout);
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, &header, sizeof(header));
  for (const CacheEntry& entry : layout.entries) {
    XXH3_64bits_update(&state, &entry, offsetof(CacheEntry, checksum));
  }
  char name[64];
  std::snprintf(name, sizeof(name), "/%016llx-%016llx.packed",
                static_cast<unsigned long long>(layout.key.model_digest),
                static_cast<unsigned long long>(XXH3_64bits_digest(&state)));
  return directory + name;
}

void WriteIndex(const CacheLayout& layout, std::byte* file) {
  CacheHeader header = HeaderOf(layout);
  header.index_checksum = IndexChecksum(header, layout.entries.data());
  std::memcpy(file, &header, sizeof(header));
  std::memcpy(file + sizeof(header), layout.entries.data(),
              layout.entries.size() * sizeof(CacheEntry));
}

Result<platform::FileMapping> OpenCache(const std::string& path, CacheLayout& layout,
                                        bool verify_content, const CacheProgress& progress) {
  HR_ASSIGN_OR_RETURN(platform::FileMapping file, platform::FileMapping::OpenPath(path.c_str()));
  if (file.bytes() != layout.file_bytes) {
    return Differs(StatusCode::kMismatch, "file bytes", file.bytes(), layout.file_bytes);
  }
  HR_RETURN_IF_ERROR(CheckIndex(file.data(), layout));
  const auto* entries = reinterpret_cast<const CacheEntry*>(file.data() + sizeof(CacheHeader));
  for (size_t i = 0; i < layout.entries.size(); ++i) {
    CacheEntry& entry = layout.entries[i];
    entry.checksum = entries[i].checksum;
    if (verify_content) {
      const uint64_t found = XXH3_64bits(file.data() + entry.offset, entry.bytes);
      if (entry.bytes != 0 && found != entry.checksum) {
        return Differs(StatusCode::kCorrupt, "content checksum", found, entry.checksum);
      }
    }
    if (progress.step != nullptr) HR_RETURN_IF_ERROR(progress.step(progress.context, entry.bytes));
  }
  return file;
}

}  // namespace headroom::xnnpack
