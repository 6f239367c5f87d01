// Convolutions of pictures against the oracle: every kernel, kind of groups and type of weights,
// slices of channels on both sides, threads, and their weights in the cache file.
#include <catch2/catch_test_macros.hpp>

#include "backends/xnnpack/convolution_layer.h"
#include "hwy/targets.h"
#include "support/cache_folder.h"
#include "support/convolution_grid.h"

namespace headroom::test {
namespace {

using xnnpack::DenseOptions;
using xnnpack::DenseSet;

std::unique_ptr<xnnpack::ThreadPool> Pool(uint32_t threads) {
  auto pool = xnnpack::ThreadPool::Create(threads);
  REQUIRE(pool.ok());
  return pool.Take();
}

void CheckAll(const std::vector<ConvolutionCase>& cases, xnnpack::ThreadPool& pool) {
  Verdict all;
  for (const ConvolutionCase& c : cases) all.Join(TestConvolution(XnnpackConvolution(pool), c));
  INFO(all.Why() << ", worst error / allowance " << all.worst_ratio);
  CHECK(all.accepted());
  CHECK(all.worst_ratio > 0);  // a comparison that sees no rounding at all compares nothing
}

// Of weights, and whether elements are halves.
constexpr std::pair<DType, bool> kTypes[] = {
    {DType::kF32, false}, {DType::kF16, false}, {DType::kI8, false}, {DType::kF16, true}};

// Large enough to be shared among threads.
std::vector<ConvolutionCase> LargeCases() {
  std::vector<ConvolutionCase> cases;
  for (const auto& [dtype, halves] : kTypes) {
    ConvolutionCase c;
    c.dtype = dtype;
    c.halves = halves;
    c.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    c.rows = 21;
    c.columns = 19;
    c.batch = 3;
    c.in_gap = 3;
    c.out_gap = 5;
    for (const GroupCase& g : {GroupCase{1, 24, 20}, {4, 8, 8}, {150, 1, 1}}) {
      c.groups = g.groups;
      c.group_in = g.group_in;
      c.group_out = g.group_out;
      cases.push_back(c);
    }
    c.window = {{7, 7}, {2, 2}, {1, 1}, {3, 3, 3, 3}};  // depthwise in several passes
    cases.push_back(c);
    c.window = {};
    c.groups = 1;
    c.group_in = 24;
    c.group_out = 50;
    cases.push_back(c);
  }
  return cases;
}

// Panels as they are, on CPUs too where the product does not take them.
ConvolutionKernel Panels(xnnpack::ThreadPool& pool) {
  return [&pool](const ConvolutionData& data) -> Status {
    const ConvolutionCase& c = data.shape();
    std::vector<float> weights(size_t{c.outputs()} * c.taps());
    for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<float>(data.Weight(i));
    const GuardedMemory panels(xnnpack::PanelBytes(c.outputs(), c.taps()), sizeof(float));
    xnnpack::PackPanels(weights.data(), c.bias ? data.bias.as<float>() : nullptr, c.outputs(),
                        c.taps(), panels.as<float>());
    xnnpack::PanelLayer layer;
    layer.panels = panels.as<float>();
    layer.rows = c.outputs();
    layer.columns = c.taps();
    layer.in_stride = data.in_stride;
    layer.out_stride = data.out_stride;
    layer.spec = data.spec;
    xnnpack::SetSize({c.batch, c.rows, c.columns}, &layer);
    xnnpack::RunPanels(layer, data.input.as<float>(), data.out.as<float>(), pool);
    return {};
  };
}

TEST_CASE("panels of every instruction set match the oracle", "[convolution]") {
  const auto pool = Pool(2);
  std::vector<ConvolutionCase> cases = ConvolutionGrid(2);
  for (const ConvolutionCase& c : LargeCases()) cases.push_back(c);
  std::erase_if(cases,
                [](const ConvolutionCase& c) { return c.groups != 1 || c.codes() || c.halves; });
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    Verdict all;
    for (const ConvolutionCase& c : cases) all.Join(TestConvolution(Panels(*pool), c));
    INFO(hwy::TargetName(target) << ": " << all.Why());
    CHECK(all.accepted());
    CHECK(all.worst_ratio > 0);
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST_CASE("limits of panels keep what is not a number", "[convolution]") {
  ConvolutionCase c;
  c.limit = model::Limit::kRelu6;
  c.rows = c.columns = 3;
  c.group_out = 40;
  const ConvolutionData data(c);
  data.input.as<float>()[4] = NAN;
  REQUIRE(Panels(*Pool(1))(data).ok());
  for (uint32_t i = 0; i < 9 * c.outputs(); ++i) {
    CHECK(std::isnan(data.out.as<float>()[i]) == (i / c.outputs() == 4));
  }
}

TEST_CASE("convolutions of every shape match the oracle", "[convolution]") {
  CheckAll(ConvolutionGrid(4), *Pool(1));
}

TEST_CASE("convolutions match the oracle on three threads", "[convolution]") {
  const auto pool = Pool(3);
  for (const ConvolutionCase& c : LargeCases()) {
    const uint64_t pixels = uint64_t{c.batch} * c.rows * c.columns;
    INFO(Describe(c));
    CHECK(pixels * c.outputs() * c.taps() >= xnnpack::ThreadPool::kWorthSharing);
  }
  CheckAll(LargeCases(), *pool);
  CheckAll(ConvolutionGrid(1), *pool);
}

std::vector<std::byte> OutputOf(const ConvolutionCase& c, xnnpack::ThreadPool& pool) {
  const ConvolutionData data(c);
  REQUIRE(XnnpackConvolution(pool)(data).ok() == (!c.halves || CpuHasHalves()));
  return {data.out.data(), data.out.data() + data.out.bytes()};
}

TEST_CASE("convolutions give the same bits on any number of threads", "[convolution]") {
  const auto one = Pool(1), three = Pool(3);
  for (const ConvolutionCase& c : LargeCases()) {
    INFO(Describe(c));
    CHECK(OutputOf(c, *one) == OutputOf(c, *three));
  }
}

// Mistakes in what XNNPACK is told.
TEST_CASE("every wrongly described convolution is rejected", "[convolution][mutant]") {
  const auto pool = Pool(1);
  const auto rejected = [&](const std::function<void(ConvolutionSpec&)>& change, DType dtype,
                            bool halves = false) {
    ConvolutionCase c;
    c.dtype = dtype;
    c.halves = halves;
    c.window = {{3, 3}, {1, 2}, {2, 1}, {2, 1, 1, 0}};
    c.groups = c.group_in = c.group_out = 2;
    c.rows = 9;
    c.columns = 12;
    c.in_gap = c.out_gap = 2;
    c.limit = model::Limit::kRelu6;
    return !TestConvolution(XnnpackConvolution(*pool, change), c).accepted();
  };
  for (const auto& [dtype, halves] : kTypes) {
    if (halves && !CpuHasHalves()) continue;
    CHECK_FALSE(rejected([](ConvolutionSpec&) {}, dtype, halves));
    CHECK(rejected([](ConvolutionSpec& s) { std::swap(s.pad[0], s.pad[2]); }, dtype, halves));
    CHECK(rejected([](ConvolutionSpec& s) { std::swap(s.pad[1], s.pad[3]); }, dtype, halves));
    CHECK(rejected([](ConvolutionSpec& s) { s.high = INFINITY; }, dtype, halves));
    CHECK(rejected([](ConvolutionSpec& s) { s.low = -1; }, dtype, halves));
    CHECK(rejected([](ConvolutionSpec& s) { s.low = s.high = 0; }, dtype, halves));
    CHECK(rejected([](ConvolutionSpec& s) { s.dilation[1] = 2, s.pad[1] = 3; }, dtype, halves));
  }
  const DType codes = DType::kI8;
  CHECK(rejected([](ConvolutionSpec& s) { s.in_zero = 0; }, codes));
  CHECK(rejected([](ConvolutionSpec& s) { s.out_zero += 2; }, codes));
  CHECK(rejected([](ConvolutionSpec& s) { s.in_scale *= 1.1f; }, codes));
  CHECK(rejected([](ConvolutionSpec& s) { s.out_scale *= 1.1f; }, codes));
}

// A few layers of every kind, as one model.
struct SmallVision {
  SmallVision() {
    for (const ConvolutionCase& c : ConvolutionGrid(1)) {
      if (c.halves && !CpuHasHalves()) continue;
      if (c.seed % 2 == 0) data.push_back(std::make_unique<ConvolutionData>(c));
    }
    for (const auto& d : data) layers.push_back(d->Layer(d->spec));
  }
  // All of them are right, with the weights of this set.
  Verdict Run(const DenseSet& set, xnnpack::ThreadPool& pool) const {
    Verdict verdict;
    for (size_t i = 0; i < data.size(); ++i) {
      const Status status = RunPacked(*data[i], data[i]->spec, set, i, pool);
      if (!status.ok()) verdict.Fail(status.message());
      verdict.Join(CompareConvolution(*data[i]));
    }
    return verdict;
  }
  std::vector<std::unique_ptr<ConvolutionData>> data;
  std::vector<DenseWeights> layers;
};

std::unique_ptr<DenseSet> Make(const SmallVision& model, const DenseOptions& options) {
  auto set = DenseSet::Create(model.layers, options);
  INFO(set.status().message());
  REQUIRE(set.ok());
  return set.Take();
}

void CheckRight(const SmallVision& model, const DenseSet& set, xnnpack::ThreadPool& pool) {
  const Verdict verdict = model.Run(set, pool);
  INFO(verdict.Why());
  CHECK(verdict.accepted());
}

TEST_CASE("weights of convolutions lie in the cache file and are found again",
          "[convolution][cache]") {
  const SmallVision model;
  const auto pool = Pool(1);
  const TemporaryFolder folder;
  DenseOptions options;
  CheckRight(model, *Make(model, options), *pool);
  options.cache_directory = folder.path();
  {
    const auto cold = Make(model, options);
    CHECK(cold->packed().built);
    CHECK(cold->packed().mapped);
    CheckRight(model, *cold, *pool);
  }
  const auto warm = Make(model, options);
  CHECK_FALSE(warm->packed().built);
  CHECK(warm->packed().private_bytes == 0);
  CheckRight(model, *warm, *pool);
}

TEST_CASE("a damaged cache file of convolutions is packed anew", "[convolution][cache]") {
  const SmallVision model;
  const auto pool = Pool(1);
  const TemporaryFolder folder;
  LogLines log;
  DenseOptions options;
  options.cache_directory = folder.path();
  options.log = log.log();
  Make(model, options);
  REQUIRE(folder.files().size() == 1);
  const std::vector<char> intact = ReadAll(folder.files()[0]);
  for (const size_t place : {size_t{20}, intact.size() / 2, intact.size() - 64}) {
    std::vector<char> damaged = intact;
    damaged[place] ^= 4;
    WriteAll(folder.files()[0], damaged);
    log.lines.clear();
    const auto set = Make(model, options);
    INFO("byte " << place);
    CHECK(set->packed().built);
    CHECK(log.lines.size() == 1);
    CHECK(ReadAll(folder.files()[0]) == intact);
    CheckRight(model, *set, *pool);
  }
}

TEST_CASE("weights packed for other codes are not taken", "[convolution][cache]") {
  ConvolutionCase c;
  c.dtype = DType::kI8;
  c.group_in = 5;
  c.group_out = 7;
  c.rows = c.columns = 4;
  const ConvolutionData data(c);
  const TemporaryFolder folder;
  DenseOptions options;
  options.cache_directory = folder.path();
  ConvolutionSpec other = data.spec;
  other.in_scale *= 2;  // of which the packed bias is made
  const DenseWeights first = data.Layer(other), second = data.Layer(data.spec);
  REQUIRE(DenseSet::Create({&first, 1}, options).ok());
  auto set = DenseSet::Create({&second, 1}, options);
  REQUIRE(set.ok());
  CHECK(set.value()->packed().built);
  REQUIRE(RunPacked(data, data.spec, *set.value(), 0, *Pool(1)).ok());
  CHECK(CompareConvolution(data).accepted());
}

// With this flag XNNPACK says what it would otherwise take from the heap.
xnn_status CreateTransient(const ConvolutionData& data, xnn_operator_t* op) {
  const ConvolutionSpec& s = data.spec;
  const auto& c = data.shape();
  constexpr uint32_t kFlag = XNN_FLAG_TRANSIENT_INDIRECTION_BUFFER;
  if (c.halves) {
    return xnn_create_convolution2d_nhwc_f16(
        s.pad[0], s.pad[3], s.pad[2], s.pad[1], s.kernel[0], s.kernel[1], s.stride[0], s.stride[1],
        s.dilation[0], s.dilation[1], c.groups, c.group_in, c.group_out, data.in_stride,
        data.out_stride, data.weights.data(), nullptr, -INFINITY, INFINITY, kFlag, nullptr, nullptr,
        op);
  }
  if (!c.codes()) {
    return xnn_create_convolution2d_nhwc_f32(
        s.pad[0], s.pad[3], s.pad[2], s.pad[1], s.kernel[0], s.kernel[1], s.stride[0], s.stride[1],
        s.dilation[0], s.dilation[1], c.groups, c.group_in, c.group_out, data.in_stride,
        data.out_stride, data.weights.as<float>(), nullptr, -INFINITY, INFINITY, kFlag, nullptr,
        nullptr, op);
  }
  const xnnpack::ConvolutionSource source =
      xnnpack::SourceOf(xnnpack::SliceOf(data.Layer(s)).value());
  return xnn_create_convolution2d_nhwc_qs8_qc8w(
      s.pad[0], s.pad[3], s.pad[2], s.pad[1], s.kernel[0], s.kernel[1], s.stride[0], s.stride[1],
      s.dilation[0], s.dilation[1], c.groups, c.group_in, c.group_out, data.in_stride,
      data.out_stride, static_cast<int8_t>(s.in_zero), s.in_scale, data.scales.as<float>(),
      static_cast<const int8_t*>(source.weights), nullptr, static_cast<int8_t>(s.out_zero),
      s.out_scale, -128, 127, kFlag, nullptr, nullptr, op);
}

TEST_CASE("a plan counts no less for a convolution than XNNPACK takes", "[convolution][plan]") {
  REQUIRE(xnnpack::InitializeXnnpack().ok());
  const auto pool = Pool(3);
  uint64_t pointers = 0;
  std::vector<ConvolutionCase> cases = ConvolutionGrid(4);
  for (const ConvolutionCase& c : LargeCases()) cases.push_back(c);
  for (const ConvolutionCase& c : cases) {
    if (c.dtype == DType::kF16 && !c.halves) continue;  // as f32
    if (c.halves && !CpuHasHalves()) continue;
    const ConvolutionData data(c);
    xnn_operator_t op = nullptr;
    REQUIRE(CreateTransient(data, &op) == xnn_status_success);
    size_t bytes = 0, alignment = 0, rows = 0, columns = 0;
    const auto reshape = c.codes()  ? xnn_reshape_convolution2d_nhwc_qs8_qc8w
                         : c.halves ? xnn_reshape_convolution2d_nhwc_f16
                                    : xnn_reshape_convolution2d_nhwc_f32;
    REQUIRE(reshape(op, c.batch, c.rows, c.columns, &bytes, &alignment, &rows, &columns,
                    pool->handle()) == xnn_status_success);
    xnn_delete_operator(op);
    INFO(Describe(c));
    CHECK(rows == data.out_rows);
    CHECK(columns == data.out_columns);
    const plan::ConvolutionBytes planned = PlannedBytes(c, 3);
    CHECK(bytes <= planned.kept + planned.workspace);
    // And not much more where it counts.
    if (bytes > 8192) CHECK(planned.kept + planned.workspace <= 2 * bytes + 4096);
    pointers += bytes;
  }
  CHECK(pointers > 0);
}

}  // namespace
}  // namespace headroom::test
