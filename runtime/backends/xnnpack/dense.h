// Dense layers through XNNPACK operators, with packed weights in a mapped cache file.
//
// out[T, N] = x[T, K] * weight[N, K]^T + bias. Integer weights take activations quantised per row
// to asymmetric int8 ("qd8"); f32, f16 and int8 weights in blocks take f32 activations.
//
// f16 weights and int8 weights in blocks are multiplied where they lie in the model file, by a
// Highway kernel that accumulates in f32 (dense_in_place.h says why). They have no packed copy, so
// what TensorView points to must stay mapped for the life of the DenseSet; every other layer reads
// its source only inside Create.
//
// Nothing after Create allocates. ConvertInput and Run may be called from several threads at once,
// each with a pool of its own (sessions of one model do); calls of the same layer take turns.
// Layers in parts have no operator of their own: all of one shape share a few, which are pointed at
// a part's packed weights when it runs, so that thousands of experts cost no more than one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/xnnpack/convolution.h"
#include "base/arena.h"
#include "base/log.h"
#include "base/platform.h"
#include "base/status.h"
#include "tensor/tensor_view.h"

struct pthreadpool;

namespace headroom::xnnpack {

// The one thread pool, shared by XNNPACK and our own kernels. The calling thread is worker 0.
// Between two calls of one step the workers spin, because waking them costs more than a small
// matrix; they fall asleep by themselves after some milliseconds, or at once by Rest. One call at a
// time.
class ThreadPool {
 public:
  // threads >= 1; with 1 there are no workers and everything runs on the caller.
  static Result<std::unique_ptr<ThreadPool>> Create(uint32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  uint32_t threads() const { return threads_; }
  // Runs task(context, i) for i in [0, count) on all threads and waits. No allocation.
  void ParallelFor(uint32_t count, void (*task)(void* context, size_t index), void* context);
  // As above, and passes the worker's number in [0, threads()) for per-worker scratch.
  void ParallelForWorker(uint32_t count, void (*task)(void* context, size_t worker, size_t index),
                         void* context);
  // Sends the workers to sleep. Call it when the app gets control back, so that idle threads do not
  // burn a battery; the next call wakes them (tens of microseconds).
  void Rest();
  // The same for work of so many multiply-adds, on the caller alone where that is little; numbers
  // too small for f32's full precision count as 0, because states that decay are full of them and
  // many CPUs take a hundred times as long over them.
  void ParallelForFlushed(uint32_t count, uint64_t operations,
                          void (*task)(void* context, size_t worker, size_t index), void* context);
  // For XNNPACK; null with one thread.
  pthreadpool* handle() const { return pool_; }
  // Null, too, for work that one thread has done before a second one could have joined in. A tiny
  // model on a busy machine would otherwise spend its time waiting for its own workers.
  pthreadpool* HandleFor(uint64_t operations) const {
    return operations < kWorthSharing ? nullptr : pool_;
  }
  static constexpr uint64_t kWorthSharing = 512 * 1024;  // multiply-adds, some 10 us of one core

 private:
  explicit ThreadPool(uint32_t threads) : threads_(threads) {}
  pthreadpool* pool_ = nullptr;
  uint32_t threads_;
  platform::ReservedThreads reserved_;  // outlives the pool, which runs on them
};

// Rows [row_begin, row_begin + rows) of a weight matrix, as one dense layer; or `parts` such layers
// whose rows follow one another (the experts of a mixture), one of which is used at a time.
struct DenseWeights {
  TensorView weight;
  uint32_t row_begin = 0;
  uint32_t rows = 0;            // N, of one part
  const float* bias = nullptr;  // f32 [parts * N] or null
  uint32_t parts = 1;
  uint32_t at_once = 1;  // parts that threads of one session run side by side
  // A convolution of pictures in place of a dense layer: its weights are packed and kept with all
  // others, and run by Convolution. Borrowed while layers are described.
  const ConvolutionSpec* convolution = nullptr;
};

// What a dense layer eats. Layers with equal kind and K may share one converted input.
enum class InputKind : uint8_t { kF32, kQd8 };

// Packed weights of one model: a file mapped read-only when a cache directory is given, otherwise
// private memory from the arena lender.
struct PackedFacts {
  uint64_t bytes = 0;          // sum of PackedBytes
  uint64_t mapped_bytes = 0;   // clean file pages: bytes plus the file's index; 0 when private
  uint64_t private_bytes = 0;  // arena; 0 when mapped
  bool mapped = false;         // clean file pages rather than private memory
  bool built = false;          // packed now (cold) rather than found (warm)
};

struct DenseOptions {
  std::string cache_directory;  // empty: no file
  uint64_t model_digest = 0;
  // The weights lie in a read-only file mapping, so their pages may be dropped once packed. Leave
  // false for weights in ordinary memory: dropping those would erase them.
  bool release_source = false;
  // Check the checksum of every packed byte of a found file (it reads the file once, at memory
  // speed, which the first step would have done anyway). Without it only the index and the file's
  // length are checked, and a flipped weight goes unnoticed.
  bool verify_content = true;
  // Asked once before a cache file is made, so that damaged weights never get into one that an
  // undamaged model of the same digest would find. Its error is Create's. Null: not asked.
  Status (*check_source)(void* context) = nullptr;
  void* check_source_context = nullptr;
  AllocatorHooks hooks;
  Log log;
  bool (*progress)(void* user_data, float fraction) = nullptr;  // false cancels
  void* progress_user_data = nullptr;
  // Asked before `bytes` of packed weights go to private memory because the cache directory cannot
  // be used; a failure ends Create with it before anything was taken. Null: they may.
  Status (*allow_private)(void* user_data, uint64_t bytes) = nullptr;
  void* allow_private_user_data = nullptr;
};

// All dense layers of a model, created together so that the cache file is written once.
class DenseSet {
 public:
  // While packing into a file, at most about this much of it is dirty at a time (or 128 rows of a
  // layer, where those are larger).
  static constexpr uint64_t kPackChunkBytes = uint64_t{4} << 20;
  // XNNPACK reads (never writes) this far past the end of an input, so x must lie in memory that is
  // readable that far: size buffers with InputBytes, also for kF32.
  static constexpr uint64_t kSpareInputBytes = 64;

