// Vision models through sessions: every operation of every run against the oracle, batches,
// threads, sizes, cancelling, and memory that stays within the plan.
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <random>

#include "model/image_builder.h"
#include "model/image_model.h"
#include "model/random_image_model.h"
#include "model/tiny_model.h"
#include "session/image_session.h"
#include "session/lender.h"
#include "support/image_reference.h"

namespace headroom::test {
namespace {

using session::ImageSession;

// The file's bytes outlive the engine.
struct Opened {
  explicit Opened(const convert::ModelDescription& description,
                  const session::EngineOptions& options = {})
      : file(WriteToMemory(description)) {
    auto model = model::Model::OpenMemory(file.data(), file.size(), {});
    INFO(model.status().message());
    REQUIRE(model.ok());
    engine = session::Engine::Create(model.Take(), options).Take();
  }
  AlignedBytes file;
  std::shared_ptr<session::Engine> engine;
};

plan::ImageLimits LimitsOf(const plan::ImageSize& size, uint32_t threads = 1) {
  plan::ImageLimits limits;
  limits.size = size;
  limits.threads = threads;
  return limits;
}

std::unique_ptr<ImageSession> MakeSession(const Opened& opened, const plan::ImageLimits& limits) {
  auto session = ImageSession::Create(opened.engine, limits);
  INFO(session.status().message());
  REQUIRE(session.ok());
  return session.Take();
}

// Picture number `seed`, the same whatever else is in the batch.
void FillPicture(ImageSession& session, uint32_t index, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const plan::ImageSize& size = session.plan().size;
  float* x = session.input(index);
  for (size_t i = 0; i < size_t{size.height} * size.width * 3; ++i) x[i] = normal(random);
}

struct Results {
  std::vector<float> logits, features;
  bool operator==(const Results& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
    };
    return !logits.empty() && same(logits, other.logits) && same(features, other.features);
  }
};
Results ResultsOf(const ImageSession& session, uint32_t index) {
  const auto logits = session.logits(index), features = session.features(index);
  return {{logits.begin(), logits.end()}, {features.begin(), features.end()}};
}

std::vector<Results> RunPictures(const Opened& opened, const plan::ImageLimits& limits,
                                 uint32_t first_seed) {
  auto session = MakeSession(opened, limits);
  for (uint32_t i = 0; i < limits.size.batch; ++i) FillPicture(*session, i, first_seed + i);
  REQUIRE(session->Run(limits.size.batch).ok());
  std::vector<Results> results;
  for (uint32_t i = 0; i < limits.size.batch; ++i) results.push_back(ResultsOf(*session, i));
  return results;
}

// Every operation of a run, twice over the same memory, is the oracle's.
Verdict Judge(const Opened& opened, const plan::ImageLimits& limits) {
  auto session = MakeSession(opened, limits);
  ImageReference reference(opened.engine->model(), session->plan().extents);
  session->Observe({[](void* user_data, uint32_t value, const float* x, size_t positions,
                       size_t stride, size_t channels) {
                      static_cast<ImageReference*>(user_data)->Observe(value, x, positions, stride,
                                                                       channels);
                    },
                    &reference});
  Verdict verdict;
  for (uint32_t run = 0; run < 2; ++run) {
    for (uint32_t i = 0; i < limits.size.batch; ++i) FillPicture(*session, i, run * 7 + i);
    const Status status = session->Run(limits.size.batch);
    if (!status.ok()) verdict.Fail(status.message());
    for (uint32_t i = 0; i < limits.size.batch; ++i) verdict.Join(reference.Check(i));
  }
  return verdict;
}

TEST_CASE("every operation of a vision model is the oracle's", "[session][images]") {
  const Opened opened(ImageModel());
  for (const uint32_t batch : {1u, 3u}) {
    for (const uint32_t threads : {1u, 3u}) {
      const Verdict verdict = Judge(opened, LimitsOf({batch, 0, 0}, threads));
      INFO("batch " << batch << " threads " << threads << ": " << verdict.Why());
      CHECK(verdict.accepted());
    }
  }
}

TEST_CASE("every operation of drawn vision models is the oracle's", "[session][images]") {
  for (uint32_t seed = 0; seed < 80; ++seed) {
    const Opened opened(RandomImageModel(seed));
    const Verdict verdict = Judge(opened, LimitsOf({1 + seed % 2, 0, 0}, 1 + seed % 3));
    INFO("seed " << seed << ": " << verdict.Why());
    CHECK(verdict.accepted());
  }
}

TEST_CASE("pictures of other sizes than trained are run", "[session][images]") {
  for (uint32_t seed = 200; seed < 216; ++seed) {
    const Opened opened(RandomImageModel(seed));
    for (const auto& [height, width] : {std::pair(20u, 36u), {4u, 8u}, {64u, 12u}}) {
      const Verdict verdict = Judge(opened, LimitsOf({1, height, width}));
      INFO("seed " << seed << " " << height << " x " << width << ": " << verdict.Why());
      CHECK(verdict.accepted());
    }
  }
}

// On Arm XNNPACK has other kernels for few pixels, which add up in another order.
#if defined(__x86_64__)
constexpr bool kOneKernel = true;
#else
constexpr bool kOneKernel = false;
#endif

TEST_CASE("a picture's results are the same in any batch and on any number of threads",
          "[session][images]") {
  for (uint32_t seed = 0; seed < 24; ++seed) {
    const Opened opened(seed == 0 ? ImageModel() : RandomImageModel(300 + seed));
    const uint32_t side = seed % 2 == 0 ? 0 : 48;  // large enough for threads to share the work
    const auto three = RunPictures(opened, LimitsOf({3, side, side}, 1), 50);
    INFO("seed " << seed);
    CHECK(RunPictures(opened, LimitsOf({3, side, side}, 3), 50) == three);
    for (uint32_t i = 0; kOneKernel && i < 3; ++i) {
      CHECK(RunPictures(opened, LimitsOf({1, side, side}, 2), 50 + i)[0] == three[i]);
    }
    CHECK_FALSE(three[0] == three[1]);
  }
}

TEST_CASE("a batch that is not full is run as far as it goes", "[session][images]") {
  const Opened opened(ImageModel());
  const auto full = RunPictures(opened, LimitsOf({3, 0, 0}), 50);
  auto session = MakeSession(opened, LimitsOf({3, 0, 0}));
  for (uint32_t i = 0; i < 3; ++i) FillPicture(*session, i, 90 + i);
  REQUIRE(session->Run(3).ok());
  for (uint32_t i = 0; i < 2; ++i) FillPicture(*session, i, 50 + i);
  REQUIRE(session->Run(2).ok());
  CHECK(ResultsOf(*session, 0) == full[0]);
  CHECK(ResultsOf(*session, 1) == full[1]);
  CHECK(session->logits(2).empty());
  CHECK(session->features(2).empty());
  CHECK(session->stats().pictures == 5);
  CHECK(session->stats().runs == 2);
}

TEST_CASE("counts beyond the batch are refused, and results wait for a run", "[session][images]") {
  const Opened opened(ImageModel());
  auto session = MakeSession(opened, LimitsOf({2, 0, 0}));
  CHECK(session->logits(0).empty());
  CHECK(session->Run(0).code() == StatusCode::kInvalidArgument);
  CHECK(session->Run(3).code() == StatusCode::kInvalidArgument);
  FillPicture(*session, 0, 1);
  REQUIRE(session->Run(1).ok());
  CHECK(session->logits(0).size() == kImageClasses);
  CHECK(session->features(0).size() == 8);
  CHECK(session->Run(3).code() == StatusCode::kInvalidArgument);
  session->Forget();
  CHECK(session->logits(0).empty());
}

TEST_CASE("a cancelled run leaves no results, the next one is whole", "[session][images]") {
  const Opened opened(ImageModel());
  const auto expected = RunPictures(opened, LimitsOf({1, 0, 0}), 50);
  auto session = MakeSession(opened, LimitsOf({1, 0, 0}));
  // Between two steps, from where a value is shown.
  struct Canceller {
    ImageSession* session;
    uint32_t seen = 0;
  } canceller{session.get()};
  session->Observe({[](void* user_data, uint32_t, const float*, size_t, size_t, size_t) {
                      auto& self = *static_cast<Canceller*>(user_data);
                      if (++self.seen == 4) self.session->Cancel();
                    },
                    &canceller});
  FillPicture(*session, 0, 50);
  const Status status = session->Run(1);
  CHECK(status.code() == StatusCode::kCancelled);
  CHECK(canceller.seen == 4);
  CHECK(session->logits(0).empty());
  session->Observe({});
  session->ClearCancel();
  FillPicture(*session, 0, 50);
  REQUIRE(session->Run(1).ok());
  CHECK(ResultsOf(*session, 0) == expected[0]);
}

TEST_CASE("an arena of pictures holds exactly the plan", "[session][images][budget]") {
  for (const plan::ImageSize size : {plan::ImageSize{1, 0, 0}, {4, 0, 0}, {1, 40, 24}}) {
    const Opened opened(size.height == 0 ? ImageModel() : RandomImageModel(5));
    auto session = MakeSession(opened, LimitsOf(size, 2));
    FillPicture(*session, 0, 1);
    REQUIRE(session->Run(1).ok());
    CHECK(session->arena().capacity_bytes() == session->plan().arena_bytes());
    CHECK(session->arena().peak_bytes() == session->plan().arena_bytes());
  }
}

TEST_CASE("pictures are refused one byte below the plan", "[session][images][budget]") {
  const Opened opened(ImageModel());
  auto limits = LimitsOf({2, 0, 0});
  const auto plan = session::PlanImages(*opened.engine, limits).Take();
  limits.budget_bytes = plan.total_bytes - 1;
  const auto refused = ImageSession::Create(opened.engine, limits);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kOverBudget);
  CHECK(std::string(refused.status().message()).find("1 bytes missing") != std::string::npos);
  limits.budget_bytes = plan.total_bytes;
  CHECK(ImageSession::Create(opened.engine, limits).ok());
}

