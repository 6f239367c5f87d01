// Recurrent state in a session: whatever is cut into chunks, rewound, forked, saved or cancelled,
// the logits are those of the text.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cmath>

#include "model/linear_model.h"
#include "model/tiny_model.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

using session::Session;

constexpr uint32_t kVocabulary = 40, kTokens = 60;

struct Opened {
  AlignedBytes file;
  std::shared_ptr<session::Engine> engine;
};

// With softmax attention in a window, or of states alone.
const Opened& Model(bool attends) {
  static Opened opened[2];
  Opened& o = opened[attends];
  if (o.engine != nullptr) return o;
  o.file = WriteToMemory(LinearDescription(attends));
  auto model = model::Model::OpenMemory(o.file.data(), o.file.size(), {});
  INFO(model.status().message());
  REQUIRE(model.ok());
  o.engine = session::Engine::Create(model.Take(), {}).Take();
  return o;
}

std::unique_ptr<Session> Make(bool attends, plan::Limits limits) {
  limits.context = 96;
  auto session = Session::Create(Model(attends).engine, limits);
  INFO(session.status().message());
  REQUIRE(session.ok());
  return session.Take();
}

std::vector<int32_t> Text() {
  std::vector<int32_t> tokens;
  for (uint32_t i = 0; i < kTokens; ++i) tokens.push_back(static_cast<int32_t>(i * i * 7 % 39 + 1));
  return tokens;
}

std::span<const int32_t> First(size_t count) {
  static const std::vector<int32_t> text = Text();
  return std::span(text).first(count);
}

std::vector<float> Logits(const Session& session) {
  return {session.logits().begin(), session.logits().end()};
}

std::vector<float> Undisturbed(bool attends, size_t count, uint32_t chunk = 8) {
  auto session = Make(attends, TestLimits(96, chunk));
  REQUIRE(session->Append(First(count), nullptr).ok());
  return Logits(*session);
}

// Rounding of some hundred operations on vectors of 32, far below what any state is worth: see the
// case after the next.
constexpr float kAllowance = 2e-4f;

bool Same(std::span<const float> a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  return LargestDifference(a.data(), b.data(), b.size()) <= kAllowance;
}

TEST_CASE("chunks of any length leave the same state", "[session][linear]") {
  const bool attends = GENERATE(true, false);
  const std::vector<float> want = Undisturbed(attends, kTokens, 1);
  for (const uint32_t chunk : {2u, 3u, 7u, 8u, 32u, 64u}) {
    for (const uint32_t threads : {1u, 3u}) {
      plan::Limits limits = TestLimits(96, chunk);
      limits.threads = threads;
      auto session = Make(attends, limits);
      std::vector<float> all(kTokens * kVocabulary);
      REQUIRE(session->Append(First(kTokens), all.data()).ok());
      INFO("chunk " << chunk << ", " << threads << " threads");
      CHECK(Same(session->logits(), want));
      CHECK(Same(std::span(all).last(kVocabulary), want));
      CHECK(Same(std::span(all).subspan(20 * kVocabulary, kVocabulary), Undisturbed(attends, 21)));
    }
  }
}

TEST_CASE("the state is what the logits hang on", "[session][linear]") {
  const std::vector<float> want = Undisturbed(false, kTokens);
  auto session = Make(false, TestLimits());
  std::vector<int32_t> other = Text();
  other[kTokens - 12] = 5;
  REQUIRE(session->Append(other, nullptr).ok());
  CHECK(LargestDifference(session->logits().data(), want.data(), want.size()) > 20 * kAllowance);
}