  // Exact packed size of each layer, all its parts together, on this CPU, each a multiple of 64,
  // without packing anything or touching weight pages. 0: the layer reads the model's own pages
  // and has no packed copy. Errors: kUnsupported (shape or type this backend cannot take, by
  // name).
  static Result<std::vector<uint64_t>> PackedBytes(std::span<const DenseWeights> layers);
  // Bytes that Create maps for a cache file holding these layers: their sum and the file's index.
  static uint64_t CacheFileBytes(std::span<const uint64_t> packed_bytes);
  static Result<InputKind> InputKindOf(const DenseWeights& layer);
  // Whether a convolution has an XNNPACK operator, which keeps pointers to pixels.
  static Result<bool> KeepsPointers(const DenseWeights& layer);

  // Finds or builds the packed weights and creates one operator per layer. A damaged, foreign or
  // truncated cache file is rebuilt; an unwritable directory falls back to private memory, if that
  // is allowed, with a log line. While packing, source and destination pages are released piece by
  // piece. Errors: kUnsupported as PackedBytes; kCorrupt (a scale that is not a normal
  // number, or negative and of a whole row); kCancelled (progress said no; no file is left behind);
  // kOutOfMemory; what allow_private says.
  static Result<std::unique_ptr<DenseSet>> Create(std::span<const DenseWeights> layers,
                                                  const DenseOptions& options);
  ~DenseSet();

  const PackedFacts& packed() const;
  InputKind input_kind(size_t layer) const;
  // The layer reads the model's own pages at every step, having no packed copy.
  bool in_place(size_t layer) const;

  // Packed weights of a layer; null: it has none.
  const std::byte* packed_weights(size_t layer) const;

  // Scratch bytes of a converted input of `rows` rows of `columns` values (64-byte aligned). For
  // kF32: the bytes x itself needs, spare bytes included.
  static uint64_t InputBytes(InputKind kind, uint32_t rows, uint32_t columns);

  // x f32 [rows, columns] contiguous -> input. kF32 needs no conversion (does nothing): pass x
  // itself to Run. `input` is 64-byte aligned and holds InputBytes(kind, rows, columns).
  void ConvertInput(InputKind kind, const float* x, uint32_t rows, uint32_t columns,
                    std::byte* input, ThreadPool& pool);
  // Rows which[0, count) of `input`, converted from `rows` rows, as an input of `count` rows: `out`
  // holds InputBytes(kind, count, columns). The kinds are those of ConvertInput and kF32.
  static void GatherInput(InputKind kind, const std::byte* input, uint32_t rows, uint32_t columns,
                          const uint32_t* which, uint32_t count, std::byte* out);
  // out f32 [rows, N] contiguous, not overlapping the input. `input` as ConvertInput left it for
  // this number of rows (or x for kF32).
  Status Run(size_t layer, const std::byte* input, uint32_t rows, float* out, ThreadPool& pool) {
    return RunPart(layer, 0, input, rows, out, pool);
  }
  Status RunPart(size_t layer, uint32_t part, const std::byte* input, uint32_t rows, float* out,
                 ThreadPool& pool);

 private:
  DenseSet();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headroom::xnnpack