TEST_CASE("the app lends what the plan of pictures says, and every refusal is clean",
          "[session][images][budget]") {
  Lender lender;
  session::EngineOptions options;
  options.hooks = lender.hooks();
  plan::ImagePlan plan;
  {
    const Opened opened(ImageModel(), options);
    auto session = MakeSession(opened, LimitsOf({2, 0, 0}, 2));
    plan = session->plan();
    const uint64_t calls = lender.calls;
    FillPicture(*session, 0, 1);
    REQUIRE(session->Run(1).ok());
    CHECK(lender.calls == calls);
  }
  CHECK(lender.live.empty());
  CHECK(lender.peak_bytes == plan.arena_bytes() + plan.packed_bytes);
  REQUIRE(lender.calls == 2);  // packed weights, arena
  for (uint64_t refuse_at = 0; refuse_at < 2; ++refuse_at) {
    Lender refusing;
    refusing.refuse_at = refuse_at;
    options.hooks = refusing.hooks();
    {
      const Opened opened(ImageModel(), options);
      const auto session = ImageSession::Create(opened.engine, LimitsOf({2, 0, 0}, 2));
      REQUIRE_FALSE(session.ok());
      CHECK(session.status().code() == StatusCode::kOutOfMemory);
    }
    CHECK(refusing.live.empty());
  }
}

