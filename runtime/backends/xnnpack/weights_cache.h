// The file of packed weights: its name, its index and its checks. Private to this folder.
//
// Layout (native byte order; a file of another order fails the check of its first bytes):
//   CacheHeader, one CacheEntry per layer, zeros to a multiple of 4096, then the layers' packed
//   bytes, each at a multiple of 64.
// A reader takes nothing on trust: it computes the header and the entries it expects and compares;
// only the checksums come from the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/platform.h"
#include "base/status.h"

namespace headroom::xnnpack {

// What makes packed bytes reusable. XNNPACK's version and our layout version are mixed in by
// LayOut.
struct CacheKey {
  uint64_t model_digest = 0;
  uint64_t packing_digest = 0;  // how this CPU packs (dense_packing.h)
};

struct CacheEntry {
  uint64_t signature = 0;  // digest of the layer's type, shape, rows and name
  uint64_t offset = 0;     // from the start of the file
  uint64_t bytes = 0;      // 0: the layer has no packed copy
  uint64_t checksum = 0;   // XXH3-64 of the packed bytes
};

struct CacheLayout {
  CacheKey key;
  std::vector<CacheEntry> entries;
  uint64_t payload_offset = 0;
  uint64_t file_bytes = 0;
};

uint64_t CachePayloadOffset(size_t layers);

// Entries' signature and bytes given, places them.
CacheLayout LayOut(const CacheKey& key, std::vector<CacheEntry> entries);

// `directory`/<model digest>-<digest of everything else>.packed
std::string CachePath(const std::string& directory, const CacheLayout& layout);

// Writes header and index to the start of `file`; the entries' checksums are those to store.
void WriteIndex(const CacheLayout& layout, std::byte* file);

// Maps the file if it is exactly the expected one, and fills in the entries' checksums. With
// `verify_content` every packed byte is checked; `progress` hears of each layer and may stop it.
// Errors: kNotFound; kIo; kCorrupt, kMismatch (to be rebuilt; the message says what differs);
// what `progress` returned.
struct CacheProgress {
  Status (*step)(void* context, uint64_t bytes) = nullptr;
  void* context = nullptr;
};
Result<platform::FileMapping> OpenCache(const std::string& path, CacheLayout& layout,
                                        bool verify_content, const CacheProgress& progress);

}  // namespace headroom::xnnpack
