// What a session promises beyond right logits: going back, splitting, saving, shrinking, stopping.
#include "session/session.h"

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "session/golden.h"

namespace headroom::test {
namespace {

using plan::CodecChoice;
using session::Session;

std::vector<float> Logits(const Session& session) {
  return {session.logits().begin(), session.logits().end()};
}

// mistral, gemma3 and gpt-oss have rings in a context of 64 with chunks of 8; gpt-oss has experts.
std::string AnyName() {
  return GENERATE("llama-gqa", "mistral", "gemma3", "gpt-oss", "mha2mla", "hunyuan-cla");
}

std::span<const int32_t> First(const Golden& golden, size_t count) {
  return std::span<const int32_t>(golden.tokens).first(count);
}

// Logits after all tokens of an undisturbed session.
std::vector<float> Undisturbed(const Golden& golden, const plan::Limits& limits) {
  auto session = MakeSession(golden, limits);
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  return Logits(*session);
}

TEST_CASE("windowed models really use rings here", "[session]") {
  auto session = MakeSession(LoadGolden("mistral"), TestLimits());
  REQUIRE(session->plan().layers[0].lane(0).ring);
}

TEST_CASE("rewinding and appending again gives the same logits", "[session]") {
  const Golden& golden = LoadGolden(AnyName());
  const auto want = Undisturbed(golden, TestLimits());
  auto session = MakeSession(golden, TestLimits());
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  const auto keep = static_cast<uint32_t>(golden.count()) - 4;
  REQUIRE(session->Rewind(keep).ok());
  CHECK(session->position() == keep);
  CHECK(session->logits().empty());
  // Another continuation first: its rows must not be seen later.
  const int32_t other[4] = {1, 2, 3, 4};
  REQUIRE(session->Append(other, nullptr).ok());
  REQUIRE(session->Rewind(keep).ok());
  REQUIRE(session->Append(std::span(golden.tokens).last(4), nullptr).ok());
  CHECK(LargestDifference(Logits(*session).data(), want.data(), want.size()) <= golden.Allowance());
  REQUIRE(session->Rewind(0).ok());
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  CHECK(Logits(*session) == want);
  CHECK(session->Rewind(1000).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("a ring that lost the window refuses to go back and stays as it was",
          "[session][window]") {
  const Golden& golden = LoadGolden("mistral");
  auto session = MakeSession(golden, TestLimits());
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  const auto before = Logits(*session);
  CHECK(session->Rewind(5).code() == StatusCode::kUnsupported);
  CHECK(session->position() == golden.count());
  CHECK(Logits(*session) == before);
}

TEST_CASE("a fork goes its own way", "[session]") {
  const Golden& golden = LoadGolden(AnyName());
  const auto want = Undisturbed(golden, TestLimits());
  auto session = MakeSession(golden, TestLimits());
  REQUIRE(session->Append(First(golden, 16), nullptr).ok());
  auto fork = session->Fork().Take();
  CHECK(Logits(*fork) == Logits(*session));
  const int32_t other[3] = {9, 8, 7};
  REQUIRE(fork->Append(other, nullptr).ok());
  REQUIRE(session->Append(std::span(golden.tokens).subspan(16), nullptr).ok());
  CHECK(LargestDifference(Logits(*session).data(), want.data(), want.size()) <= golden.Allowance());
  CHECK(fork->tokens()[16] == 9);
  CHECK(fork->position() == 19);
}

TEST_CASE("a saved session goes on bit for bit, also in another context", "[session]") {
  const Golden& golden = LoadGolden(AnyName());
  const CodecChoice codec = GENERATE(CodecChoice::kF32, CodecChoice::kF16, CodecChoice::kI8Token);
  const std::string path = ScratchPath("saved.session");
  auto session = MakeSession(golden, TestLimits(64, 8, codec));
  REQUIRE(session->Append(First(golden, 20), nullptr).ok());
  REQUIRE(session->Save(path.c_str()).ok());
  auto restored = MakeSession(golden, TestLimits(48, 8, codec));
  REQUIRE(restored->Restore(path.c_str()).ok());
  CHECK(restored->position() == 20);
  CHECK(std::equal(restored->tokens().begin(), restored->tokens().end(), golden.tokens.begin()));
  for (size_t t = 20; t < golden.count(); ++t) {
    REQUIRE(session->Append({&golden.tokens[t], 1}, nullptr).ok());
    REQUIRE(restored->Append({&golden.tokens[t], 1}, nullptr).ok());
    REQUIRE(Logits(*restored) == Logits(*session));
  }
}

TEST_CASE("a session file that does not belong is refused and nothing changes", "[session]") {
  const Golden& golden = LoadGolden("llama-gqa");
  const std::string path = ScratchPath("refused.session");
  auto session = MakeSession(golden, TestLimits(64, 8, CodecChoice::kF16));
  REQUIRE(session->Append(First(golden, 20), nullptr).ok());
  REQUIRE(session->Save(path.c_str()).ok());
  std::ifstream file(path, std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(file), {}};

  auto victim = MakeSession(golden, TestLimits(64, 8, CodecChoice::kF16));
  REQUIRE(victim->Append(First(golden, 5), nullptr).ok());
  const auto before = Logits(*victim);
  auto refuse = [&](const std::string& bytes, StatusCode code) {
    std::ofstream(path, std::ios::binary) << bytes;
    const Status status = victim->Restore(path.c_str());
    CHECK(status.code() == code);
    CHECK(status.message()[0] != '\0');
    REQUIRE(victim->position() == 5);
    REQUIRE(Logits(*victim) == before);
  };
  for (size_t bytes = 0; bytes < good.size(); bytes += 64) {
    refuse(good.substr(0, bytes), StatusCode::kCorrupt);
  }
  refuse(good + "x", StatusCode::kCorrupt);
  for (size_t byte = 0; byte < 64; ++byte) {  // the header, and then some of the body
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ 0x40);
    refuse(bad, StatusCode::kCorrupt);
  }
  std::string bad = good;
  bad[good.size() / 2] = static_cast<char>(bad[good.size() / 2] ^ 1);
  refuse(bad, StatusCode::kCorrupt);
  // The undamaged file is taken, so it was the damage that was refused.
  std::ofstream(path, std::ios::binary) << good;
  CHECK(victim->Restore(path.c_str()).ok());
  CHECK(victim->position() == 20);
}

TEST_CASE("session files of another model, codec or length are named as such", "[session]") {
  const Golden& golden = LoadGolden("llama-gqa");
  const std::string path = ScratchPath("mismatch.session");
  auto session = MakeSession(golden, TestLimits(64, 8, CodecChoice::kF16));
  REQUIRE(session->Append(First(golden, 20), nullptr).ok());
  REQUIRE(session->Save(path.c_str()).ok());
  auto other_codec = MakeSession(golden, TestLimits(64, 8, CodecChoice::kI8Token));
  CHECK(other_codec->Restore(path.c_str()).code() == StatusCode::kMismatch);
  auto shorter = MakeSession(golden, TestLimits(16, 8, CodecChoice::kF16));
  CHECK(shorter->Restore(path.c_str()).code() == StatusCode::kContextFull);
  auto other_model = MakeSession(LoadGolden("llama-mqa"), TestLimits(64, 8, CodecChoice::kF16));
  CHECK(other_model->Restore(path.c_str()).code() == StatusCode::kMismatch);
  CHECK(other_model->Restore(ScratchPath("none").c_str()).code() == StatusCode::kNotFound);
  CHECK(session->Save(ScratchPath("no/such/folder/file").c_str()).code() == StatusCode::kIo);
}

TEST_CASE("trim gives bytes back and the text goes on", "[session]") {
  // Both have layers without a window, so that fewer rows alone free something.
  const Golden& golden = LoadGolden(GENERATE("llama-gqa", "gemma3", "mha2mla", "hunyuan-cla"));
  const auto limits = TestLimits(128, 8, CodecChoice::kF32);
  const auto want = Undisturbed(golden, limits);
  auto session = MakeSession(golden, limits);
  REQUIRE(session->Append(First(golden, 20), nullptr).ok());
  const uint64_t before = session->plan().total_bytes;
  uint64_t freed = 0;
  // First step: fewer rows, the same rows; the logits cannot change.
  auto exact = session->Fork().Take();
  const Status first = exact->Trim(before - 1, &freed);
  CHECK(first.ok());
  CHECK(freed == before - exact->plan().total_bytes);
  CHECK(freed > 0);
  CHECK(exact->plan().profile == "f32");
  REQUIRE(exact->Append(std::span(golden.tokens).subspan(20), nullptr).ok());
  CHECK(LargestDifference(Logits(*exact).data(), want.data(), want.size()) <= golden.Allowance());
  // Second step: smaller rows, down to four bits. The target cannot be reached, and that is said.
  CHECK(session->Trim(1, &freed).code() == StatusCode::kOverBudget);
  // Which of the two is smaller, or possible, depends on widths and rings.
  CHECK((session->plan().profile == "int8" || session->plan().profile == "int4/32"));
  CHECK(session->plan().total_bytes == before - freed);
  CHECK(session->plan().state_bytes < exact->plan().state_bytes);
  REQUIRE(session->Append(std::span(golden.tokens).subspan(20), nullptr).ok());
  const float tolerance = session->plan().profile == "int8" ? 0.1f : 0.2f;
  CHECK(LargestDifference(Logits(*session).data(), want.data(), want.size()) <=
        tolerance * golden.LargestLogit());
}

TEST_CASE("trim of rings alone takes the next smaller rows", "[session][window]") {
  const Golden& golden = LoadGolden("mistral");
  const auto want = Undisturbed(golden, TestLimits(128));
  auto session = MakeSession(golden, TestLimits(128));
  REQUIRE(session->Append(First(golden, 20), nullptr).ok());
  uint64_t freed = 0;
  REQUIRE(session->Trim(session->plan().total_bytes - 1, &freed).ok());
  CHECK(freed > 0);
  CHECK(session->plan().profile == "f16");
  REQUIRE(session->Trim(session->plan().total_bytes - 1, &freed).ok());
  CHECK(session->plan().profile == "int8");
  REQUIRE(session->Append(std::span(golden.tokens).subspan(20), nullptr).ok());
  CHECK(LargestDifference(Logits(*session).data(), want.data(), want.size()) <=
        0.1f * golden.LargestLogit());
}

TEST_CASE("wrong tokens and full contexts append nothing", "[session]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto session = MakeSession(golden, TestLimits(16, 8));
  const int32_t bad[3] = {1, 64, 2};
  CHECK(session->Append(bad, nullptr).code() == StatusCode::kInvalidArgument);
  const int32_t negative[1] = {-1};
  CHECK(session->Append(negative, nullptr).code() == StatusCode::kInvalidArgument);
  CHECK(session->position() == 0);
  CHECK(session->Append(First(golden, 17), nullptr).code() == StatusCode::kContextFull);
  CHECK(session->position() == 0);
  REQUIRE(session->Append(First(golden, 16), nullptr).ok());
  CHECK(session->Append(First(golden, 1), nullptr).code() == StatusCode::kContextFull);
  CHECK(session->Append({}, nullptr).ok());
  CHECK(session->position() == 16);
}

TEST_CASE("a cancelled prefill keeps whole chunks and can go on", "[session]") {
  const Golden& golden = LoadGolden(AnyName());
  const auto want = Undisturbed(golden, TestLimits());
  auto session = MakeSession(golden, TestLimits());
  REQUIRE(session->Append(First(golden, 8), nullptr).ok());
  session->Cancel();
  CHECK(session->Append(std::span(golden.tokens).subspan(8), nullptr).code() ==
        StatusCode::kCancelled);
  CHECK(session->position() == 8);
  session->ClearCancel();
  REQUIRE(session->Append(std::span(golden.tokens).subspan(8), nullptr).ok());
  CHECK(Logits(*session) == want);
}

// Raises a session's cancel flag a given number of spins after Go returned.
class Canceller {
 public:
  explicit Canceller(Session& session) : thread_([this, &session] { Run(session); }) {}
  ~Canceller() {
    Go(-1);
    thread_.join();
  }
  void Go(int spins) {
    spins_ = spins;
    state_ = kTold;
    while (state_ == kTold) std::this_thread::yield();
  }
  void Wait() const {
    while (state_ != kDone) std::this_thread::yield();
  }

 private:
  enum { kDone, kTold, kSpinning };
  void Run(Session& session) {
    while (true) {
      while (state_ != kTold) std::this_thread::yield();
      state_ = kSpinning;
      if (spins_ < 0) return;
      for (int i = 0; i < spins_; ++i) state_.load();
      session.Cancel();
      state_ = kDone;
    }
  }
  std::atomic<int> state_{kDone}, spins_{0};
  std::thread thread_;
};

TEST_CASE("a cancelled decode changes nothing, wherever the cancel lands", "[session]") {
  const Golden& golden = LoadGolden(AnyName());
  auto session = MakeSession(golden, TestLimits());
  REQUIRE(session->Append(golden.tokens, nullptr).ok());
  const auto position = session->position();
  auto before = Logits(*session);
  REQUIRE_FALSE(before.empty());
  session->Cancel();
  REQUIRE(session->Append(First(golden, 1), nullptr).code() == StatusCode::kCancelled);
  REQUIRE(Logits(*session) == before);
  Canceller canceller(*session);
  for (int round = 0; round < 2000; ++round) {
    session->ClearCancel();
    canceller.Go(round);
    const Status status = session->Append(First(golden, 1), nullptr);
    canceller.Wait();
    if (status.ok()) {
      session->ClearCancel();
      REQUIRE(session->Rewind(position - 1).ok());
      REQUIRE(session->Append({&golden.tokens[position - 1], 1}, nullptr).ok());
      before = Logits(*session);
      continue;
    }
    REQUIRE(status.code() == StatusCode::kCancelled);
    REQUIRE(session->position() == position);
    REQUIRE(Logits(*session) == before);
  }
}

TEST_CASE("one row of any buffer leaves the logits alone", "[session]") {
  for (const std::string& name : GoldenNames()) {
    const Golden& golden = LoadGolden(name);
    const auto& lowered = golden.engine->lowered();
    const plan::Plan plan = session::PlanSession(*golden.engine, TestLimits()).Take();
    const auto& offsets = plan.values.offsets;
    const uint64_t begin = offsets[lowered.logits];
    const uint64_t end = begin + golden.vocabulary * sizeof(float);
    for (size_t i = 0; i < offsets.size(); ++i) {
      if (offsets[i] == begin && lowered.buffers[i].tail) continue;  // an alias
      const uint64_t row_bytes = lowered.buffers[i].width * sizeof(float);
      REQUIRE((offsets[i] + row_bytes <= begin || end <= offsets[i]));
    }
  }
}

TEST_CASE("a cancelled prefill of many tokens has no logits", "[session]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto session = MakeSession(golden, TestLimits());
  REQUIRE(session->Append(First(golden, 8), nullptr).ok());
  session->Cancel();
  REQUIRE_FALSE(session->Append(First(golden, 9), nullptr).ok());
  CHECK(session->logits().empty());
}

TEST_CASE("cancel from another thread ends a long prefill on a chunk's edge", "[session]") {
  const Golden& golden = LoadGolden("llama-gqa");
  auto session = MakeSession(golden, TestLimits(128, 2));
  const std::vector<int32_t> tokens(100, 3);
  // Whenever the cancel lands, before, during or after, the session must be whole.
  for (int round = 0; round < 20; ++round) {
    REQUIRE(session->Rewind(0).ok());
    session->ClearCancel();
    std::thread stopper([&] { session->Cancel(); });
    const Status status = session->Append(tokens, nullptr);
    stopper.join();
    REQUIRE((status.ok() || status.code() == StatusCode::kCancelled));
    REQUIRE(session->position() == (status.ok() ? 100 : session->position() / 2 * 2));
  }
}

}  // namespace
}  // namespace headroom::test
