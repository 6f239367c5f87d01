// Lowering and planning of vision models, against what brute force says of them.
#include "plan/image.h"

#include <catch2/catch_test_macros.hpp>
#include <map>

#include "model/image_builder.h"
#include "model/image_model.h"
#include "model/random_image_model.h"
#include "model/tiny_model.h"
#include "plan/image_solve.h"

namespace headroom::test {
namespace {

using model::ImageGraph;
using model::ImageOp;
using model::ImageOpKind;
using plan::ImageStepKind;
using plan::LoweredImage;

// An opened file and what it was lowered to.
struct Planned {
  explicit Planned(const convert::ModelDescription& description)
      : file(WriteToMemory(description)) {
    auto opened = model::Model::OpenMemory(file.data(), file.size(), {});
    INFO(opened.status().message());
    REQUIRE(opened.ok());
    model = opened.Take();
    lowered = plan::LowerImage(model->image);
  }
  const ImageGraph& graph() const { return model->image; }
  int32_t BufferOf(int32_t value) const { return lowered.places[value].buffer; }

  AlignedBytes file;
  std::unique_ptr<model::Model> model;
  LoweredImage lowered;
};

// Graphs of a few operations on pictures of 16 x 16.
class Small : public ImageBuilder {
 public:
  Small() { Value({3}); }
  convert::ModelDescription End(int32_t x) {
    d.image.logits = Project(GlobalPool(x), 4);
    d.image.preprocess.crop_height = d.image.preprocess.crop_width = 16;
    d.metadata = {"small", "Test", "Apache-2.0", "made by a test", 0, 4};
    return d;
  }
};

// --- what lies where, by simulation

// A number of one position: the operation's output it was made as, and its channel there.
using Tag = std::pair<int32_t, uint32_t>;
constexpr Tag kRubbish{-2, 0};

std::vector<std::vector<Tag>> TagsOf(const ImageGraph& graph) {
  std::vector<std::vector<Tag>> tags(graph.values.size());
  const auto own = [&](int32_t value) {
    for (uint32_t c = 0; c < graph.values[value].channels; ++c) tags[value].push_back({value, c});
  };
  own(0);
  for (const ImageOp& op : graph.ops) {
    std::vector<Tag>& out = tags[op.output];
    if (op.kind == ImageOpKind::kSlice) {
      const std::vector<Tag>& in = tags[op.inputs[0]];
      out.assign(in.begin() + op.begin, in.begin() + op.end);
    } else if (op.kind == ImageOpKind::kFlatten) {
      out = tags[op.inputs[0]];
    } else if (op.kind == ImageOpKind::kConcat) {
      for (const int32_t input : op.inputs) {
        out.insert(out.end(), tags[input].begin(), tags[input].end());
      }
    } else {
      own(op.output);
    }
  }
  return tags;
}

// Runs the steps on tags instead of numbers; outside of its life a buffer holds rubbish. Empty:
// every step found what its operation means to read, and so did the end.
std::string Simulate(const ImageGraph& graph, const LoweredImage& lowered) {
  const auto tags = TagsOf(graph);
  std::vector<std::vector<Tag>> memory;
  for (const plan::ImageBuffer& b : lowered.buffers) {
    memory.emplace_back(b.channels, kRubbish);
  }
  const auto holds = [&](int32_t value, int32_t step) {
    const plan::ImagePlace& place = lowered.places[value];
    const plan::ImageBuffer& buffer = lowered.buffers[place.buffer];
    const std::vector<Tag>& want = tags[value];
    return buffer.first_step <= step && step <= buffer.last_step &&
           place.channel + want.size() <= buffer.channels &&
           std::equal(want.begin(), want.end(), memory[place.buffer].begin() + place.channel);
  };
  std::copy(tags[0].begin(), tags[0].end(), memory[lowered.places[0].buffer].begin());
  const auto count = static_cast<int32_t>(lowered.steps.size());
  for (int32_t i = 0; i < count; ++i) {
    const plan::ImageStep& step = lowered.steps[i];
    const std::string where = "step " + std::to_string(i);
    std::vector<Tag> made = tags[step.output];
    for (const int32_t input : step.inputs) {
      if (input != model::kNone && !holds(input, i)) {
        return where + " does not find value " + std::to_string(input);
      }
    }
    if (step.kind == ImageStepKind::kCopy) made = tags[step.inputs[0]];
    const plan::ImageBuffer& buffer = lowered.buffers[step.target.buffer];
    if (i < buffer.first_step || i > buffer.last_step) return where + " writes a dead buffer";
    if (step.target.channel + made.size() > buffer.channels) return where + " writes too far";
    std::copy(made.begin(), made.end(), memory[step.target.buffer].begin() + step.target.channel);
  }
  for (const int32_t kept : {graph.logits, graph.features}) {
    if (kept != model::kNone && !holds(kept, count)) return "an end is lost";
  }
  return {};
}

// A step reads while it writes: where both lie in one buffer, they are the same channels, or apart.
std::string CheckOverwrites(const ImageGraph& graph, const LoweredImage& lowered) {
  for (const plan::ImageStep& step : lowered.steps) {
    const ImageOp& op = graph.ops[step.op];
    const uint32_t width = step.kind == ImageStepKind::kCopy ? graph.values[step.inputs[0]].channels
                                                             : graph.values[step.output].channels;
    for (const int32_t input : step.inputs) {
      if (input == model::kNone || lowered.places[input].buffer != step.target.buffer) continue;
      const uint32_t begin = lowered.places[input].channel;
      const uint32_t end = begin + graph.values[input].channels;
      const bool apart = end <= step.target.channel || begin >= step.target.channel + width;
      const bool pointwise = op.kind == ImageOpKind::kAdd || op.kind == ImageOpKind::kActivation ||
                             op.kind == ImageOpKind::kMultiply || op.kind == ImageOpKind::kNorm;
      const bool same = begin == step.target.channel && end - begin == width;
      if (!apart && !(pointwise && same))
        return "step overwrites what it reads: " + std::to_string(step.op);
    }
  }
  return {};
}

// No two buffers alive at one step share a byte.
std::string CheckPlacement(const LoweredImage& lowered, const plan::ImagePlan& plan) {
  const auto bytes = [&](size_t i) {
    const plan::ImageBuffer& b = lowered.buffers[i];
    return uint64_t{plan.size.batch} * plan.extents[b.value].positions() * b.channels *
           (DTypeBits(b.dtype) / 8);
  };
  for (size_t i = 0; i < lowered.buffers.size(); ++i) {
    const plan::ImageBuffer& a = lowered.buffers[i];
    if (plan.values.offsets[i] + bytes(i) > plan.value_region.bytes) return "outside of the region";
    for (size_t j = 0; j < i; ++j) {
      const plan::ImageBuffer& b = lowered.buffers[j];
      const bool together = a.first_step <= b.last_step && b.first_step <= a.last_step;
      const bool share = plan.values.offsets[i] < plan.values.offsets[j] + bytes(j) &&
                         plan.values.offsets[j] < plan.values.offsets[i] + bytes(i);
      if (together && share) return "buffers " + std::to_string(i) + " and " + std::to_string(j);
    }
  }
  return {};
}

plan::BackendFacts Facts(const Planned& p) {
  plan::BackendFacts facts;
  facts.packed_bytes.assign(p.lowered.convolutions.size(), 4096);
  facts.packed_total_bytes = 4096 * p.lowered.convolutions.size();
  return facts;
}

plan::ImagePlan Solve(const Planned& p, const plan::ImageLimits& limits) {
  auto plan = plan::SolveImage(*p.model, p.lowered, Facts(p), limits);
  INFO(plan.status().message());
  REQUIRE(plan.ok());
  return plan.Take();
}

TEST_CASE("lowered steps find every number where they look for it", "[plan][images]") {
  uint64_t in_place = 0, copies = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const Planned p(RandomImageModel(seed));
    INFO("seed " << seed);
    CHECK(Simulate(p.graph(), p.lowered).empty());
    CHECK(CheckOverwrites(p.graph(), p.lowered).empty());
    plan::ImageLimits limits;
    limits.size.batch = 1 + seed % 3;
    CHECK(CheckPlacement(p.lowered, Solve(p, limits)).empty());
    for (const plan::ImageStep& step : p.lowered.steps) {
      copies += step.kind == ImageStepKind::kCopy;
      in_place +=
          step.inputs[0] != model::kNone && p.BufferOf(step.inputs[0]) == step.target.buffer;
    }
  }
  CHECK(in_place > 300);
  CHECK(copies > 300);
  const Planned all(ImageModel());
  CHECK(Simulate(all.graph(), all.lowered).empty());
}

// The simulation above is a judge: it sees what lowering could get wrong.
TEST_CASE("wrong lowerings are noticed", "[plan][images][mutant]") {
  const auto noticed = [](const auto& bend) {
    for (uint32_t seed = 0; seed < 40; ++seed) {
      Planned p(RandomImageModel(seed));
      bend(p);
      plan::ImageLimits limits;
      if (!Simulate(p.graph(), p.lowered).empty()) return true;
      if (!CheckOverwrites(p.graph(), p.lowered).empty()) return true;
      if (!CheckPlacement(p.lowered, Solve(p, limits)).empty()) return true;
    }
    return false;
  };
  CHECK_FALSE(noticed([](Planned&) {}));
  CHECK(noticed([](Planned& p) {  // a copy left out
    std::erase_if(p.lowered.steps,
                  [](const plan::ImageStep& s) { return s.kind == ImageStepKind::kCopy; });
  }));
  CHECK(noticed([](Planned& p) {  // a slice at the wrong channel
    for (const ImageOp& op : p.graph().ops) {
      if (op.kind == ImageOpKind::kSlice && op.begin > 0) p.lowered.places[op.output].channel--;
    }
  }));
  CHECK(noticed([](Planned& p) {  // buffers die a step early
    for (auto& b : p.lowered.buffers) b.last_step = std::max(b.first_step, b.last_step - 1);
  }));
  CHECK(noticed([](Planned& p) {  // written over whether or not it dies
    for (plan::ImageStep& s : p.lowered.steps) {
      if (s.kind != ImageStepKind::kActivation) continue;
      s.target = p.lowered.places[s.output] = p.lowered.places[s.inputs[0]];
    }
  }));
}

size_t Count(const LoweredImage& lowered, ImageStepKind kind) {
  return static_cast<size_t>(
      std::count_if(lowered.steps.begin(), lowered.steps.end(),
                    [&](const plan::ImageStep& s) { return s.kind == kind; }));
}

TEST_CASE("slices, flattening and concatenations are no steps", "[plan][images]") {
  Small b;
  const int32_t x = b.Project(0, 8);
  const int32_t left = b.Slice(x, 0, 3), right = b.Slice(x, 3, 8);
  const int32_t a = b.Project(left, 5), c = b.Project(right, 4);
  const int32_t joined = b.Concat(a, c);
  const int32_t flat = b.Same(Small::Of(ImageOpKind::kFlatten), {joined});
  const Planned p(b.End(flat));
  CHECK(p.lowered.steps.size() == 5);  // three projections, a pool and the logits
  CHECK(p.BufferOf(left) == p.BufferOf(x));
  CHECK(p.lowered.places[right].channel == 3);
  CHECK(p.BufferOf(a) == p.BufferOf(joined));
  CHECK(p.BufferOf(c) == p.BufferOf(joined));
  CHECK(p.lowered.places[c].channel == 5);
  CHECK(p.BufferOf(flat) == p.BufferOf(joined));
  CHECK(Count(p.lowered, ImageStepKind::kCopy) == 0);
}

TEST_CASE("what is joined twice, or made by nobody, is copied", "[plan][images]") {
  Small b;
  const int32_t x = b.Project(0, 8), y = b.Project(x, 8);
  const int32_t first = b.Concat(x, y), second = b.Concat(y, x);
  const int32_t sum = b.Sum(b.Project(first, 4), b.Project(second, 4));
  const Planned p(b.End(sum));
  CHECK(Count(p.lowered, ImageStepKind::kCopy) == 2);
  Small doubled;
  const Planned q(doubled.End(doubled.Concat(doubled.Project(0, 8), 0)));
  CHECK(Count(q.lowered, ImageStepKind::kCopy) == 1);  // the pictures
  Small twice;
  const int32_t z = twice.Project(0, 4);
  const Planned r(twice.End(twice.Concat(z, z)));
  CHECK(Count(r.lowered, ImageStepKind::kCopy) == 1);
}

TEST_CASE("steps write over what dies in them and nothing else", "[plan][images]") {
  Small b;
  const int32_t x = b.Project(0, 8);
  const int32_t act = b.Activate(x, model::Activation::kRelu);  // x is read again
  const int32_t norm = b.Norm(act, 1);                          // act is not
  const int32_t sum = b.Sum(norm, x);
  const int32_t part = b.Slice(sum, 0, 4);
  const int32_t cut = b.Activate(part, model::Activation::kRelu);  // a part of a buffer
  const Planned p(b.End(b.Sum(b.Project(cut, 8), b.Project(sum, 8))));
  CHECK(p.BufferOf(act) != p.BufferOf(x));
  CHECK(p.BufferOf(norm) == p.BufferOf(act));
  CHECK(p.BufferOf(sum) == p.BufferOf(norm));
  CHECK(p.BufferOf(cut) != p.BufferOf(part));
  CHECK(p.BufferOf(0) != p.BufferOf(x));
}

// --- sizes

TEST_CASE("extents follow from the windows, on odd pictures too", "[plan][images]") {
  Small b;
  ImageOp op;
  op.window = {{3, 5}, {2, 3}, {1, 2}, {1, 0, 0, 4}};
  const int32_t windowed = b.Convolve(0, op, DType::kF32, {4});
  const int32_t pooled =
      b.Pool(windowed, model::PoolKind::kMax, {{2, 3}, {2, 1}, {1, 1}, {1, 1, 0, 2}});
  const int32_t strips =
      b.Pool(pooled, model::PoolKind::kAverage, {{2, 0}, {1, 1}, {1, 1}, {}, true});
  const int32_t grown = b.Resize(strips, 0, 0, 3, true);
  const int32_t sized = b.Resize(grown, 5, 2, 0, false);
  const int32_t flat = b.Same(Small::Of(ImageOpKind::kFlatten), {sized});
  ImageOp rows = Small::Of(ImageOpKind::kRows);
  rows.begin = 2;
  rows.end = 6;
  const Planned p(b.End(b.Same(rows, {flat})));
  const auto extents = plan::ImageExtents(p.graph(), 37, 23).Take();
  const auto is = [&](int32_t value, uint32_t r, uint32_t c) {
    CHECK(extents[value].rows == r);
    CHECK(extents[value].columns == c);
  };
  is(windowed, (37 + 1 - 3) / 2 + 1, (23 + 4 - 9) / 3 + 1);  // 18 x 7
  is(pooled, (18 + 1 - 2) / 2 + 1, (7 + 3 - 3) / 1 + 1);     // 9 x 8
  is(strips, 2, 8);
  is(grown, 6, 24);
  is(sized, 5, 2);
  is(flat, 10, 1);
  is(p.graph().ops[6].output, 4, 1);
  // A window larger than the picture is refused by the operation's name.
  const auto refused = plan::ImageExtents(p.graph(), 37, 4);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  CHECK(std::string(refused.status().message()).find("\"op0\"") != std::string::npos);
}

TEST_CASE("multiply-adds are those of convolutions and attention", "[plan][images]") {
  Small b;
  ImageOp op;
  op.window = {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}};
  int32_t x = b.Convolve(0, op, DType::kF32, {8});
  op.groups = 8;
  x = b.Convolve(x, op, DType::kF32, {8});
  x = b.Attend(x, 2, 3, 8, false);
  const Planned p(b.End(x));
  const auto extents = plan::ImageExtents(p.graph(), 16, 12).Take();
  const uint64_t expected =
      8 * 6 * 9 * 3 * 8 + 4 * 3 * 9 * 1 * 8 + 12 * 8 * 20 + 12 * 12 * 2 * (3 + 4) + 8 * 4;
  CHECK(plan::ImageMultiplyAdds(p.graph(), extents) == expected);
}

