#include "session/session.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "attention/softmax_mix.h"
#include "base/math.h"
#include "base/platform.h"

namespace headroom::session {

Result<plan::Plan> PlanSession(Engine& engine, const plan::Limits& limits) {
  if (engine.is_image()) {
    return Status::Make(StatusCode::kUnsupported,
                        "this model takes pictures: it has no session of tokens");
  }
  if (limits.chunk > plan::kMaxChunk) {
    return Status::Make(StatusCode::kInvalidArgument, "chunk %u > %u", limits.chunk,
                        plan::kMaxChunk);
  }
  HR_ASSIGN_OR_RETURN(const auto profiles,
                      plan::Profiles(engine.model(), limits.codec, limits.profile));
  for (const plan::Profile& profile : profiles) {
    // What a trim alone may choose keeps the windows that are there.
    if (limits.context <= engine.model().metadata.context_tokens || profile.trim_only) continue;
    HR_RETURN_IF_ERROR(plan::CheckBeyondTrained(engine.model(), profile, limits.context));
  }
  HR_ASSIGN_OR_RETURN(const plan::BackendFacts facts, engine.Facts());
  return plan::Solve(engine.model(), engine.lowered(), facts, limits, profiles);
}

namespace {

// Whether a session under `limits` has room for packed weights in private memory.
Engine::AllowPrivate AllowUnder(const Engine& engine, const plan::Limits& limits) {
  return [&engine, limits](const plan::BackendFacts& facts) -> Status {
    HR_ASSIGN_OR_RETURN(const auto profiles,
                        plan::Profiles(engine.model(), limits.codec, limits.profile));
    const plan::Plan plan = plan::Solve(engine.model(), engine.lowered(), facts, limits, profiles);
    return plan.fits ? Status{} : OverBudget(plan, limits, "cache directory unusable; ");
  };
}

}  // namespace

Result<std::unique_ptr<Session>> Session::Create(std::shared_ptr<Engine> engine,
                                                 const plan::Limits& limits) {
  const uint64_t start = platform::NowNs();
  HR_ASSIGN_OR_RETURN(plan::Plan plan, PlanSession(*engine, limits));
  if (!plan.fits) return OverBudget(plan, limits);
  HR_ASSIGN_OR_RETURN(const PackedWeights weights, engine->Dense(AllowUnder(*engine, limits)));
  // Packing may have found that the cache directory cannot be written: plan again with what is
  // true.
  HR_ASSIGN_OR_RETURN(plan, PlanSession(*engine, limits));
  if (!plan.fits) return OverBudget(plan, limits);
  HR_ASSIGN_OR_RETURN(auto session, Allocate(std::move(engine), limits, std::move(plan)));
  session->stats_.load_ns = platform::NowNs() - start;
  session->stats_.weights_packed_now = weights.packed_now;
  return session;
}

Result<std::unique_ptr<Session>> Session::Allocate(std::shared_ptr<Engine> engine,
                                                   const plan::Limits& limits, plan::Plan plan) {
  std::unique_ptr<Session> session(new Session());
  Session& s = *session;
  HR_ASSIGN_OR_RETURN(const PackedWeights weights, engine->Dense(AllowUnder(*engine, limits)));
  s.engine_ = std::move(engine);
  s.limits_ = limits;
  s.plan_ = std::move(plan);
  HR_ASSIGN_OR_RETURN(s.pool_, xnnpack::ThreadPool::Create(s.plan_.threads));
  HR_ASSIGN_OR_RETURN(s.serial_pool_, xnnpack::ThreadPool::Create(1));
  HR_ASSIGN_OR_RETURN(const plan::BackendFacts facts, s.engine_->Facts());
  const uint64_t bytes = s.plan_.session_bytes();
  HR_ASSIGN_OR_RETURN(s.arena_, Arena::Create(bytes, s.engine_->options().hooks));
  HR_ASSIGN_OR_RETURN(const auto activations, s.arena_.Take(s.plan_.arena_bytes()));
  HR_ASSIGN_OR_RETURN(const auto recurrent, s.arena_.Take(s.plan_.recurrent_bytes));
  HR_ASSIGN_OR_RETURN(const auto state, s.arena_.Take(s.plan_.state_bytes));
  s.tokens_ = reinterpret_cast<int32_t*>(activations.data() + s.plan_.token_region.offset);
  s.store_ = store::KvStore(s.plan_.layers, state);
  s.store_.Lend(Recoder(), s.free_scratch());
  s.states_ = store::StateStore(s.engine_->lowered().states, s.plan_.checkpoints, recurrent);
  HR_ASSIGN_OR_RETURN(s.profiles_,
                      plan::Profiles(s.engine_->model(), limits.codec, limits.profile));
  for (const plan::Profile& profile : s.profiles_) {  // a trim changes the name, and takes no heap
    s.plan_.profile.reserve(profile.name.size());
  }
  Bindings bindings;
  bindings.model = &s.engine_->model();
  bindings.lowered = &s.engine_->lowered();
  bindings.plan = &s.plan_;
  bindings.dense = weights.dense;
  bindings.facts = &facts;
  bindings.pool = s.pool_.get();
  bindings.serial = s.serial_pool_.get();
  bindings.kernels = &xnnpack::BestKernels();
  bindings.store = &s.store_;
  bindings.states = &s.states_;
  bindings.arena = activations.data();
  bindings.cancel = &s.cancel_;
  bindings.observer = &s.observer_;
  bindings.release_embeddings = s.engine_->options().weights_are_mapped;
  s.executor_ = std::make_unique<Executor>(bindings);
  return session;
}

store::RowRecoder Session::Recoder() {
  const xnnpack::Kernels& kernels = xnnpack::BestKernels();
  return {attention::DecodeRow, kernels.encode_row, kernels.hadamard};
}

std::span<std::byte> Session::free_scratch() const {
  return {const_cast<Arena&>(arena_).data() + plan_.activation_bytes, plan_.scratch_bytes};
}

std::span<std::byte> Session::caller_scratch() const {
  return {const_cast<Arena&>(arena_).data() + plan_.caller_region.offset,
          plan_.caller_region.bytes};
}

std::span<const float> Session::logits() const {
  if (!has_logits_) return {};
  return {executor_->logits(), engine_->model().metadata.vocabulary};
}

Status Session::CheckTokens(std::span<const int32_t> tokens) const {
  const auto vocabulary = static_cast<int64_t>(engine_->model().metadata.vocabulary);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary) {
      return Status::Make(StatusCode::kInvalidArgument, "token %d at index %zu, vocabulary %lld",
                          tokens[i], i, static_cast<long long>(vocabulary));
    }
  }
  if (tokens.size() > plan_.context - position_) {
    return Status::Make(StatusCode::kContextFull, "%zu tokens at position %u > context %u",
                        tokens.size(), position_, plan_.context);
  }
  return {};
}

