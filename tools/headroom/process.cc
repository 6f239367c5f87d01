#include "headroom/process.h"

#include <fstream>
#include <thread>

#include <sched.h>

namespace headroom::cli {
namespace {

// First value of "key : value" in /proc/cpuinfo.
std::string CpuField(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

// The instruction sets that decide which kernels run.
std::string NotableFeatures() {
  std::string features = CpuField("flags") + " " + CpuField("Features") + " ";
  std::string notable;
  for (const char* name : {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
                           "amx_int8", "asimddp", "i8mm", "sve", "sve2", "fphp"}) {
    if (features.find(std::string(" ") + name + " ") != std::string::npos) {
      notable += notable.empty() ? name : std::string(" ") + name;
    }
  }
  return notable;
}

unsigned AllowedCores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
    return std::thread::hardware_concurrency();
  return static_cast<unsigned>(CPU_COUNT(&allowed));
}

}  // namespace

std::string DeviceLine() {
  std::string name = CpuField("model name");
  if (name.empty()) name = CpuField("Hardware");
  if (name.empty()) name = "unknown processor";
  const unsigned cores = AllowedCores();
  std::string line = name + ", " + std::to_string(cores) + (cores == 1 ? " core" : " cores");
  const std::string features = NotableFeatures();
  if (!features.empty()) line += ", " + features;
  return line;
}

}  // namespace headroom::cli