// --- the solver

// Takes pictures of any size.
Planned Flexible() {
  Small b;
  ImageOp op;
  op.window = {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}};
  op.limit = model::Limit::kRelu;
  int32_t x = b.Convolve(0, op, DType::kF32, {16});
  op.groups = 16;
  x = b.Convolve(x, op, DType::kF16, {16});
  x = b.Sum(x, b.Project(b.Norm(x, 1), 16));
  x = b.Convolve(b.Attend(x, 2, 4, 16, true), {}, DType::kF32, {40});
  return Planned(b.End(x));
}

uint64_t ScratchOf(const void*, const plan::ImageSize& size) {
  return uint64_t{size.height} * size.width * 3;
}

plan::ImageLimits LimitsOf(uint32_t batch, uint32_t side) {
  plan::ImageLimits limits;
  limits.size = {batch, side, side};
  limits.threads = 2;
  limits.caller_scratch_bytes = ScratchOf;
  return limits;
}

TEST_CASE("bytes grow with the batch and with the side", "[plan][images]") {
  const Planned p = Flexible();
  uint64_t before = 0;
  for (uint32_t batch = 1; batch <= 40; ++batch) {
    const plan::ImagePlan plan = Solve(p, LimitsOf(batch, 48));
    CHECK(plan.total_bytes > before);
    before = plan.total_bytes;
  }
  before = 0;
  for (uint32_t side = 8; side <= 256; side += 8) {
    const plan::ImagePlan plan = Solve(p, LimitsOf(1, side));
    CHECK(plan.total_bytes > before);
    CHECK(plan.caller_region.bytes >= uint64_t{side} * side * 3);
    before = plan.total_bytes;
  }
}