Status Session::Append(std::span<const int32_t> tokens, float* all_logits) {
  HR_RETURN_IF_ERROR(CheckTokens(tokens));
  const uint64_t start = platform::NowNs();
  const size_t count = tokens.size();
  const bool is_decode = count == 1 && position_ > 0;  // the first token is a prompt, not an answer
  const uint32_t vocabulary = engine_->model().metadata.vocabulary;
  if (!tokens.empty()) HR_RETURN_IF_ERROR(RunAgain());
  while (!tokens.empty()) {
    const size_t size = std::min<size_t>(plan_.chunk, tokens.size());
    HR_RETURN_IF_ERROR(AppendChunk(tokens.first(size), size == tokens.size(), all_logits));
    tokens = tokens.subspan(size);
    if (all_logits != nullptr) all_logits += size * vocabulary;
  }
  const uint64_t elapsed = platform::NowNs() - start;
  (is_decode ? stats_.decode_tokens : stats_.prefill_tokens) += count;
  (is_decode ? stats_.decode_ns : stats_.prefill_ns) += elapsed;
  return {};
}

// The state before a chunk that may be cancelled in its middle must be known, and the one at the
// end of a prompt is what an answer is made from again; otherwise states are kept from time to
// time.
void Session::MakeCheckpoint(bool decodes) {
  if (states_.empty()) return;
  const bool wanted = !std::exchange(decoding_, decodes) || !decodes ||
                      held_ - states_.newest() >= plan_.checkpoint_tokens;
  if (wanted) states_.Checkpoint(held_);
}

