#include "plan/solve.h"

#include <catch2/catch_test_macros.hpp>

namespace headroom::plan {
namespace {

using model::Op;
using model::OpKind;

// Embedding, norm, one attention per window given, add, norm, logits; C = 8, H = 2, G = 1, D = 4, V
// = 16.
struct TinyModel : model::Model {
  explicit TinyModel(std::vector<uint32_t> lefts) {
    values.push_back({0});
    AddTensor("embedding", 16, 8);
    AddTensor("norm", 8, 0);
    AddTensor("qkv", 16, 8);
    AddTensor("out", 8, 8);
    AddTensor("frequencies", 2, 0);
    int32_t x = Emit(Make(OpKind::kEmbedding, 0), 8, 0);
    for (uint32_t left : lefts) {
      const int32_t h = Emit(Make(OpKind::kNorm, x), 8, 1);
      Op op = Make(OpKind::kAttention, h);
      op.attention = static_cast<int32_t>(attentions.size());
      attentions.push_back(Attention(left));
      const int32_t y = Emit(op, 8, model::kNone);
      x = Emit(Make(OpKind::kAdd, x, y), 8, model::kNone);
    }
    const int32_t h = Emit(Make(OpKind::kNorm, x), 8, 1);
    logits = Emit(Make(OpKind::kProjection, h), 16, 0);
    metadata.context_tokens = 1024;
    metadata.vocabulary = 16;
    file_bytes = 100000;
  }
  static Op Make(OpKind kind, int32_t first, int32_t second = model::kNone) {
    Op op;
    op.kind = kind;
    op.inputs[0] = first;
    op.inputs[1] = second;
    return op;
  }
  void AddTensor(const char* name, uint32_t rows, uint32_t columns) {
    TensorView tensor;
    tensor.name = name;
    tensor.rank = columns == 0 ? 1 : 2;
    tensor.extents = {rows, columns == 0 ? 1 : columns};
    tensor.data_bytes = uint64_t{rows} * (columns == 0 ? 1 : columns) * 4;
    tensors.push_back(tensor);
  }
  static model::AttentionSpec Attention(uint32_t left) {
    model::AttentionSpec spec;
    spec.query_heads = 2;
    spec.query.weight = {2, 0, 8, model::kNone};
    spec.key = {1, 4, {2, 8, 4, model::kNone}, {}, {}};
    spec.value = {1, 4, {2, 12, 4, model::kNone}, {}, {}};
    spec.views = {{0, 0, 0}};
    spec.output = {3, 0, 8, model::kNone};
    spec.query.rope.dims = 4;
    spec.query.rope.inverse_frequencies = 4;
    spec.key.rope = spec.query.rope;
    spec.head_map = {0, 0};
    spec.left = left;
    return spec;
  }
  int32_t Emit(Op op, uint32_t width, int32_t tensor) {
    if (tensor != model::kNone) {
      op.weight = {tensor, 0, width, model::kNone};
      op.norm.weight = tensor;
    }
    op.output = static_cast<int32_t>(values.size());
    values.push_back({width});
    ops.push_back(op);
    return op.output;
  }
};

BackendFacts Facts(const Lowered& lowered) {
  BackendFacts facts;
  facts.packed_bytes.assign(lowered.dense.size(), 4096);
  facts.packed_total_bytes = 4096 * lowered.dense.size();
  facts.input_kinds.assign(lowered.dense.size(), 0);
  facts.input_bytes = [](uint8_t, uint32_t rows, uint32_t columns) {
    return uint64_t{rows} * columns * 4;
  };
  facts.mix_scratch_bytes = [](uint32_t, uint32_t, uint32_t) { return uint64_t{1024}; };
  return facts;
}

std::vector<Profile> Only(RowCodec codec) { return {Uniform(codec)}; }

// Of the profiles that a session with these limits would have.
Plan Solve(const model::Model& model, const Lowered& lowered, const BackendFacts& facts,
           const Limits& limits) {
  return plan::Solve(model, lowered, facts, limits,
                     Profiles(model, limits.codec, limits.profile).Take());
}

TEST_CASE("neighbouring rows of one tensor become one dense layer", "[plan][lower]") {
  const TinyModel model({kUnlimited});
  const Lowered lowered = Lower(model).Take();
  REQUIRE(lowered.dense.size() == 3);  // qkv, output, logits
  CHECK(lowered.dense[0].rows == 16);
  const Step& append = lowered.steps[3];
  REQUIRE(append.kind == StepKind::kAppend);
  CHECK(append.streams[0].column == 8);
  CHECK(append.streams[2].column == 12);
  // A gap between the rows keeps them apart.
  TinyModel split({kUnlimited});
  split.attentions[0].key.weight.row_begin = 0;
  CHECK(Lower(split).Take().dense.size() == 5);
}

TEST_CASE("only steps after the last append are the tail", "[plan][lower]") {
  const TinyModel model({kUnlimited, kUnlimited});
  const Lowered lowered = Lower(model).Take();
  REQUIRE(lowered.steps[lowered.tail_begin - 1].kind == StepKind::kAppend);
  CHECK(lowered.steps[lowered.tail_begin].kind == StepKind::kMix);
  CHECK(lowered.buffers[lowered.logits].tail);
  size_t appends = 0;
  for (size_t i = 0; i < lowered.tail_begin; ++i) {
    appends += lowered.steps[i].kind == StepKind::kAppend;
    if (lowered.steps[i].output != model::kNone) {
      CHECK_FALSE(lowered.buffers[lowered.steps[i].output].tail);
    }
  }
  CHECK(appends == 2);
}

TEST_CASE("the classes of a plan add up to its total", "[plan][solve]") {
  const TinyModel model({kUnlimited, 31});
  const Lowered lowered = Lower(model).Take();
  const Plan plan = Solve(model, lowered, Facts(lowered), {});
  CHECK(plan.fits);
  CHECK(plan.context == 1024);
  CHECK(plan.profile == "f16");
  CHECK(plan.private_bytes == plan.state_bytes + plan.activation_bytes + plan.scratch_bytes +
                                  plan.runtime_bytes + plan.packed_bytes);
  CHECK(plan.total_bytes == plan.private_bytes + plan.mapped_bytes);
  CHECK(plan.state_bytes_per_token == 2 * 4 * 2);  // one dense layer, one KV head
  BackendFacts mapped = Facts(lowered);
  mapped.packed_is_mapped = true;
  const Plan other = Solve(model, lowered, mapped, {});
  CHECK(other.total_bytes == plan.total_bytes);
  CHECK(other.private_bytes + plan.packed_bytes == plan.private_bytes);
}

TEST_CASE("a model trained on less than a good chunk still gets its longest context",
          "[plan][solve]") {
  TinyModel model({kUnlimited});
  model.metadata.context_tokens = 40;
  const Lowered lowered = Lower(model).Take();
  Limits limits;
  limits.budget_bytes =
      Price(model, lowered, Facts(lowered), {}, 20, 20, Only(RowCodec::kI8Token), 0).total_bytes;
  const Plan plan = Solve(model, lowered, Facts(lowered), limits);
  REQUIRE(plan.fits);
  CHECK(plan.context >= 20);
}

TEST_CASE("sizes past any machine never fit and never wrap", "[plan][solve]") {
  TinyModel model(std::vector<uint32_t>(128, kUnlimited));
  for (auto& spec : model.attentions) {
    spec.key.heads = spec.value.heads = 4096;
    spec.key.width = spec.value.width = 8192;
    spec.views.resize(4096);
  }
  model.metadata.context_tokens = 1u << 30;
  const Lowered lowered = Lower(model).Take();
  const Plan plan = Price(model, lowered, Facts(lowered), {}, 1u << 30, 8, Only(RowCodec::kF16), 0);
  CHECK_FALSE(plan.fits);
  CHECK(plan.total_bytes > uint64_t{1} << 47);
  CHECK(plan.total_bytes >= plan.private_bytes);
  CHECK(plan.private_bytes >= plan.state_bytes);
}

TEST_CASE("scratch is enough to recode the rows of a session", "[plan][solve]") {
  TinyModel model({kUnlimited, 7});
  model.metadata.context_tokens = 1u << 20;  // longer than anything a step needs scratch for
  const Lowered lowered = Lower(model).Take();
  for (uint32_t context : {8u, 1000u, 1u << 20}) {
    for (CodecChoice codec : {CodecChoice::kF32, CodecChoice::kF16}) {
      Limits limits;
      limits.context = context;
      limits.chunk = 8;
      limits.codec = codec;
      const Plan plan = Solve(model, lowered, Facts(lowered), limits);
      CHECK(plan.scratch_bytes >= store::ShrinkScratchBytes(plan.layers));
      CHECK(plan.arena_bytes() % 64 == 0);
    }
  }
}

TEST_CASE("what rooms above hold is planned to the byte", "[plan][solve]") {
  const TinyModel model({kUnlimited, 31});
  const Lowered lowered = Lower(model).Take();
  const Plan plan = Solve(model, lowered, Facts(lowered), {});
  Limits limits;
  limits.caller_table_bytes = 54321;
  const Plan with_tables = Solve(model, lowered, Facts(lowered), limits);
  CHECK(with_tables.runtime_bytes == plan.runtime_bytes + 54321);
  CHECK(with_tables.private_bytes == plan.private_bytes + 54321);
}

TEST_CASE("a plan fits its budget to the byte, and one byte less is refused", "[plan][solve]") {
  const TinyModel model({kUnlimited, 31});
  const Lowered lowered = Lower(model).Take();
  const BackendFacts facts = Facts(lowered);
  Limits limits;
  limits.context = 512;
  limits.chunk = 32;
  limits.codec = CodecChoice::kF16;
  const Plan plan = Solve(model, lowered, facts, limits);
  limits.budget_bytes = plan.total_bytes;
  CHECK(Solve(model, lowered, facts, limits).fits);
  limits.budget_bytes -= 1;
  const Plan refused = Solve(model, lowered, facts, limits);
  CHECK_FALSE(refused.fits);
  CHECK(refused.missing_bytes == 1);
  CHECK(refused.max_context > 0);
  CHECK(refused.max_context < 512);
  limits.context = refused.max_context;
  CHECK(Solve(model, lowered, facts, limits).fits);
  CHECK_FALSE(
      Price(model, lowered, facts, limits, refused.max_context + 1, 32, Only(RowCodec::kF16), 0)
          .fits);
  limits.budget_bytes = 0;
  limits.private_budget_bytes = plan.private_bytes - 1;
  limits.context = 512;
  limits.chunk = 32;
  CHECK(Solve(model, lowered, facts, limits).missing_bytes == 1);
}

TEST_CASE("more bytes never give a shorter context or a poorer cache", "[plan][solve]") {
  const TinyModel model({kUnlimited, kUnlimited});
  const Lowered lowered = Lower(model).Take();
  const BackendFacts facts = Facts(lowered);
  uint32_t last_context = 0;
  int refusals = 0, int8_plans = 0, f16_plans = 0;
  bool was_f16 = false;
  for (uint64_t budget = 300000; budget < 700000; budget += 1000) {
    Limits limits;
    limits.budget_bytes = budget;
    const Plan plan = Solve(model, lowered, facts, limits);
    if (!plan.fits) {
      ++refusals;
      REQUIRE(last_context == 0);
      REQUIRE(plan.total_bytes == budget + plan.missing_bytes);
      continue;
    }
    REQUIRE(plan.total_bytes <= budget);
    REQUIRE(plan.context >= last_context);
    REQUIRE((!was_f16 || plan.profile == "f16"));
    was_f16 = plan.profile == "f16";
    (was_f16 ? f16_plans : int8_plans) += 1;
    last_context = plan.context;
  }
  CHECK(refusals > 0);
  CHECK(int8_plans > 0);
  CHECK(f16_plans > 0);
}

TEST_CASE("a table looked up row by row costs what a few rows bring in", "[plan][solve]") {
  TinyModel model({kUnlimited});
  // An embedding of its own (not the output matrix), as large as a real vocabulary's.
  model.AddTensor("table", 100000, 8);
  model.tensors.back().data_bytes = uint64_t{100000} * 4096;
  model.ops[0].weight.tensor = static_cast<int32_t>(model.tensors.size() - 1);
  model.file_bytes += model.tensors.back().data_bytes;
  const Lowered lowered = Lower(model).Take();
  BackendFacts facts = Facts(lowered);
  const uint64_t whole =
      Price(model, lowered, facts, {}, 512, 512, Only(RowCodec::kF16), 0).weight_bytes;
  facts.weights_are_mapped = true;
  const uint64_t rows =
      Price(model, lowered, facts, {}, 512, 512, Only(RowCodec::kF16), 0).weight_bytes;
  CHECK(whole - rows == 100000ull * 4096 - kEmbeddingReleaseRows * (4096 + kFaultAroundBytes));
  // One that is no larger than that stays.
  CHECK(EmbeddingBytes(model.tensors.back()) < model.tensors.back().data_bytes);
  model.tensors.back().data_bytes = kEmbeddingReleaseRows * kFaultAroundBytes;
  CHECK(EmbeddingBytes(model.tensors.back()) == model.tensors.back().data_bytes);
}

TEST_CASE("a window shorter than the context bounds its layer", "[plan][solve]") {
  const TinyModel model({31});
  const Lowered lowered = Lower(model).Take();
  const BackendFacts facts = Facts(lowered);
  const Plan small = Price(model, lowered, facts, {}, 256, 16, Only(RowCodec::kF16), 0);
  const Plan large = Price(model, lowered, facts, {}, 1024, 16, Only(RowCodec::kF16), 0);
  CHECK(small.layers[0].lane(0).capacity == 48);
  CHECK(small.state_bytes == large.state_bytes);
}

TEST_CASE("latents expand from where that takes fewer operations", "[plan]") {
  TinyModel model({kUnlimited});
  model.AddTensor("key_matrix", 16 * 128, 512);
  model::AttentionSpec spec;  // DeepSeek-V2-Lite's
  spec.query_heads = 16;
  spec.query.width = 128 + 64;
  spec.query.matrix = {{5, 0, 16 * 512, model::kNone}, 16, 512};
  spec.key = {1, 512, {}, {}, {}};
  spec.tail = {1, 64, {}, {}, {}};
  spec.value.width = 512;
  spec.value_matrix = {{5, 0, 16 * 128, model::kNone}, 16, 128};
  CHECK(ExpandFrom(model, spec) == kUnlimited);  // no matrix to do it with
  spec.key_matrix = spec.value_matrix;
  // (2 * 512 + 64) - (192 + 128) = 768 fewer for every query, 512 * 256 more for every row.
  CHECK(ExpandFrom(model, spec) == 171);
  model.tensors[5].dtype = DType::kI4;
  CHECK(ExpandFrom(model, spec) == 43);
  spec.key.width = spec.value.width = spec.query.matrix.rows = 128;
  CHECK(ExpandFrom(model, spec) == kUnlimited);  // 320 either way
}

}  // namespace
}  // namespace headroom::plan
