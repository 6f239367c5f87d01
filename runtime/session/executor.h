// The step loop: a plan's steps bound to memory and kernels once, then run for every chunk.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backends/xnnpack/dense.h"
#include "backends/xnnpack/kernels.h"
#include "base/math.h"
#include "model/model.h"
#include "ops/mixture.h"
#include "plan/experts.h"
#include "plan/head_dense.h"
#include "plan/linear.h"
#include "plan/lower.h"
#include "plan/solve.h"
#include "store/kv_store.h"
#include "store/state_store.h"

namespace headroom::session {

// Sees the input of each dense layer before it runs: x f32 [rows, columns], and the tensor it
// meets; and what attention makes of a token, see headroom.h.
struct InputObserver {
  void (*call)(void* user_data, const char* tensor, size_t tensor_bytes, const float* x,
               size_t rows, size_t columns) = nullptr;  // null: nobody looks
  void* user_data = nullptr;
};

// Everything is borrowed and outlives the executor.
struct Bindings {
  const model::Model* model = nullptr;
  const plan::Lowered* lowered = nullptr;
  const plan::Plan* plan = nullptr;
  const plan::BackendFacts* facts = nullptr;  // may go once the executor is made
  xnnpack::DenseSet* dense = nullptr;
  xnnpack::ThreadPool* pool = nullptr;
  xnnpack::ThreadPool* serial = nullptr;  // of one thread, for work inside a task of `pool`
  const xnnpack::Kernels* kernels = nullptr;
  store::KvStore* store = nullptr;
  store::StateStore* states = nullptr;
  std::byte* arena = nullptr;  // the activation arena of the plan
  const std::atomic<bool>* cancel = nullptr;
  const InputObserver* observer = nullptr;
  bool release_embeddings = false;  // their pages are a file's and may be dropped
};

// Not thread-safe. No call allocates.
class Executor {
 public:
  explicit Executor(const Bindings& bindings);

  // Runs tokens[0, count) at positions [position, position + count), count <= chunk, up to the last
  // append. kCancelled when the flag was raised between two steps; the stores then hold the chunk
  // only in part; with recurrent state a chunk of one row is cancelled before its first step or not
  // at all. A chunk of one row, and its tail until that is past being cancelled, leave the
  // logits of the chunk before alone (PlaceBuffers).
  Status RunChunk(const int32_t* tokens, uint32_t count, uint32_t position);
  // Logits of row `row` of the chunk that RunChunk has just run; see logits().
  Status RunTail(uint32_t row);
  const float* logits() const;

