// Clock, cores and the kernel's accounting of this process on Linux and Android.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>

#include <sched.h>

#include "base/platform.h"

namespace headroom::platform {
namespace {

// First number after `key` in a "Key:   123 kB" file, in bytes; 0 when absent.
uint64_t ReadKilobytes(const char* path, const char* key) {
  FILE* file = std::fopen(path, "re");
  if (file == nullptr) return 0;
  char line[256];
  unsigned long long kilobytes = 0;
  const size_t key_bytes = std::strlen(key);
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::strncmp(line, key, key_bytes) != 0) continue;
    std::sscanf(line + key_bytes, "%llu", &kilobytes);
    break;
  }
  std::fclose(file);
  return kilobytes * 1024;
}

long ReadCpuNumber(uint32_t cpu, const char* leaf) {
  char path[128];
  std::snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/%s", cpu, leaf);
  FILE* file = std::fopen(path, "re");
  if (file == nullptr) return -1;
  long value = -1;
  if (std::fscanf(file, "%ld", &value) != 1) value = -1;
  std::fclose(file);
  return value;
}

// Relative strength of a core: the kernel's capacity on ARM, its top frequency elsewhere.
long CoreStrength(uint32_t cpu) {
  const long capacity = ReadCpuNumber(cpu, "cpu_capacity");
  return capacity > 0 ? capacity : ReadCpuNumber(cpu, "cpufreq/cpuinfo_max_freq");
}

}  // namespace

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

uint32_t FastCoreCount() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  long strongest = -1;
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) strongest = std::max(strongest, CoreStrength(cpu));
  }
  // A core within 60 % of the strongest belongs to the fast clusters (prime + big); little cores
  // are slower than that and stall every barrier they take part in.
  uint32_t fast = 0;
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const long strength = CoreStrength(cpu);
    if (strongest <= 0 || strength < 0 || strength * 10 >= strongest * 6) ++fast;
  }
  return fast == 0 ? 1 : fast;
}

ProcessMemory ReadProcessMemory() {
  ProcessMemory memory;
  memory.resident_bytes = ReadKilobytes("/proc/self/status", "VmRSS:");
  memory.peak_resident_bytes = ReadKilobytes("/proc/self/status", "VmHWM:");
  memory.private_dirty_bytes = ReadKilobytes("/proc/self/smaps_rollup", "Private_Dirty:");
  return memory;
}

std::string DeviceDescription() {
  char name[128] = "unknown processor";
  if (FILE* file = std::fopen("/proc/cpuinfo", "re"); file != nullptr) {
    char line[256];
    while (std::fgets(line, sizeof(line), file) != nullptr) {
      if (std::sscanf(line, "model name%*[ \t]: %127[^\n]", name) == 1) break;
      if (std::sscanf(line, "Hardware%*[ \t]: %127[^\n]", name) == 1) break;
    }
    std::fclose(file);
  }
  return std::string(name) + ", " + std::to_string(FastCoreCount()) + " cores";
}

}  // namespace headroom::platform
