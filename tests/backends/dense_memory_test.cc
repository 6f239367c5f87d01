// What dense layers cost the process, by the kernel's own accounting, and that a step takes no
// memory.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <filesystem>

#include "base/platform.h"
#include "support/dense_tester.h"
#include "support/resident.h"

// Every way to the heap, counted. glibc lets a program define these and keeps its own under other
// names.
namespace {
std::atomic<long> heap_calls{0};
}
#pragma GCC visibility push(default)  // or the C++ library would not see them
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t bytes) { return ++heap_calls, __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) { return ++heap_calls, __libc_calloc(count, bytes); }
void* realloc(void* old, size_t bytes) { return ++heap_calls, __libc_realloc(old, bytes); }
void* memalign(size_t alignment, size_t bytes) {
  return ++heap_calls, __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  *out = memalign(alignment, bytes);
  return *out == nullptr ? ENOMEM : 0;
}
}
#pragma GCC visibility pop

namespace headroom::test {
namespace {

namespace fs = std::filesystem;
using xnnpack::DenseOptions;
using xnnpack::DenseSet;

TEST_CASE("a step of dense layers makes no heap call", "[dense][memory]") {
  std::vector<DenseData> data;
  data.emplace_back(DenseCase{DType::kF32, 0, 200, 256, 0, 200, 1, true});
  data.emplace_back(DenseCase{DType::kF16, 0, 200, 256, 0, 200, 1, true});
  data.emplace_back(DenseCase{DType::kI8, 0, 200, 256, 0, 200, 1, true});
  data.emplace_back(DenseCase{DType::kI4, 0, 200, 256, 0, 200, 1, true});
  data.emplace_back(DenseCase{DType::kI4, 32, 200, 256, 0, 200, 1, true});
  std::vector<DenseWeights> layers;
  for (const DenseData& d : data) layers.push_back(d.Layer());
  auto set = DenseSet::Create(layers, {}).Take();
  constexpr uint32_t kMost = 64;
  GuardedMemory x(DenseSet::InputBytes(xnnpack::InputKind::kF32, kMost, 256), 64);
  GuardedMemory input(DenseSet::InputBytes(xnnpack::InputKind::kQd8, kMost, 256), 64);
  std::vector<float> out(kMost * 200);
  for (const uint32_t threads : {1u, 2u}) {
    auto pool = xnnpack::ThreadPool::Create(threads).Take();
    const long before = heap_calls;
    bool good = true;
    for (const uint32_t tokens : {1u, kMost, 1u, 17u, 1u}) {
      set->ConvertInput(xnnpack::InputKind::kQd8, x.as<float>(), tokens, 256, input.data(), *pool);
      for (size_t i = 0; i < layers.size(); ++i) {
        const bool direct = set->input_kind(i) == xnnpack::InputKind::kF32;
        good &= set->Run(i, direct ? x.data() : input.data(), tokens, out.data(), *pool).ok();
      }
      pool->ParallelFor(
          8, [](void*, size_t) {}, nullptr);
      pool->Rest();
    }
    const long calls = heap_calls - before;
    CHECK(good);
    CHECK(calls == 0);
  }
  const long before = heap_calls;
  void* volatile block = std::malloc(100);  // the counter counts, ours and the C++ library's
  std::free(block);
  auto* volatile text = new std::string(100, 'x');
  delete text;
  CHECK(heap_calls - before == 3);
}

// A model file of int8 rows, mapped as a model would be.
class MappedModel {
 public:
  static constexpr uint32_t kLayers = 8, kRows = 2048, kColumns = 2048;