 private:
  // One step with everything looked up.
  struct BoundStep {
    Status (Executor::*run)(const BoundStep& step);
    const plan::Step* step = nullptr;
    float* inputs[model::kMostInputs] = {};
    uint32_t input_widths[model::kMostInputs] = {};
    bool input_is_tail[model::kMostInputs] = {};
    float* output = nullptr;
    uint32_t width = 0;  // of the output
    // kNorm
    ops::NormKernel norm = nullptr;
    const float* norm_weight = nullptr;
    const float* norm_bias = nullptr;
    float epsilon = 0.0f;
    uint32_t groups = 1;
    bool shared = false;
    // kMultiplyAdd: vectors in place of inputs, or null. kConvolve: weight and bias.
    const float* factors = nullptr;
    const float* addends = nullptr;
    float* state = nullptr;            // kConvolve, kLinearMix
    uint32_t taps = 0;                 // kConvolve
    uint32_t heads = 0;                // kHeadProduct
    size_t linear = 0;                 // kLinearMix: index into linears_
    ops::ScaleKernel unary = nullptr;  // kScale, kSoftcap
    ops::ActivationKernel activation = nullptr;
    bool gated = false;
    float factor = 1.0f;             // kEmbed, kScale, kSoftcap
    int32_t table = model::kNone;    // kEmbed
    bool by_position = false;        // kEmbed: the row is the token's position, not its id
    bool release = false;            // kEmbed: drop the table's pages from time to time
    mutable uint32_t looked_up = 0;  // kEmbed: rows since then
    size_t experts = 0;              // kExperts: index into experts_
    size_t head_dense = 0;           // kHeadDense: index into head_dense_
  };
  // The vectors [heads, width] of a chunk's tokens, and how they become what is compared or cached.
  struct BoundRows {
    const model::NormSpec* norm = nullptr;
    const model::RopeSpec* rope = nullptr;
    const float* angles = nullptr;  // cos and sin of the chunk's rows
    float* data = nullptr;          // null: there are none
    uint32_t stride = 0;            // floats
    uint32_t heads = 0, width = 0;
    const float* factors = nullptr;  // [width]: what a rotated vector is multiplied by; or null
    const float* basis = nullptr;    // [KV heads, width, width], or null: x becomes U^T x
    std::vector<uint16_t> basis_of = {};  // [heads]: the KV head whose basis it is
    float* row(uint32_t index) const { return data + uint64_t{index} * stride; }
  };
  // Vectors [heads, width] of a chunk's tokens as they are read: of row r and head h from
  // data + r * stride + h * head_stride on. One row of them stands for the tail's.
  struct BoundHeads {
    const float* data = nullptr;  // null: there are none
    uint32_t stride = 0, head_stride = 0, width = 0;
    bool is_tail = false;
  };
  // An attention layer with everything looked up.
  struct BoundAttention {
    const model::AttentionSpec* spec = nullptr;
    BoundRows query;
    BoundHeads parts[2];     // of queries: what meets the two parts of keys
    BoundHeads expanded[2];  // the same where the first part is made of a latent
    plan::ExpandScratch expand;
    BoundRows streams[plan::kStreams];
    const float* sink_logits = nullptr;
    std::vector<uint16_t> view_heads;  // query heads in order of their views
    std::vector<uint32_t> view_begin;  // [G + 1] into view_heads
    uint32_t largest_group = 1;        // query heads of the busiest view
  };
  // A matrix for each head with everything looked up.
  struct BoundHeadDense {
    BoundHeads input;
    size_t layer = 0;  // dense layer
    xnnpack::InputKind kind = xnnpack::InputKind::kF32;
    uint32_t heads = 0, group = 1;  // neighbouring heads of one block
    uint32_t rows = 0;              // of a block
    plan::HeadScratch chunk, token;
  };
  // A mixture of experts with everything looked up; for a whole chunk or for one token.
  struct BoundExperts {
    const model::MixtureSpec* spec = nullptr;
    ops::RouterSpec router;
    ops::ActivationKernel activation = nullptr;
    plan::ExpertScratch chunk, token;
    xnnpack::InputKind gate_up_kind, down_kind;
    size_t gate_up = 0, down = 0;  // dense layers
    uint32_t channels = 0;         // C
  };
  // Linear attention with everything looked up.
  struct BoundLinear {
    const model::LinearSpec* spec = nullptr;
    attention::LinearMixSpec mix;
    const float* log_decay = nullptr;  // of the file
    const float* bonus = nullptr;
    uint32_t blocks = 1, block = 0;  // a head's values in so many calls of so many
  };
  struct ExpertRun;
  struct MixTasks;
  struct QueryScratch;
  struct QueryRange;
  struct WorkerScratch;
  struct ExpandedHead;
  // Rows [begin, rows.rows) that queries meet at one of their two positions: their own, or the one
  // they have among the rows kept (LaneSpec::relative).
  struct MixPart {
    LaneView rows;
    uint32_t begin = 0;
    bool relative = false;
  };

  void Bind();
  void BindStep(const plan::Step& step, BoundStep* bound);
  void BindAttention(const plan::Step& step);
  void BindMix(const plan::Step& step);
  BoundHeads BindHeads(const plan::Slice& slice, uint32_t width) const;
  size_t BindExperts(const plan::Step& step);
  size_t BindHeadDense(const plan::Step& step);
  void BindConvolve(const plan::Step& step, BoundStep* bound);
  size_t BindLinear(const plan::Step& step);
  bool ReadByDense(int32_t tensor) const;
  float* BufferData(int32_t buffer) const;
  void ReleaseTable(const BoundStep& step, uint32_t rows);
  // Row 0 of input i as the running step sees it.
  const float* Input(const BoundStep& step, int i) const;
  void FillRopes();

