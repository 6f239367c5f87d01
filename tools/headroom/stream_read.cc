#include "headroom/stream_read.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <thread>
#include <vector>

#include <sys/mman.h>

#include "headroom/process.h"

namespace headroom::cli {
namespace {

constexpr uint64_t kLargestBytes = uint64_t{512} << 20;
constexpr uint64_t kSmallestBytes = uint64_t{64} << 10;  // per thread
constexpr uint64_t kPassBytes = uint64_t{256} << 20;     // a pass reads at least this much in all
constexpr int kPasses = 7;

// Eight independent sums keep the loads apart; the compiler turns them into vectors.
uint64_t SumWords(const uint64_t* words, size_t count) {
  uint64_t sums[32] = {};
  for (size_t i = 0; i + 32 <= count; i += 32) {
    for (size_t j = 0; j < 32; ++j) sums[j] += words[i + j];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

}  // namespace

double MeasureStreamRead(uint64_t bytes, uint32_t threads) {
  threads = std::max(threads, 1u);
  const uint64_t share =
      std::clamp(bytes, kSmallestBytes * threads, kLargestBytes) / threads / 4096 * 4096;
  const uint64_t total = share * threads;
  void* memory = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 0;
  std::byte* buffer = static_cast<std::byte*>(memory);
  const uint64_t rounds = std::max<uint64_t>(1, kPassBytes / total);

  std::vector<uint64_t> times_ns(kPasses + 1);
  std::atomic<uint64_t> checksum{0};
  uint64_t start_ns = 0;
  std::barrier gate(static_cast<std::ptrdiff_t>(threads));
  const auto work = [&](uint32_t index) {
    uint64_t* words = reinterpret_cast<uint64_t*>(buffer + index * share);
    const size_t count = share / sizeof(uint64_t);
    std::fill(words, words + count, index + 1);  // real pages, not the shared zero page
    uint64_t sum = 0;
    for (int pass = 0; pass <= kPasses; ++pass) {
      gate.arrive_and_wait();
      if (index == 0) start_ns = NowNs();
      for (uint64_t round = 0; round < rounds; ++round) {
        sum += SumWords(words, count);
        std::atomic_signal_fence(std::memory_order_seq_cst);  // each round reads again
      }
      gate.arrive_and_wait();
      if (index == 0) times_ns[static_cast<size_t>(pass)] = NowNs() - start_ns;
    }
    checksum += sum;
  };
  std::vector<std::thread> helpers;
  for (uint32_t i = 1; i < threads; ++i) helpers.emplace_back(work, i);
  work(0);
  for (std::thread& helper : helpers) helper.join();
  munmap(memory, total);
  std::sort(times_ns.begin() + 1, times_ns.end());  // pass 0 warmed up
  const double seconds = static_cast<double>(times_ns[1 + kPasses / 2]) * 1e-9;
  // The checksum keeps the reads alive; it is never zero.
  return checksum == 0 || seconds <= 0 ? 0 : static_cast<double>(total * rounds) / seconds;
}

}  // namespace headroom::cli