TEST_CASE("a language model takes no pictures", "[session][images]") {
  const Opened opened(TinyDescription());
  CHECK(session::PlanImages(*opened.engine, {}).status().code() == StatusCode::kUnsupported);
  CHECK(ImageSession::Create(opened.engine, {}).status().code() == StatusCode::kUnsupported);
}

TEST_CASE("the nearest pixel is found in the largest pictures too", "[session][images]") {
  for (const auto& [height, grown] : {std::pair(9999u, 16383u), {4097u, 12345u}}) {
    ImageBuilder b;
    b.Value({3});
    b.d.image.logits = b.Project(b.GlobalPool(b.Resize(0, grown, 1, 0, false)), 4);
    b.d.image.preprocess.crop_height = height;
    b.d.image.preprocess.crop_width = 1;
    b.d.metadata = {"tall", "Test", "Apache-2.0", "made by a test", 0, 4};
    const Opened opened(b.d);
    const Verdict verdict = Judge(opened, LimitsOf({1, 0, 0}));
    INFO(height << " to " << grown << ": " << verdict.Why());
    CHECK(verdict.accepted());
  }
}

TEST_CASE("the mean of a large picture of equal halves does not drift", "[session][images]") {
  ImageBuilder b;
  const int32_t halves =
      b.Add(ImageBuilder::Of(model::ImageOpKind::kConvert), {b.Value({3})}, {3, DType::kF16});
  model::ImageOp pool = ImageBuilder::Of(model::ImageOpKind::kPool);
  pool.pool = model::PoolKind::kAverage;
  pool.window.kernel[0] = pool.window.kernel[1] = 0;
  b.d.image.logits = b.d.image.features = b.Add(pool, {halves}, {3});
  b.d.image.preprocess.crop_height = b.d.image.preprocess.crop_width = 8;
  b.d.metadata = {"mean", "Test", "Apache-2.0", "made by a test", 0, 3};
  const Opened opened(b.d);
  constexpr uint32_t kSide = 1024;
  auto session = MakeSession(opened, LimitsOf({1, kSide, kSide}));
  std::fill_n(session->input(0), size_t{kSide} * kSide * 3, 0.1f);
  REQUIRE(session->Run(1).ok());
  const double number = HalfToFloat(FloatToHalf(0.1f));
  for (const float mean : session->logits(0)) {
    CHECK(std::fabs(mean - number) < 1e-4 * number);
  }
}

