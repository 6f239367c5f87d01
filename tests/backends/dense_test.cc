// Dense layers against the oracle: every weight type, odd shapes, biases, row ranges, thread
// counts.
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <thread>

#include "support/dense_tester.h"

namespace headroom::test {
namespace {

struct Format {
  DType dtype;
  uint32_t block;
};
constexpr Format kFormats[] = {{DType::kF32, 0}, {DType::kF16, 0},  {DType::kI8, 0},
                               {DType::kI8, 32}, {DType::kI8, 128}, {DType::kI4, 0},
                               {DType::kI4, 32}, {DType::kI4, 64},  {DType::kI4, 128}};

// Smallest legal K for a format; other legal ones are its multiples.
uint32_t ColumnStep(const Format& format) {
  if (format.block != 0) return format.block;
  return format.dtype == DType::kI4 ? 2 : 1;
}

std::unique_ptr<xnnpack::ThreadPool> Pool(uint32_t threads) {
  auto pool = xnnpack::ThreadPool::Create(threads);
  REQUIRE(pool.ok());
  return pool.Take();
}

void Sweep(const DenseKernel& kernel, const std::vector<uint32_t>& column_multiples,
           const std::vector<uint32_t>& row_counts, const std::vector<uint32_t>& token_counts) {
  double worst = 0;
  for (const Format& format : kFormats) {
    for (const uint32_t multiple : column_multiples) {
      for (const uint32_t rows : row_counts) {
        for (const uint32_t tokens : token_counts) {
          DenseCase c{format.dtype, format.block, rows, multiple * ColumnStep(format), 0,
                      rows,         tokens};
          c.bias = (rows + tokens + multiple) % 2 == 0;
          c.seed = rows * 31 + tokens * 7 + multiple;
          const DenseVerdict verdict = TestDense(c, kernel);
          INFO(Describe(c) << ": " << verdict.failure);
          REQUIRE(verdict.failure.empty());
          worst = std::max(worst, verdict.worst_ratio);
        }
      }
    }
  }
  INFO("worst error / allowance " << worst);
  CHECK(worst > 0);  // a comparison that can see no rounding at all compares nothing
}

TEST_CASE("dense layers of every type match the oracle at odd shapes", "[dense]") {
  const auto pool = Pool(1);
  Sweep(XnnpackKernel(*pool), {1, 3, 8, 17}, {1, 3, 16, 33, 130}, {1, 2, 7, 15, 33});
}

TEST_CASE("dense layers match the oracle on two threads", "[dense]") {
  const auto pool = Pool(2);
  Sweep(XnnpackKernel(*pool), {1, 5}, {1, 31, 257}, {1, 7, 40});
}

TEST_CASE("dense layers of a model's width match the oracle", "[dense]") {
  const auto pool = Pool(2);
  for (const Format& format : kFormats) {
    for (const uint32_t tokens : {1u, 20u}) {
      DenseCase c{format.dtype, format.block, 150, 2048, 0, 150, tokens, true, 5};
      const DenseVerdict verdict = TestDense(c, XnnpackKernel(*pool));
      INFO(Describe(c) << ": " << verdict.failure);
      CHECK(verdict.failure.empty());
    }
  }
}

TEST_CASE("a range of a tensor's rows is a layer of its own", "[dense]") {
  const auto pool = Pool(1);
  for (const Format& format : kFormats) {
    for (const uint32_t begin : {0u, 1u, 64u, 299u}) {
      DenseCase c{
          format.dtype, format.block, 300, 256, begin, std::min(77u, 300 - begin), 3, true, 9};
      const DenseVerdict verdict = TestDense(c, XnnpackKernel(*pool));
      INFO(Describe(c) << ": " << verdict.failure);
      CHECK(verdict.failure.empty());
    }
  }
}

// One token's outputs are sums of terms of like size; a small one among them may be all rounding.
float Largest(const std::vector<float>& outputs) {
  float largest = 0;
  for (const float value : outputs) largest = std::max(largest, std::fabs(value));
  return largest;
}

TEST_CASE("rows of a batch do not influence each other", "[dense]") {
  const auto pool = Pool(1);
  for (const Format& format : kFormats) {
    const DenseCase c{format.dtype, format.block, 70, 256, 0, 70, 13, true, 3};
    const DenseData data(c);
    const DenseWeights layer = data.Layer();
    GuardedMemory x(xnnpack::DenseSet::InputBytes(xnnpack::InputKind::kF32, 13, 256), 64);
    FillActivations(c, x.as<float>());
    std::vector<float> together(13 * 70), alone(70);
    std::vector<oracle::QuantizedRow> unused;
    XnnpackKernel (*pool)(layer, x.as<float>(), 13, together.data(), &unused);
    for (uint32_t t = 0; t < 13; ++t) {
      GuardedMemory row(xnnpack::DenseSet::InputBytes(xnnpack::InputKind::kF32, 1, 256), 64);
      std::memcpy(row.data(), x.as<float>() + t * 256, 256 * 4);
      XnnpackKernel (*pool)(layer, row.as<float>(), 1, alone.data(), &unused);
      for (uint32_t n = 0; n < 70; ++n) {
        REQUIRE(std::fabs(alone[n] - together[t * 70 + n]) <= 1e-5f * Largest(alone));
      }
    }
  }
}

TEST_CASE("one operator serves changing numbers of rows and pools", "[dense]") {
  const auto one = Pool(1);
  const auto two = Pool(2);
  for (const Format& format : kFormats) {
    const DenseCase c{format.dtype, format.block, 90, 128, 0, 90, 40, true, 4};
    const DenseData data(c);
    const DenseWeights layer = data.Layer();
    auto set = xnnpack::DenseSet::Create({&layer, 1}, {});
    REQUIRE(set.ok());
    const auto kind = set.value()->input_kind(0);
    GuardedMemory x(xnnpack::DenseSet::InputBytes(xnnpack::InputKind::kF32, 40, 128), 64);
    FillActivations(c, x.as<float>());
    std::vector<float> first, again(40 * 90);
    for (const uint32_t tokens : {40u, 1u, 1u, 40u, 3u}) {
      for (xnnpack::ThreadPool* pool : {one.get(), two.get()}) {
        GuardedMemory input(xnnpack::DenseSet::InputBytes(kind, tokens, 128), 64);
        set.value()->ConvertInput(kind, x.as<float>(), tokens, 128, input.data(), *pool);
        const std::byte* taken = kind == xnnpack::InputKind::kF32 ? x.data() : input.data();
        REQUIRE(set.value()->Run(0, taken, tokens, again.data(), *pool).ok());
        if (first.empty()) first.assign(again.begin(), again.begin() + 90);
        for (int n = 0; n < 90; ++n) {
          REQUIRE(std::fabs(again[n] - first[n]) <= 1e-5f * Largest(first));
        }
      }
    }
    CHECK(set.value()->Run(0, x.data(), 0, nullptr, *one).ok());  // no rows: nothing to do
  }
}

TEST_CASE("threads with pools of their own may use one set of layers", "[dense]") {
  // Large enough that a thread is mostly inside Run when another comes.
  constexpr uint32_t kRows = 300, kColumns = 512, kTokens = 16;
  for (const Format& format : {Format{DType::kF32, 0}, Format{DType::kI4, 32}}) {
    const DenseCase c{format.dtype, format.block, kRows, kColumns, 0, kRows, kTokens, true, 4};
    const DenseData data(c);
    const DenseWeights layer = data.Layer();
    const auto set = xnnpack::DenseSet::Create({&layer, 1}, {}).Take();
    const auto kind = set->input_kind(0);
    // Each user has an input of its own and must get, each time, what it got alone.
    struct User {
      GuardedMemory x{xnnpack::DenseSet::InputBytes(xnnpack::InputKind::kF32, kTokens, kColumns),
                      64};
      GuardedMemory input{
          xnnpack::DenseSet::InputBytes(xnnpack::InputKind::kQd8, kTokens, kColumns), 64};
      std::vector<float> first, out = std::vector<float>(kTokens * kRows);
      int wrong = 0;
    } users[3];
    const auto step = [&](User& user, xnnpack::ThreadPool& pool) {
      const bool direct = kind == xnnpack::InputKind::kF32;
      // Or last time's results would stand in for those that went into another user's output.
      std::fill(user.out.begin(), user.out.end(), -1.0f);
      set->ConvertInput(kind, user.x.as<float>(), kTokens, kColumns, user.input.data(), pool);
      user.wrong +=
          !set->Run(0, direct ? user.x.data() : user.input.data(), kTokens, user.out.data(), pool)
               .ok();
      if (user.first.empty()) user.first = user.out;
      user.wrong += user.out != user.first;
    };
    for (User& user : users) {
      DenseCase own = c;
      own.seed = static_cast<uint32_t>(100 + (&user - users));
      FillActivations(own, user.x.as<float>());
      step(user, *Pool(1));
    }
    std::vector<std::thread> threads;
    for (User& user : users) {
      threads.emplace_back([&] {
        auto pool = xnnpack::ThreadPool::Create(1).Take();
        // As many as fit into a moment: an emulator is a hundred times slower.
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < 1500; ++i) {
          step(user, *pool);
          if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(1)) break;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const User& user : users) CHECK(user.wrong == 0);
  }
}

Status CreateStatus(const DenseWeights& layer) {
  auto sizes = xnnpack::DenseSet::PackedBytes({&layer, 1});
  auto set = xnnpack::DenseSet::Create({&layer, 1}, {});
  // What cannot run must be known before anything is packed.
  if (!sizes.ok()) CHECK(sizes.status().code() == set.status().code());
  return set.status();
}

TEST_CASE("shapes and types that no dense layer takes are refused by name", "[dense]") {
  const DenseCase block{DType::kI4, 32, 8, 64, 0, 8, 1};
  const DenseData data(block);
  DenseWeights layer = data.Layer();
  CHECK(CreateStatus(layer).ok());

  layer.weight.extents[1] = 48;
  Status status = CreateStatus(layer);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(std::string(status.message()).find("multiple of block (48, 32)") != std::string::npos);
  CHECK(std::string(status.message()).find("tensor int4") != std::string::npos);

  layer = data.Layer();
  layer.weight.block = 16;
  CHECK(CreateStatus(layer).code() == StatusCode::kUnsupported);
  layer.weight.block = 0;
  layer.weight.extents[1] = 63;
  status = CreateStatus(layer);
  CHECK(status.code() == StatusCode::kUnsupported);
  CHECK(std::string(status.message()).find("even") != std::string::npos);

  layer = data.Layer();
  layer.weight.dtype = DType::kBF16;
  CHECK(CreateStatus(layer).code() == StatusCode::kUnsupported);
  layer = data.Layer();
  layer.weight.rank = 1;
  CHECK(CreateStatus(layer).code() == StatusCode::kUnsupported);
  layer = data.Layer();
  layer.row_begin = 1;
  CHECK(CreateStatus(layer).code() == StatusCode::kInvalidArgument);
  layer = data.Layer();
  layer.rows = 0;
  CHECK(CreateStatus(layer).code() == StatusCode::kInvalidArgument);
  layer = data.Layer();
  layer.row_begin = 0xffffffffu;
  CHECK(CreateStatus(layer).code() == StatusCode::kInvalidArgument);
  layer = data.Layer();
  layer.weight.data_bytes -= 1;
  CHECK(CreateStatus(layer).code() == StatusCode::kInvalidArgument);
  layer = data.Layer();
  layer.weight.scale_bytes -= 1;
  CHECK(CreateStatus(layer).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("a scale that is no normal number, or a row's negative one, is refused", "[dense]") {
  for (const Format& format : kFormats) {
    if (!TakesQuantizedInput(format.dtype, format.block)) continue;
    for (const float bad : {0.0f, -1.0f, 1e-40f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      if (bad == -1.0f && format.block != 0) continue;
      const DenseCase c{format.dtype, format.block, 140, 128, 0, 140, 1};
      DenseData data(c);
      if (format.block == 0) {
        data.scales().as<float>()[139] = bad;
      } else {
        data.scales().as<uint16_t>()[data.scales().bytes() / 2 - 1] = FloatToBfloat(bad);
      }
      const DenseWeights layer = data.Layer();
      auto set = xnnpack::DenseSet::Create({&layer, 1}, {});
      INFO(Describe(c) << " scale " << bad);
      REQUIRE(!set.ok());
      CHECK(set.status().code() == StatusCode::kCorrupt);
    }
  }
}

TEST_CASE("the quantised input is the definition's, also for zero and one-sided rows", "[dense]") {
  const auto pool = Pool(2);
  const DenseCase c{DType::kI8, 0, 4, 97, 0, 4, 21, false, 8};
  const DenseVerdict verdict = TestDense(c, XnnpackKernel(*pool));  // checks every code
  INFO(verdict.failure);
  CHECK(verdict.failure.empty());
  // And the checker can tell: one code off by one, a scale off by a millionth.
  std::vector<float> x(97);
  for (int k = 0; k < 97; ++k) x[k] = std::sin(static_cast<float>(k));
  oracle::QuantizedRow row = oracle::QuantizeRow(x.data(), 97);
  CHECK(CheckQuantized(x.data(), row).empty());
  row.codes[50] ^= 1;
  CHECK(!CheckQuantized(x.data(), row).empty());
  row.codes[50] ^= 1;
  row.scale *= 1 + 1e-6;
  CHECK(!CheckQuantized(x.data(), row).empty());
}

}  // namespace
}  // namespace headroom::test
