// GGUF files made byte by byte, sound or not.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "convert/gguf.h"

namespace headroom::test {

template <typename T>
std::string Raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string GgufText(const std::string& text) { return Raw<uint64_t>(text.size()) + text; }

inline std::string GgufKey(const std::string& key, convert::GgufType type,
                           const std::string& value) {
  return GgufText(key) + Raw(static_cast<uint32_t>(type)) + value;
}

// An array's value: element type, count, elements.
inline std::string GgufArray(convert::GgufType type, uint64_t count, const std::string& elements) {
  return Raw(static_cast<uint32_t>(type)) + Raw(count) + elements;
}

inline std::string GgufEntry(const std::string& name, const std::vector<uint64_t>& extents,
                             uint32_t type, uint64_t offset) {
  std::string entry = GgufText(name) + Raw(static_cast<uint32_t>(extents.size()));
  for (const uint64_t extent : extents) entry += Raw(extent);
  return entry + Raw(type) + Raw(offset);
}

struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> keys, entries;
  std::string data;
  size_t alignment = 32;

  std::string File() const { return File(entries.size(), keys.size()); }
  // With counts that need not be true.
  std::string File(uint64_t tensors, uint64_t pairs) const {
    std::string file = magic + Raw(version) + Raw(tensors) + Raw(pairs);
    for (const std::string& key : keys) file += key;
    for (const std::string& entry : entries) file += entry;
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data;
  }
};

}  // namespace headroom::test
