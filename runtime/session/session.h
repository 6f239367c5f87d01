// Session: one text in progress on one model, inside one plan.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "base/arena.h"
#include "base/status.h"
#include "session/engine.h"
#include "session/executor.h"

namespace headroom::session {

struct SessionStats {
  uint64_t prefill_tokens = 0, prefill_ns = 0;
  uint64_t decode_tokens = 0, decode_ns = 0;
  uint64_t load_ns = 0;
  bool weights_packed_now = false;
};

// The plan a session with these limits would get; allocates nothing of it.
Result<plan::Plan> PlanSession(Engine& engine, const plan::Limits& limits);

// Used by one thread at a time, except Cancel. After Create nothing allocates but Fork.
class Session {
 public:
  // Errors: kOverBudget with the bytes missing, kOutOfMemory, those of Engine::Dense.
  static Result<std::unique_ptr<Session>> Create(std::shared_ptr<Engine> engine,
                                                 const plan::Limits& limits);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Appends tokens. `all_logits`: null, or f32 [tokens, V] for the logits of every one.
  // Errors: kInvalidArgument, kContextFull (both: nothing appended), kCancelled (whole chunks
  // appended and no logits; a single token: nothing changed, logits included).
  Status Append(std::span<const int32_t> tokens, float* all_logits);

  // Logits f32 [V] of the last token; empty when there are none.
  std::span<const float> logits() const;
  uint32_t position() const { return position_; }
  std::span<const int32_t> tokens() const { return {tokens_, position_}; }
  std::span<std::byte> caller_scratch() const;
  const plan::Plan& plan() const { return plan_; }
  const SessionStats& stats() const { return stats_; }
  const Engine& engine() const { return *engine_; }
  const Arena& arena() const { return arena_; }
  void Cancel() { cancel_.store(true, std::memory_order_relaxed); }
  // A cancel that came while nothing ran has no effect: called when work begins.
  void ClearCancel() { cancel_.store(false, std::memory_order_relaxed); }
  // Null stops it. Neither forks nor saved states take it along.
  void Observe(InputObserver observer) { observer_ = observer; }
  bool cancelled() const { return cancel_.load(std::memory_order_relaxed); }
  // The app gets control back: idle workers go to sleep.
  void Rest() { pool_->Rest(); }

  // Errors: kInvalidArgument (past the end), kUnsupported (the cache no longer holds what that
  // position sees). With recurrent state: to any position; what lies between it and the checkpoint
  // before it is run again by the next Append.
  Status Rewind(uint32_t position);
  Result<std::unique_ptr<Session>> Fork() const;
  Status Save(const char* path) const;
  Status Restore(const char* path);
  // See hr_session_trim.
  Status Trim(uint64_t target_bytes, uint64_t* freed_bytes);

 private:
  Session() = default;
  static Result<std::unique_ptr<Session>> Allocate(std::shared_ptr<Engine> engine,
                                                   const plan::Limits& limits, plan::Plan plan);
  Status CheckTokens(std::span<const int32_t> tokens) const;
  Status AppendChunk(std::span<const int32_t> chunk, bool last, float* all_logits);
  Status RunAgain();
  void MakeCheckpoint(bool decodes);
  uint32_t HeldAt(uint32_t position) const;
  void Return(uint32_t from, uint32_t position);
  static store::RowRecoder Recoder();
  // Free between steps.
  std::span<std::byte> free_scratch() const;
  uint64_t SmallerStateBytes(uint32_t context, size_t profile) const;
  void ShrinkState(uint32_t context, size_t profile, uint64_t state_bytes);
  store::LaneSpec LaneUnder(size_t profile, size_t layer, uint32_t kv_head,
                            const store::LaneSpec& now, uint32_t context) const;
  uint64_t FormDigest() const;

  std::shared_ptr<Engine> engine_;
  plan::Limits limits_;
  std::vector<plan::Profile> profiles_;  // that it may be trimmed to, best first
  plan::Plan plan_;
  Arena
      arena_;  // activations and scratch, then the state, so that the state's end can be given back
  std::unique_ptr<xnnpack::ThreadPool> pool_, serial_pool_;
  store::KvStore store_;
  store::StateStore states_;
  std::unique_ptr<Executor> executor_;
  int32_t* tokens_ = nullptr;  // [context], in the arena
  uint32_t position_ = 0;
  // Tokens that the stores hold. Fewer than `position_` only with recurrent state: the others are
  // run again before new ones.
  uint32_t held_ = 0;
  bool decoding_ = false;  // the last chunk was of one token
  bool has_logits_ = false;
  std::atomic<bool> cancel_{false};
  InputObserver observer_;
  SessionStats stats_;
};

}  // namespace headroom::session