TEST_CASE("the bytes missing are those that a budget lacks, to the byte", "[plan][images]") {
  const Planned p = Flexible();
  for (const bool is_private : {false, true}) {
    plan::ImageLimits limits = LimitsOf(2, 64);
    uint64_t& budget = is_private ? limits.private_budget_bytes : limits.budget_bytes;
    budget = 10000;
    const plan::ImagePlan small = Solve(p, limits);
    REQUIRE_FALSE(small.fits);
    REQUIRE(small.missing_bytes > 1);
    CHECK(small.missing_bytes == (is_private ? small.private_bytes : small.total_bytes) - budget);
    budget += small.missing_bytes;
    CHECK(Solve(p, limits).fits);
    CHECK(Solve(p, limits).missing_bytes == 0);
    --budget;
    CHECK_FALSE(Solve(p, limits).fits);
    CHECK(Solve(p, limits).missing_bytes == 1);
  }
}

TEST_CASE("sums of a plan are what they say", "[plan][images]") {
  const Planned p = Flexible();
  for (const bool mapped : {false, true}) {
    plan::BackendFacts facts = Facts(p);
    facts.packed_is_mapped = mapped;
    const auto plan = plan::SolveImage(*p.model, p.lowered, facts, LimitsOf(3, 64)).Take();
    CHECK(plan.arena_bytes() == plan.activation_bytes + plan.scratch_bytes);
    CHECK(plan.private_bytes ==
          plan.arena_bytes() + plan.runtime_bytes + (mapped ? 0 : plan.packed_bytes));
    CHECK(plan.mapped_bytes == plan.weight_bytes + (mapped ? plan.packed_bytes : 0));
    CHECK(plan.total_bytes == plan.private_bytes + plan.mapped_bytes);
    uint64_t direct = 0;  // the norm's
    for (const int32_t tensor : p.lowered.direct_tensors) {
      direct += p.model->tensors[tensor].data_bytes;
    }
    CHECK(plan.weight_bytes == direct);
    CHECK(direct == 2 * 16 * 4);
    const plan::Region* regions[] = {&plan.value_region, &plan.workspace_region,
                                     &plan.attention_region, &plan.caller_region};
    uint64_t end = 0;
    for (const plan::Region* region : regions) {
      CHECK(region->offset >= end);
      end = region->offset + region->bytes;
    }
    CHECK(end <= plan.arena_bytes());
  }
}

