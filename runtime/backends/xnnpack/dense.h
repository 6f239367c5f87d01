// Dense layers through XNNPACK operators, with packed weights in a mapped cache file.
//
// out[T, N] = x[T, K] * weight[N, K]^T + bias. Integer weights take activations quantised per row to
// asymmetric int8 ("qd8"); f16 weights take f16 activations where the CPU has them, else f32.
// Nothing after Create allocates; Run is called from one thread at a time and uses the pool inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/log.h"
#include "base/status.h"
#include "tensor/tensor_view.h"

struct pthreadpool;
struct xnn_operator;

namespace headroom::xnnpack {

// The one thread pool, shared by XNNPACK and our own kernels.
class ThreadPool {
 public:
  static Result<std::unique_ptr<ThreadPool>> Create(uint32_t threads);
  ~ThreadPool();
  uint32_t threads() const;
  // Runs task(context, i) for i in [0, count) on all threads and waits. No allocation.
  void ParallelFor(uint32_t count, void (*task)(void* context, size_t index), void* context);
  // As above, and passes the worker's number in [0, threads()) for per-worker scratch.
  void ParallelForWorker(uint32_t count, void (*task)(void* context, size_t worker, size_t index),
                         void* context);
  pthreadpool* handle() const { return pool_; }

 private:
  pthreadpool* pool_ = nullptr;
};

// Rows [row_begin, row_begin + rows) of a weight matrix, as one dense layer.
struct DenseWeights {
  TensorView weight;
  uint32_t row_begin = 0;
  uint32_t rows = 0;            // N
  const float* bias = nullptr;  // f32 [N] or null
};

// What a dense layer eats. Layers with equal kind and K may share one converted input.
enum class InputKind : uint8_t { kF32, kF16, kQd8 };

// Packed weights of one model: a file mapped read-only when a cache directory is given, otherwise
// private memory from the arena lender.
struct PackedFacts {
  uint64_t bytes = 0;          // total packed
  bool mapped = false;         // clean file pages rather than private memory
  bool built = false;          // packed now (cold) rather than found (warm)
};

struct DenseOptions {
  std::string cache_directory;  // empty: no file
  uint64_t model_digest = 0;
  AllocatorHooks hooks;
  Log log;
  bool (*progress)(void* user_data, float fraction) = nullptr;  // false cancels
  void* progress_user_data = nullptr;
};

// All dense layers of a model, created together so that the cache file is written once.
class DenseSet {
 public:
  // Exact packed size of each layer on this CPU, without packing anything or touching weight pages.
  // Errors: kUnsupported (shape or type this backend cannot take, by name).
  static Result<std::vector<uint64_t>> PackedBytes(std::span<const DenseWeights> layers);
  static Result<InputKind> InputKindOf(const DenseWeights& layer);

  // Finds or builds the packed weights and creates one operator per layer. A damaged, foreign or
  // truncated cache file is rebuilt; an unwritable directory falls back to private memory with a log
  // line. While packing, source and destination pages are released layer by layer.
  static Result<std::unique_ptr<DenseSet>> Create(std::span<const DenseWeights> layers,
                                                  const DenseOptions& options);
  ~DenseSet();

  const PackedFacts& packed() const;
  InputKind input_kind(size_t layer) const;

  // Scratch bytes of a converted input of `rows` rows of `columns` values (64-byte aligned).
  static uint64_t InputBytes(InputKind kind, uint32_t rows, uint32_t columns);

  // x f32 [rows, columns] contiguous -> input. kF32 needs no conversion: pass x itself to Run.
  void ConvertInput(InputKind kind, const float* x, uint32_t rows, uint32_t columns,
                    std::byte* input, ThreadPool& pool);
  // out f32 [rows, N] contiguous. `input` as ConvertInput left it (or x for kF32).
  Status Run(size_t layer, const std::byte* input, uint32_t rows, float* out, ThreadPool& pool);

 private:
  DenseSet();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headroom::xnnpack