  explicit MappedModel(const fs::path& path) {
    const size_t layer_bytes = size_t{kRows} * kColumns;
    const int fd = open(path.c_str(), O_RDWR | O_CREAT, 0600);
    std::vector<uint8_t> bytes(layer_bytes);
    for (uint32_t i = 0; i < kLayers; ++i) {
      for (size_t k = 0; k < bytes.size(); ++k)
        bytes[k] = static_cast<uint8_t>(k * 31 + i + (k >> 9));
      REQUIRE(write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    }
    // In the file too: releasing the source drops the scales' pages as well.
    const std::vector<float> scales(kRows, 0.01f);
    REQUIRE(write(fd, scales.data(), kRows * 4) == kRows * 4);
    fsync(fd);
    mapping_ = platform::FileMapping::OpenFd(fd, 0, 0).Take();
    close(fd);
    for (uint32_t i = 0; i < kLayers; ++i) {
      DenseWeights layer;
      layer.weight.name = "weights";
      layer.weight.dtype = DType::kI8;
      layer.weight.rank = 2;
      layer.weight.extents = {kRows, kColumns, 0, 0};
      layer.weight.data = mapping_.data() + i * layer_bytes;
      layer.weight.data_bytes = layer_bytes;
      layer.weight.scales = mapping_.data() + kLayers * layer_bytes;
      layer.weight.scale_bytes = kRows * 4;
      layer.rows = kRows;
      layers.push_back(layer);
    }
  }
  std::vector<DenseWeights> layers;

 private:
  platform::FileMapping mapping_;
};

struct Watch {
  uint64_t before = 0, peak = 0;
  const MappedModel* model = nullptr;
  uint64_t peak_source = 0;
};

bool Sample(void* user_data, float) {
  auto* watch = static_cast<Watch*>(user_data);
  const uint64_t dirty = platform::ReadProcessMemory().private_dirty_bytes;
  if (dirty > watch->before) watch->peak = std::max(watch->peak, dirty - watch->before);
  const uint64_t source =
      ResidentBytes(watch->model->layers[0].weight.data,
                    uint64_t{MappedModel::kLayers} * watch->model->layers[0].weight.data_bytes);
  watch->peak_source = std::max(watch->peak_source, source);
  return true;
}

std::string Message(const Result<std::unique_ptr<DenseSet>>& set) {
  return set.ok() ? "" : set.status().message();
}

TEST_CASE("a cold start dirties a few pieces, a warm start next to nothing", "[dense][memory]") {
  char name[] = "/tmp/headroom-dense-memory-XXXXXX";
  const fs::path folder = mkdtemp(name);
  {
    const MappedModel model(folder / "model");
    const uint64_t packed =
        MappedModel::kLayers * uint64_t{MappedModel::kRows} * MappedModel::kColumns;
    DenseOptions options;
    options.cache_directory = folder / "cache";
    options.release_source = true;
    options.progress = Sample;
    Watch watch;
    watch.model = &model;
    options.progress_user_data = &watch;
    // Once before, so that what any first call costs (libraries, XNNPACK's tables) is not counted.
    DenseSet::Create(std::span(model.layers).first(1), {}).Take().reset();

    watch.before = platform::ReadProcessMemory().private_dirty_bytes;
    auto cold = DenseSet::Create(model.layers, options);
    REQUIRE(Message(cold) == "");
    CHECK(cold.value()->packed().built);
    CHECK(watch.peak <= 2 * DenseSet::kPackChunkBytes);
    CHECK(watch.peak_source <= 3 * DenseSet::kPackChunkBytes);
    cold.value().reset();

    watch.before = platform::ReadProcessMemory().private_dirty_bytes;
    watch.peak = 0;
    auto warm = DenseSet::Create(model.layers, options);
    REQUIRE(Message(warm) == "");
    CHECK(!warm.value()->packed().built);
    CHECK(warm.value()->packed().bytes >= packed);
    const uint64_t after = platform::ReadProcessMemory().private_dirty_bytes;
    CHECK(after < watch.before + 512 * 1024);
    CHECK(watch.peak < 512 * 1024);
    warm.value().reset();

    // Private memory is what it says: the test can see dirty pages when there are some.
    watch.before = platform::ReadProcessMemory().private_dirty_bytes;
    auto in_memory = DenseSet::Create(model.layers, {});
    REQUIRE(Message(in_memory) == "");
    CHECK(platform::ReadProcessMemory().private_dirty_bytes > watch.before + packed * 9 / 10);
  }
  fs::remove_all(folder);
}

TEST_CASE("a system that refuses a thread is an error, not a wait", "[pool]") {
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit = {};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = platform::ReadProcessMemory().resident_bytes + (uint64_t{64} << 20);
    setrlimit(RLIMIT_AS, &limit);
    const auto pool = xnnpack::ThreadPool::Create(1000);
    _exit(pool.status().code() == StatusCode::kOutOfMemory ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace
}  // namespace headroom::test