TEST_CASE("a rewind to any position gives the logits of the text from there", "[session][linear]") {
  const bool attends = GENERATE(true, false);
  for (const uint64_t checkpoints : {0u, 3u, 12u}) {
    plan::Limits limits = TestLimits(96, 8);
    limits.checkpoint_bytes = checkpoints * Make(attends, limits)->plan().recurrent_bytes / 2;
    limits.checkpoint_tokens = 4;
    auto session = Make(attends, limits);
    CHECK(session->plan().checkpoints == std::max<uint64_t>(checkpoints, 1));
    REQUIRE(session->Append(First(40), nullptr).ok());
    for (uint32_t i = 40; i < kTokens; ++i) {
      REQUIRE(session->Append(First(i + 1).last(1), nullptr).ok());
    }
    for (const uint32_t position : {59u, 52u, 41u, 40u, 33u, 7u, 1u, 0u}) {
      INFO(checkpoints << " checkpoints, to " << position);
      REQUIRE(session->Rewind(position).ok());
      CHECK(session->position() == position);
      CHECK(session->logits().empty());
      const int32_t other[] = {9, 8, 7};
      REQUIRE(session->Append(other, nullptr).ok());
      REQUIRE(session->Rewind(position).ok());
      REQUIRE(session->Append(First(position + 1).last(1), nullptr).ok());
      CHECK(Same(session->logits(), Undisturbed(attends, position + 1)));
    }
  }
}

TEST_CASE("a rewind runs only what no checkpoint has", "[session][linear]") {
  plan::Limits limits = TestLimits(96, 8);
  limits.checkpoint_bytes = 32 * Make(false, limits)->plan().recurrent_bytes;
  auto session = Make(false, limits);
  REQUIRE(session->Append(First(40), nullptr).ok());
  for (uint32_t i = 40; i < 46; ++i) REQUIRE(session->Append(First(i + 1).last(1), nullptr).ok());
  uint64_t rows = 0;
  session->Observe({[](void* user_data, const char*, size_t, const float*, size_t count, size_t) {
                      *static_cast<uint64_t*>(user_data) += count;
                    },
                    &rows});
  const auto after = [&](uint32_t position) {
    REQUIRE(session->Rewind(position).ok());
    rows = 0;
    REQUIRE(session->Append(First(position + 1).last(1), nullptr).ok());
    return std::exchange(rows, 0);
  };
  const uint64_t end = after(40);  // the end of the prompt: one token
  CHECK(after(27) > 2 * end);
  CHECK(after(24) == end);  // the end of a chunk
}

TEST_CASE("forks and saved sessions go on like the text", "[session][linear]") {
  const bool attends = GENERATE(true, false), rewound = GENERATE(true, false);
  const std::vector<float> want = Undisturbed(attends, 38);
  auto session = Make(attends, TestLimits(96, 8));
  REQUIRE(session->Append(First(rewound ? 50 : 37), nullptr).ok());
  if (rewound) REQUIRE(session->Rewind(37).ok());
  auto fork = session->Fork().Take();
  const TemporaryPath path("linear.session");
  REQUIRE(session->Save(path.text().c_str()).ok());
  REQUIRE(session->Append(First(10), nullptr).ok());
  REQUIRE(fork->Append(First(38).last(1), nullptr).ok());
  CHECK(Same(fork->logits(), want));
  auto restored = Make(attends, TestLimits(96, 16));
  REQUIRE(restored->Append(First(3), nullptr).ok());
  REQUIRE(restored->Restore(path.text().c_str()).ok());
  CHECK(restored->position() == 37);
  REQUIRE(restored->Append(First(38).last(1), nullptr).ok());
  CHECK(Same(restored->logits(), want));
  REQUIRE(restored->Rewind(37).ok());
  REQUIRE(restored->Append(First(38).last(1), nullptr).ok());
  CHECK(Same(restored->logits(), want));
}

TEST_CASE("a file of another model's state is refused", "[session][linear]") {
  auto session = Make(true, TestLimits());
  REQUIRE(session->Append(First(9), nullptr).ok());
  const TemporaryPath path("other.session");
  REQUIRE(session->Save(path.text().c_str()).ok());
  auto other = Make(false, TestLimits());
  CHECK(other->Restore(path.text().c_str()).code() == StatusCode::kMismatch);
  CHECK(other->position() == 0);
}

// Cancels when the dense layer number `at` of a call is about to run.
struct Canceller {
  Session* session;
  uint64_t at, seen = 0;
  static void See(void* user_data, const char*, size_t, const float*, size_t, size_t) {
    auto& self = *static_cast<Canceller*>(user_data);
    if (self.seen++ == self.at) self.session->Cancel();
  }
};