// --- what the reference would notice

// Runs one model and shows its values to the reference of another one, bent by `bend`.
template <typename Bend>
bool Noticed(const Bend& bend) {
  const Opened opened(ImageModel());
  const AlignedBytes file(opened.file.span());
  auto bent = model::Model::OpenMemory(file.data(), file.size(), {}).Take();
  bend(bent->image);
  auto session = MakeSession(opened, LimitsOf({1, 0, 0}));
  ImageReference reference(*bent, session->plan().extents);
  session->Observe({[](void* user_data, uint32_t value, const float* x, size_t positions,
                       size_t stride, size_t channels) {
                      static_cast<ImageReference*>(user_data)->Observe(value, x, positions, stride,
                                                                       channels);
                    },
                    &reference});
  FillPicture(*session, 0, 3);
  REQUIRE(session->Run(1).ok());
  return !reference.Check(0).accepted();
}

model::ImageOp& Nth(model::ImageGraph& graph, model::ImageOpKind kind, size_t nth = 0) {
  for (model::ImageOp& op : graph.ops) {
    if (op.kind == kind && nth-- == 0) return op;
  }
  throw std::runtime_error("no such operation");
}

TEST_CASE("a run of another model is noticed", "[session][images][mutant]") {
  using enum model::ImageOpKind;
  CHECK_FALSE(Noticed([](model::ImageGraph&) {}));
  CHECK(Noticed([](auto& g) { Nth(g, kConvolution).limit = model::Limit::kNone; }));
  CHECK(Noticed([](auto& g) {
    std::swap(Nth(g, kConvolution, 1).window.pad[1], Nth(g, kConvolution, 1).window.pad[3]);
  }));
  CHECK(Noticed([](auto& g) { Nth(g, kNorm).groups = 0; }));     // of each position
  CHECK(Noticed([](auto& g) { Nth(g, kNorm, 1).groups = 1; }));  // of all of them
  CHECK(Noticed([](auto& g) { Nth(g, kNorm).epsilon = 1e-2f; }));
  CHECK(Noticed([](auto& g) { Nth(g, kSelfAttention).attention.relu = false; }));
  CHECK(Noticed([](auto& g) { Nth(g, kSelfAttention, 1).attention.scale = 0.6f; }));
  CHECK(Noticed([](auto& g) { Nth(g, kSlice).begin = 1; }));
  CHECK(Noticed([](auto& g) { Nth(g, kPool, 1).pool = model::PoolKind::kAverage; }));
  CHECK(Noticed([](auto& g) { Nth(g, kPool, 2).pool = model::PoolKind::kMax; }));
  CHECK(Noticed([](auto& g) { Nth(g, kResize, 1).align_corners = false; }));
  CHECK(Noticed([](auto& g) { Nth(g, kResize, 2).bilinear = true; }));
  CHECK(Noticed([](auto& g) { g.values[Nth(g, kConvert).output].scale = 0.051f; }));
  CHECK(Noticed([](auto& g) {  // of the 8-bit convolution's results
    for (auto& op : g.ops) {
      if (op.kind == kConvolution && g.values[op.output].dtype == DType::kI8) {
        g.values[op.output].scale = 0.064f;
      }
    }
  }));
  CHECK(Noticed([](auto& g) {  // of halves
    for (auto& op : g.ops) {
      if (op.kind == kActivation && g.values[op.output].dtype == DType::kF16) {
        op.activation = static_cast<uint8_t>(model::Activation::kRelu);
      }
    }
  }));
  CHECK(Noticed([](auto& g) { std::swap(Nth(g, kConcat).inputs[0], Nth(g, kConcat).inputs[1]); }));
}

}  // namespace
}  // namespace headroom::test