bool FitsIn(const Planned& p, plan::ImageLimits limits, const plan::ImageSize& size) {
  limits.size = size;
  const auto plan = plan::SolveImage(*p.model, p.lowered, Facts(p), limits);
  return plan.ok() && plan.value().fits;
}

void CheckLargest(const Planned& p, const plan::ImageLimits& limits, uint32_t batches,
                  uint32_t sides) {
  const plan::ImagePlan plan = Solve(p, limits);
  uint32_t batch = 0, side = 0;
  for (uint32_t n = 1; n <= batches; ++n) {
    if (FitsIn(p, limits, {n, limits.size.height, limits.size.width})) batch = n;
  }
  for (uint32_t n = plan::kSideStep; n <= sides; n += plan::kSideStep) {
    if (FitsIn(p, limits, {limits.size.batch, n, n})) side = n;
  }
  INFO("budget " << limits.budget_bytes << " batch " << limits.size.batch);
  CHECK(batch < batches);  // else the search here ended too early
  CHECK(side < sides);
  CHECK(plan.largest_batch == batch);
  CHECK(plan.largest_side == side);
}

TEST_CASE("the largest batch and side are what a search one by one finds", "[plan][images]") {
  const Planned p = Flexible();
  for (const uint64_t budget : {100000u, 500000u, 700000u, 1000000u, 3000000u}) {
    for (const uint32_t batch : {1u, 3u}) {
      plan::ImageLimits limits = LimitsOf(batch, 64);
      limits.budget_bytes = budget;
      CheckLargest(p, limits, 40, 352);
    }
  }
}

