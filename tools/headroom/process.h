// What the operating system says about this process and machine. Zero or empty where it does not
// tell.
#pragma once

#include <cstdint>
#include <string>

namespace headroom::cli {

// Monotonic clock.
uint64_t NowNs();

struct ProcessMemory {
  uint64_t private_dirty_bytes = 0;  // pages of ours the system cannot take back
  uint64_t resident_bytes = 0;       // everything in physical memory, mapped files included
  uint64_t peak_resident_bytes = 0;
};
ProcessMemory ReadProcessMemory();

// "AMD EPYC 9B45, 2 cores, avx2 avx512_vnni".
std::string DeviceLine();

}  // namespace headroom::cli