  Status RunEmbed(const BoundStep& step);
  Status RunNorm(const BoundStep& step);
  Status RunDense(const BoundStep& step);
  Status RunAppend(const BoundStep& step);
  Status RunMix(const BoundStep& step);
  Status RunActivation(const BoundStep& step);
  Status RunAdd(const BoundStep& step);
  Status RunUnary(const BoundStep& step);
  Status RunMultiply(const BoundStep& step);
  Status RunExperts(const BoundStep& step);
  Status RunHeadDense(const BoundStep& step);
  Status RunMultiplyAdd(const BoundStep& step);
  Status RunHeadProduct(const BoundStep& step);
  Status RunConvolve(const BoundStep& step);
  Status RunLinearMix(const BoundStep& step);
  void ConvolveRow(const BoundStep& step, uint32_t row) const;
  void KeepRows(const BoundStep& step) const;
  attention::LinearMixCall CallOf(const BoundStep& step, uint32_t task) const;
  Status RunSteps(size_t begin, size_t end);
  // Vector of a head for row `row` of the step.
  const float* HeadOf(const BoundHeads& heads, uint32_t row, uint32_t head) const {
    const uint32_t at = row + (tail_ && !heads.is_tail ? row_ : 0);
    return heads.data + uint64_t{at} * heads.stride + uint64_t{head} * heads.head_stride;
  }
  Status RunHead(const BoundHeadDense& bound, std::byte* worker, uint32_t head, float* output);

  // Shows what is about to meet the weights of a dense layer to whoever looks.
  void Observe(size_t layer, const float* x, uint32_t rows, uint32_t columns) const;
  void ObserveAppended(const BoundAttention& layer, size_t index) const;
  // Input 0 as a dense layer of this kind takes it.
  const std::byte* Converted(const BoundStep& step, xnnpack::InputKind kind);
  void ChooseExperts(const ExpertRun& run, float* scores);
  Status RunExpertsSideBySide(const ExpertRun& run);
  Status RunChosenExpert(const ExpertRun& run, uint32_t slot, xnnpack::ThreadPool& pool);
  Status RunExpertsByTurns(const ExpertRun& run);
  Status RunExpertRows(const ExpertRun& run, uint32_t expert, uint32_t begin, uint32_t count);
  void ActivateExpert(const BoundExperts& experts, float* gate_up, float* inner, uint32_t rows);

  // The vectors of row `row` of the chunk, normed and rotated in place.
  float* PreparedRow(const BoundRows& rows, uint32_t row) const;
  // What a view's queries see: its lanes may come to keep less than the model would show.
  attention::MixSpec MixOf(const MixTasks& tasks, uint32_t view) const;
  const store::LaneSpec& LaneOf(const MixTasks& tasks, uint32_t view) const;
  // Numbers of a value that a view's lanes keep.
  uint32_t ValueWidthOf(const MixTasks& tasks, uint32_t view) const;
  void MergeHead(const MixTasks& tasks, uint32_t view, uint16_t head, const float* partials,
                 uint64_t stride, uint32_t count, float* out) const;
  Status Vote(size_t index);
  void VoteTask(const MixTasks& tasks, std::byte* worker, size_t view);
  static uint32_t FirstRowOf(const MixPart& part, const attention::MixSpec& mix, uint32_t first);
  static uint32_t SplitsOf(const MixPart* parts, uint32_t count, const attention::MixSpec& mix,
                           uint32_t position);
  uint32_t PartsOf(const MixTasks& tasks, uint32_t view, uint32_t tokens, MixPart* parts) const;
  static QueryRange AllHeads(const BoundAttention& layer, uint32_t view, uint32_t begin,
                             uint32_t end, bool relative);
  void GatherQueries(const MixTasks& tasks, const QueryRange& range,
                     const QueryScratch& scratch) const;
  void MixTile(const MixTasks& tasks, std::byte* worker, size_t index);
  void MixSplit(const MixTasks& tasks, std::byte* worker, size_t index);
  void MergeSplits(const MixTasks& tasks);
  Status RunMixTasks(const MixTasks& tasks, uint32_t count, uint64_t row_visits,
                     void (Executor::*task)(const MixTasks&, std::byte*, size_t));
  Status RunExpanded(const BoundStep& step, MixTasks* mix);
  Status ExpandHead(const plan::Step& step, const MixTasks& mix, std::byte* worker, uint32_t task);
  Status RunExpansion(const ExpandedHead& head, int32_t layer, uint32_t rows, float* out);
  Status MakeKeysAndValues(const ExpandedHead& head, const LaneView& rows, uint32_t begin,
                           uint32_t count);
  void MeetTile(const ExpandedHead& head, const LaneView& tile, bool relative);
  void ObserveExpanded(const plan::Step& step, const BoundAttention& layer) const;
  void AppendRow(const BoundAttention& layer, size_t index, uint32_t row);
  std::byte* WorkerScratchAt(size_t worker) const {
    return b_.arena + b_.plan->worker_region.offset + worker * b_.plan->worker_bytes;
  }