TEST_CASE("a call cancelled anywhere loses nothing", "[session][linear]") {
  const bool attends = GENERATE(true, false);
  const size_t added = GENERATE(1, 8, 20);
  const std::vector<float> want = Undisturbed(attends, 30 + added + 1);
  auto session = Make(attends, TestLimits(96, 8));
  REQUIRE(session->Append(First(30), nullptr).ok());
  for (uint64_t at = 0; at < 60; at += 7) {
    Canceller canceller{session.get(), at};
    session->Observe({Canceller::See, &canceller});
    const uint32_t before = session->position();
    const Status status = session->Append(First(30 + added).last(added), nullptr);
    INFO("at " << at << " of " << canceller.seen << ": " << status.message());
    if (!status.ok()) REQUIRE(status.code() == StatusCode::kCancelled);
    CHECK((session->position() - before) % 8 == (status.ok() ? added % 8 : 0));
    session->ClearCancel();
    session->Observe({});
    // From wherever it stopped.
    const uint32_t position = session->position();
    REQUIRE(session->Append(First(30 + added + 1).subspan(position), nullptr).ok());
    CHECK(Same(session->logits(), want));
    REQUIRE(session->Rewind(30).ok());
  }
}

TEST_CASE("a token is cancelled before it starts or not at all", "[session][linear]") {
  auto session = Make(false, TestLimits());
  REQUIRE(session->Append(First(30), nullptr).ok());
  const std::vector<float> before = Logits(*session);
  session->Cancel();
  CHECK(session->Append(First(31).last(1), nullptr).code() == StatusCode::kCancelled);
  CHECK(session->position() == 30);
  CHECK(Logits(*session) == before);
  session->ClearCancel();
  REQUIRE(session->Append(First(31).last(1), nullptr).ok());
  CHECK(Same(session->logits(), Undisturbed(false, 31)));
}

TEST_CASE("the plan says what states cost, and the context does not", "[session][linear]") {
  const auto& lowered = Model(false).engine->lowered();
  uint64_t floats = 0;
  for (const uint64_t part : lowered.states) floats += part;
  // 4 x 8 x 8; 4 x 16 x 8; 4 x 8 x 8; 8 x 32; 4 x 8 x 9: states. Rows before: 1, 3 x 3, 2 of 32.
  CHECK(floats == 256 + 512 + 256 + 256 + 288 + 12 * 32);
  auto session = Make(false, TestLimits(96, 8));
  CHECK(session->plan().recurrent_bytes >= 2 * 4 * floats);
  CHECK(session->plan().state_bytes == 0);
  const uint64_t used = session->plan().session_bytes();
  CHECK(session->arena().used_bytes() == used);
  plan::Limits limits = TestLimits(96, 8);
  limits.context = 500;
  const plan::Plan longer = session::PlanSession(*Model(false).engine, limits).Take();
  CHECK(longer.recurrent_bytes == session->plan().recurrent_bytes);
  CHECK(longer.total_bytes - session->plan().total_bytes < 500 * 4 + 256);
}

TEST_CASE("a session with states is trimmed like another", "[session][linear]") {
  plan::Limits limits = TestLimits(400, 8);
  auto session = Session::Create(Model(true).engine, limits).Take();
  REQUIRE(session->Append(First(20), nullptr).ok());
  const uint64_t recurrent = session->plan().recurrent_bytes;
  uint64_t freed = 0;
  REQUIRE(session->Trim(session->plan().total_bytes - 1, &freed).ok());
  CHECK(freed > 0);
  CHECK(session->plan().recurrent_bytes == recurrent);
  // Its window is kept in fewer bits now; the states are what they were.
  const auto near = [&](uint32_t count) {
    const std::vector<float> want = Undisturbed(true, count);
    float largest = 0.0f;
    for (const float logit : want) largest = std::max(largest, std::abs(logit));
    return LargestDifference(session->logits().data(), want.data(), want.size()) < 0.03f * largest;
  };
  REQUIRE(session->Append(First(21).last(1), nullptr).ok());
  CHECK(near(21));
  REQUIRE(session->Rewind(12).ok());
  REQUIRE(session->Append(First(13).last(1), nullptr).ok());
  CHECK(near(13));
}

}  // namespace
}  // namespace headroom::test
