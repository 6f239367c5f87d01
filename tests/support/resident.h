// What of this process's mappings is in memory, as the kernel counts it (Linux).
#pragma once

#include <cstdint>
#include <cstdio>

namespace headroom::test {

// Resident bytes of the mappings that overlap [begin, begin + bytes), each counted whole.
inline uint64_t ResidentBytes(const void* begin, uint64_t bytes) {
  // mincore tells what the page cache holds, not what we map; smaps tells the latter.
  FILE* smaps = std::fopen("/proc/self/smaps", "r");
  if (smaps == nullptr) return 0;
  char line[512];
  unsigned long long from = 0, to = 0, kilobytes = 0, total = 0;
  bool inside = false;
  const auto wanted = reinterpret_cast<uintptr_t>(begin);
  while (std::fgets(line, sizeof(line), smaps) != nullptr) {
    if (std::sscanf(line, "%llx-%llx ", &from, &to) == 2)
      inside = from < wanted + bytes && to > wanted;
    if (inside && std::sscanf(line, "Rss: %llu kB", &kilobytes) == 1) total += kilobytes * 1024;
  }
  std::fclose(smaps);
  return total;
}

}  // namespace headroom::test