// A window that small pictures are too small for, and a pool that leaves one position of 97 alone.
TEST_CASE("the largest side is found though smaller and larger ones are refused",
          "[plan][images]") {
  Small b;
  ImageOp op;
  op.window = {{16, 16}, {16, 16}};
  int32_t x = b.Convolve(0, op, DType::kF32, {8});
  x = b.Pool(x, model::PoolKind::kAverage, {{7, 7}, {7, 7}});
  const int32_t flat = b.Same(Small::Of(ImageOpKind::kFlatten), {x});
  ImageOp rows = Small::Of(ImageOpKind::kRows);
  rows.end = 1;
  const Planned p(b.End(b.Same(rows, {flat})));
  plan::ImageLimits limits = LimitsOf(1, 128);
  limits.budget_bytes = 1200000;
  CheckLargest(p, limits, 40, 1024);
  CHECK(Solve(p, limits).largest_side > 128);

  Small one;
  x = one.Convolve(0, op, DType::kF32, {8});
  one.d.image.logits = one.Project(one.Pool(x, model::PoolKind::kAverage, {{7, 7}, {7, 7}}), 4);
  convert::ModelDescription d = one.d;
  d.image.preprocess.crop_height = d.image.preprocess.crop_width = 112;
  d.metadata = {"one", "Test", "Apache-2.0", "made by a test", 0, 4};
  const Planned q(d);
  limits.size = {};
  limits.size.batch = 1;
  limits.budget_bytes = 0;
  CHECK(Solve(q, limits).size.height == 112);
  CHECK(Solve(q, limits).largest_side == 192);  // 224 leaves four positions
}