  // Calls body(begin, end) over [0, rows), on all threads when the work is worth it.
  template <typename Body>
  void ForRows(uint32_t rows, uint32_t width, const Body& body);
  // Calls body(worker's scratch, i) -> Status for i in [0, count), on all threads when so many
  // multiply-adds are worth waking them.
  template <typename Body>
  Status ForTasks(uint32_t count, uint64_t operations, const Body& body);

  // Below this many floats a second thread costs more than it saves.
  static constexpr uint32_t kParallelFloats = 16 * 1024;
  static constexpr uint32_t kRowBlock = 8;

  Bindings b_;
  std::vector<BoundStep> steps_;
  std::vector<BoundAttention> attentions_;
  std::vector<BoundExperts> experts_;
  std::vector<BoundHeadDense> head_dense_;
  std::vector<BoundLinear> linears_;
  std::vector<float*> rope_tables_;
  std::byte* input_scratch_ = nullptr;
  size_t logits_step_ = 0;  // the first that writes where the logits lie

  // The chunk being run.
  const int32_t* tokens_ = nullptr;
  uint32_t position_ = 0;  // of the chunk's first row
  uint32_t count_ = 0;     // rows in the chunk
  uint32_t rows_ = 0;      // rows the running step works on
  uint32_t row_ = 0;       // tail: which row of the chunk
  bool tail_ = false;
  const float* converted_ = nullptr;  // what input_scratch_ holds a converted form of
  xnnpack::InputKind converted_kind_ = xnnpack::InputKind::kF32;
};

template <typename Body>
void Executor::ForRows(uint32_t rows, uint32_t width, const Body& body) {
  if (uint64_t{rows} * width < kParallelFloats || b_.pool->threads() == 1) return body(0u, rows);
  struct Task {
    const Body* body;
    uint32_t rows;
  } task{&body, rows};
  b_.pool->ParallelFor(
      static_cast<uint32_t>(CeilDiv(rows, kRowBlock)),
      [](void* context, size_t block) {
        const Task& task = *static_cast<const Task*>(context);
        const uint32_t begin = static_cast<uint32_t>(block) * kRowBlock;
        (*task.body)(begin, std::min(begin + kRowBlock, task.rows));
      },
      &task);
}

template <typename Body>
Status Executor::ForTasks(uint32_t count, uint64_t operations, const Body& body) {
  if (b_.pool->HandleFor(operations) == nullptr) {
    for (uint32_t i = 0; i < count; ++i) HR_RETURN_IF_ERROR(body(WorkerScratchAt(0), i));
    return {};
  }
  struct Tasks {
    const Executor* self;
    const Body* body;
    std::atomic<bool> failed;
  } tasks{this, &body, false};
  b_.pool->ParallelForWorker(
      count,
      [](void* context, size_t worker, size_t index) {
        auto& tasks = *static_cast<Tasks*>(context);
        std::byte* scratch = tasks.self->WorkerScratchAt(worker);
        if (!(*tasks.body)(scratch, static_cast<uint32_t>(index)).ok()) tasks.failed = true;
      },
      &tasks);
  if (tasks.failed) return Status::Make(StatusCode::kInternal, "a task of a step could not be run");
  return {};
}

}  // namespace headroom::session