Status Session::AppendChunk(std::span<const int32_t> chunk, bool last, float* all_logits) {
  const auto rows = static_cast<uint32_t>(chunk.size());
  const uint32_t vocabulary = engine_->model().metadata.vocabulary;
  const bool had_logits = std::exchange(has_logits_, false);
  MakeCheckpoint(rows == 1);
  Status status = executor_->RunChunk(chunk.data(), rows, held_);
  if (all_logits == nullptr) {
    if (status.ok() && last) status = executor_->RunTail(rows - 1);
  } else {
    for (uint32_t row = 0; status.ok() && row < rows; ++row, all_logits += vocabulary) {
      status = executor_->RunTail(row);
      if (status.ok()) std::memcpy(all_logits, executor_->logits(), vocabulary * sizeof(float));
    }
  }
  if (!status.ok()) {
    const bool cancelled = status.code() == StatusCode::kCancelled;
    // Forget the half-written chunk. A cancelled row has not touched recurrent state, nor the
    // logits, so that generation can go on from them.
    if (states_.empty() || (rows == 1 && cancelled)) {
      store_.Rewind(held_ + rows, held_);
    } else {
      Return(held_ + rows, HeldAt(held_));
    }
    has_logits_ = had_logits && rows == 1 && cancelled;
    return status;
  }
  // Callers may pass our own token buffer (re-running a rewound text): memmove.
  std::memmove(tokens_ + held_, chunk.data(), rows * sizeof(int32_t));
  held_ += rows;
  position_ = std::max(position_, held_);
  has_logits_ = last || all_logits != nullptr;
  return {};
}

// The tokens that a rewind, or a chunk cancelled in its middle, has left to be run.
Status Session::RunAgain() {
  while (held_ < position_) {
    const uint32_t size = std::min(plan_.chunk, position_ - held_);
    HR_RETURN_IF_ERROR(AppendChunk({tokens_ + held_, size}, false, nullptr));
  }
  return {};
}

// The last position at or before this one at which the stores know what they held.
uint32_t Session::HeldAt(uint32_t position) const {
  uint32_t at = states_.NewestAt(position);
  while (at != 0 && !store_.CanRewind(held_, at)) at = states_.NewestAt(at - 1);
  return at;
}

void Session::Return(uint32_t from, uint32_t position) {
  store_.Rewind(from, position);
  states_.ReturnTo(position);
  held_ = position;
}

Status Session::Rewind(uint32_t position) {
  if (position > position_) {
    return Status::Make(StatusCode::kInvalidArgument, "rewind to %u > position %u", position,
                        position_);
  }
  if (position == position_) return {};
  if (!states_.empty()) {
    if (position < held_) Return(held_, HeldAt(position));
  } else if (store_.CanRewind(position_, position)) {
    store_.Rewind(position_, position);
    held_ = position;
  } else {
    return Status::Make(StatusCode::kUnsupported,
                        "rewind from %u to %u: the cache no longer holds what that position sees; "
                        "rewind to 0 and prefill again",
                        position_, position);
  }
  position_ = position;
  has_logits_ = false;
  return {};
}

Result<std::unique_ptr<Session>> Session::Fork() const {
  HR_ASSIGN_OR_RETURN(auto fork, Allocate(engine_, limits_, plan_));
  fork->store_.CopyFrom(store_, held_);
  fork->states_.CopyFrom(states_);
  fork->held_ = held_;
  std::memcpy(fork->tokens_, tokens_, position_ * sizeof(int32_t));
  fork->position_ = position_;
  fork->has_logits_ = has_logits_;
  if (has_logits_) {
    std::memcpy(const_cast<float*>(fork->executor_->logits()), executor_->logits(),
                logits().size_bytes());
  }
  return fork;
}

}  // namespace headroom::session
