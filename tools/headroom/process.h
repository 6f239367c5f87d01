// What the operating system says about this process and machine. Zero or empty where it does not
// tell.
#pragma once

#include <string>

#include "base/platform.h"

namespace headroom::cli {

using platform::NowNs;
using platform::ProcessMemory;
using platform::ReadProcessMemory;

// "AMD EPYC 9B45, 2 cores, avx2 avx512_vnni".
std::string DeviceLine();

}  // namespace headroom::cli
