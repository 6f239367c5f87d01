// Speed of dense layers and of loading them.
//
//   dense_bench [threads ...]       GB/s of weights at 1 row, GFLOP/s at 128 and 512 rows, for each
//   type dense_bench load FOLDER         cold and warm start of 64 layers of 2048 x 8192 in int4
//   blocks of 32
//
// One row rotates over at least 256 MB of distinct layers, so that weights come from memory. Best
// of several rounds; one thread is timed by its processor time, so that a neighbour who takes the
// core does not count (he still counts in the caches and for two threads).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "backends/xnnpack/dense.h"
#include "base/half.h"
#include "base/platform.h"

namespace headroom {
namespace {

using xnnpack::DenseOptions;
using xnnpack::DenseSet;
using xnnpack::DenseWeights;

template <typename T>
T OrExit(Result<T> result) {
  if (result.ok()) return result.Take();
  std::fprintf(stderr, "dense_bench: %s\n", result.status().message());
  std::exit(1);
}

struct Format {
  const char* name;
  DType dtype;
  uint16_t block;
};
constexpr Format kFormats[] = {{"f32", DType::kF32, 0},     {"f16", DType::kF16, 0},
                               {"int8", DType::kI8, 0},     {"int8/32", DType::kI8, 32},
                               {"int4", DType::kI4, 0},     {"int4/32", DType::kI4, 32},
                               {"int4/64", DType::kI4, 64}, {"int4/128", DType::kI4, 128}};

uint64_t WeightBytes(const Format& f, uint32_t rows, uint32_t columns) {
  return uint64_t{rows} * columns * DTypeBits(f.dtype) / 8;
}

uint64_t ScaleBytes(const Format& f, uint32_t rows, uint32_t columns) {
  if (f.block != 0) return uint64_t{rows} * columns / f.block * 2;
  return f.dtype == DType::kI8 || f.dtype == DType::kI4 ? uint64_t{rows} * 4 : 0;
}

// Any finite weights do; scales must be normal.
void Fill(const Format& f, std::byte* weights, uint64_t weight_bytes, std::byte* scales,
          uint64_t scale_bytes) {
  uint32_t state = 1;
  for (uint64_t i = 0; i + 4 <= weight_bytes; i += 4) {
    state = state * 1664525u + 1013904223u;
    float value = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-33f;
    uint32_t bits = state;
    if (f.dtype == DType::kF32) std::memcpy(&bits, &value, 4);
    if (f.dtype == DType::kF16) bits = FloatToHalf(value) * 0x10001u;
    std::memcpy(weights + i, &bits, 4);
  }
  for (uint64_t i = 0; i + 2 <= scale_bytes; i += 2) {
    const uint16_t scale = 0x3c00;  // 0.0078 in bf16, in f32 as a pair; 1 in f16
    std::memcpy(scales + i, &scale, 2);
  }
}

DenseWeights Layer(const Format& f, uint32_t rows, uint32_t columns, const std::byte* weights,
                   const std::byte* scales) {
  DenseWeights layer;
  layer.weight.name = f.name;
  layer.weight.dtype = f.dtype;
  layer.weight.rank = 2;
  layer.weight.block = f.block;
  layer.weight.extents = {rows, columns, 0, 0};
  layer.weight.data = weights;
  layer.weight.data_bytes = WeightBytes(f, rows, columns);
  layer.weight.scales = scales;
  layer.weight.scale_bytes = ScaleBytes(f, rows, columns);
  layer.rows = rows;
  return layer;
}

// Processor time of this thread, or wall time where other threads take part.
double Seconds(bool alone) {
  timespec now;
  clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Best seconds for one run of `tokens` rows, rotating over all layers.
double BestSeconds(DenseSet& set, size_t layers, uint32_t rows, uint32_t columns, uint32_t tokens,
                   xnnpack::ThreadPool& pool) {
  const auto kind = set.input_kind(0);
  std::vector<std::byte> memory(DenseSet::InputBytes(xnnpack::InputKind::kF32, tokens, columns) +
                                DenseSet::InputBytes(kind, tokens, columns) + 128);
  auto* x =
      reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
  for (uint32_t i = 0; i < tokens * columns; ++i) x[i] = static_cast<float>(i % 17) - 8.0f;
  auto* input = reinterpret_cast<std::byte*>(x) +
                DenseSet::InputBytes(xnnpack::InputKind::kF32, tokens, columns);
  set.ConvertInput(kind, x, tokens, columns, input, pool);
  if (kind == xnnpack::InputKind::kF32) input = reinterpret_cast<std::byte*>(x);
  std::vector<float> out(size_t{tokens} * rows);
  const bool alone = pool.threads() == 1;
  double best = 1e9;
  const double begin = Seconds(alone);
  for (int round = 0; round < 40 && (round < 3 || Seconds(alone) - begin < 1); ++round) {
    const size_t runs = tokens == 1 ? layers : 1;
    const double start = Seconds(alone);
    for (size_t i = 0; i < runs; ++i) {
      if (!set.Run((round + i) % layers, input, tokens, out.data(), pool).ok()) std::exit(1);
    }
    best = std::min(best, (Seconds(alone) - start) / static_cast<double>(runs));
  }
  return best;
}

void Speed(const std::vector<uint32_t>& thread_counts) {
  std::printf("%s\n%-10s %5s %6s %6s %12s %14s %14s\n", platform::DeviceDescription().c_str(),
              "type", "N", "K", "thr", "1 row GB/s", "128 GFLOP/s", "512 GFLOP/s");
  for (const Format& f : kFormats) {
    const uint32_t rows = 2048, columns = 2048;
    const uint64_t bytes = WeightBytes(f, rows, columns) + ScaleBytes(f, rows, columns);
    const size_t layers = (uint64_t{256} << 20) / bytes + 1;
    std::vector<std::byte> weights(WeightBytes(f, rows, columns)),
        scales(ScaleBytes(f, rows, columns));
    Fill(f, weights.data(), weights.size(), scales.data(), scales.size());
    // f16 is multiplied where it lies, so each layer needs its own copy for the rotation to mean
    // anything.
    std::vector<std::vector<std::byte>> copies(f.dtype == DType::kF16 ? layers : 0, weights);
    std::vector<DenseWeights> all(layers, Layer(f, rows, columns, weights.data(), scales.data()));
    for (size_t i = 0; i < copies.size(); ++i) all[i].weight.data = copies[i].data();
    auto set = OrExit(DenseSet::Create(all, {}));
    for (const uint32_t threads : thread_counts) {
      auto pool = OrExit(xnnpack::ThreadPool::Create(threads));
      const double one = BestSeconds(*set, layers, rows, columns, 1, *pool);
      const double many = BestSeconds(*set, layers, rows, columns, 128, *pool);
      const double most = BestSeconds(*set, layers, rows, columns, 512, *pool);
      const double flop = 2.0 * rows * columns;
      std::printf("%-10s %5u %6u %6u %12.1f %14.0f %14.0f\n", f.name, rows, columns, threads,
                  static_cast<double>(bytes) / one * 1e-9, flop * 128 / many * 1e-9,
                  flop * 512 / most * 1e-9);
      std::fflush(stdout);
    }
  }
}

void Report(const char* what, double wall, double busy, const platform::ProcessMemory& before) {
  const platform::ProcessMemory now = platform::ReadProcessMemory();
  std::printf(
      "%-26s %8.1f ms (%7.1f busy)   private dirty %+8.2f MB   resident %+8.2f MB\n", what,
      (Seconds(false) - wall) * 1e3, (Seconds(true) - busy) * 1e3,
      (static_cast<double>(now.private_dirty_bytes) -
       static_cast<double>(before.private_dirty_bytes)) /
          1e6,
      (static_cast<double>(now.resident_bytes) - static_cast<double>(before.resident_bytes)) / 1e6);
}

void Load(const std::string& folder) {
  constexpr Format kFormat = kFormats[4];
  constexpr uint32_t kLayers = 64, kRows = 2048, kColumns = 8192;
  const uint64_t weight_bytes = WeightBytes(kFormat, kRows, kColumns);
  const uint64_t scale_bytes = ScaleBytes(kFormat, kRows, kColumns);
  std::filesystem::create_directories(folder);
  const std::string model = folder + "/dense_bench.model";
  {
    auto file = OrExit(
        platform::FileBuilder::Create(model.c_str(), kLayers * (weight_bytes + scale_bytes)));
    for (uint32_t i = 0; i < kLayers; ++i) {
      std::byte* at = file.data() + i * (weight_bytes + scale_bytes);
      Fill(kFormat, at, weight_bytes, at + weight_bytes, scale_bytes);
    }
    if (!file.Commit().ok()) std::exit(1);
  }
  const auto mapping = OrExit(platform::FileMapping::OpenPath(model.c_str()));
  std::vector<DenseWeights> layers;
  for (uint32_t i = 0; i < kLayers; ++i) {
    const std::byte* at = mapping.data() + i * (weight_bytes + scale_bytes);
    layers.push_back(Layer(kFormat, kRows, kColumns, at, at + weight_bytes));
  }
  DenseOptions options;
  options.cache_directory = folder + "/dense_bench.cache";
  options.release_source = true;
  std::filesystem::remove_all(options.cache_directory);
  const auto start = [&](const char* what) {
    const platform::ProcessMemory before = platform::ReadProcessMemory();
    const double wall = Seconds(false), busy = Seconds(true);
    auto set = OrExit(DenseSet::Create(layers, options));
    Report(what, wall, busy, before);
    return set;
  };
  std::printf("%u layers of %u x %u in %s: %.1f MB of weights\n", kLayers, kRows, kColumns,
              kFormat.name, kLayers * static_cast<double>(weight_bytes + scale_bytes) / 1e6);
  auto set = start("cold, packed into a file");
  std::printf("packed %.1f MB\n", static_cast<double>(set->packed().bytes) / 1e6);
  set.reset();
  start("warm, content checked");
  options.verify_content = false;
  start("warm, index checked");
  options.cache_directory.clear();
  start("no file: private memory");
  std::filesystem::remove(model);
  std::filesystem::remove_all(folder + "/dense_bench.cache");
}

}  // namespace
}  // namespace headroom

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "load") == 0) {
    headroom::Load(argv[2]);
    return 0;
  }
  std::vector<uint32_t> threads;
  for (int i = 1; i < argc; ++i) threads.push_back(static_cast<uint32_t>(std::atoi(argv[i])));
  if (threads.empty()) threads = {1, 2};
  headroom::Speed(threads);
  return 0;
}