TEST_CASE("sizes that cannot be are refused", "[plan][images]") {
  const Planned p = Flexible();
  const auto status = [&](const plan::ImageSize& size) {
    plan::ImageLimits limits;
    limits.size = size;
    return plan::SolveImage(*p.model, p.lowered, Facts(p), limits).status().code();
  };
  constexpr uint32_t kMost = model::kMaxImageSide;
  CHECK(status({1, 0, 0}) == StatusCode::kOk);  // as trained
  CHECK(status({0, 16, 16}) == StatusCode::kInvalidArgument);
  CHECK(status({plan::kMaxBatch + 1, 16, 16}) == StatusCode::kInvalidArgument);
  CHECK(status({1, kMost + 1, 16}) == StatusCode::kInvalidArgument);
  CHECK(status({1, 16, kMost + 1}) == StatusCode::kInvalidArgument);
}

TEST_CASE("a model with a table of positions has one size", "[plan][images]") {
  const Planned p(ImageModel());
  plan::ImageLimits limits;
  const plan::ImagePlan plan = Solve(p, limits);
  CHECK(plan.size.height == kImageSide);
  CHECK(plan.largest_side == kImageSide);
  limits.size = {1, 32, 32};
  const auto refused = plan::SolveImage(*p.model, p.lowered, Facts(p), limits);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().code() == StatusCode::kInvalidArgument);
  limits.size = {1, 0, 0};
  limits.budget_bytes = 1000;
  CHECK(Solve(p, limits).largest_side == 0);
}

}  // namespace
}  // namespace headroom::test
