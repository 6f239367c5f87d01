// Hostile files: vision models.
#include <catch2/catch_test_macros.hpp>

#include "model/hostile_graph.h"
#include "model/image_model.h"

namespace headroom::test {
namespace {

const AlignedBytes& ImageFile() {
  static const AlignedBytes file = [] {
    convert::ModelDescription d = ImageModel();
    d.tensors.push_back({"halves", DType::kF16, 0, {8}});
    d.tensors.push_back({"nibbles", DType::kI4, 0, {8, 8}});
    d.tensors.push_back({"half table", DType::kF16, 0, {65, 8}});
    return WriteToMemory(d);
  }();
  return file;
}

void ExpectImageRefused(std::initializer_list<Bend> bends) {
  ExpectRefused(std::span(bends.begin(), bends.size()), ImageFile());
}

// The operation number `nth` with this kind of attributes.
template <typename Attributes>
fb::OpT& Nth(fb::ModelT& graph, size_t nth = 0) {
  for (auto& op : graph.ops) {
    if (op->attributes.type != fb::OpAttributesUnionTraits<Attributes>::enum_value) continue;
    if (nth-- == 0) return *op;
  }
  std::abort();
}
template <typename Attributes>
Attributes& Of(fb::ModelT& graph, size_t nth = 0) {
  return *static_cast<Attributes*>(Nth<Attributes>(graph, nth).attributes.value);
}
fb::ConvolutionOpT& Conv(fb::ModelT& g, size_t nth = 0) { return Of<fb::ConvolutionOpT>(g, nth); }
fb::ValueT& Output(fb::ModelT& graph, const fb::OpT& op) {
  return *graph.values[static_cast<size_t>(op.outputs[0])];
}
void SetChannels(fb::ValueT& value, uint32_t channels) {
  value.dims[3] = fb::Dim(fb::DimSymbol::Constant, channels);
}
fb::ValueT& FirstCodes(fb::ModelT& graph) {
  for (auto& value : graph.values) {
    if (value->dtype == fb::DType::I8) return *value;
  }
  std::abort();
}
int32_t TensorNamed(const fb::ModelT& graph, const char* name) {
  for (size_t i = 0; i < graph.tensors.size(); ++i) {
    if (graph.tensors[i]->name == name) return static_cast<int32_t>(i);
  }
  std::abort();
}

TEST_CASE("the file that is bent opens", "[model][images]") {
  const Status status = OpenStatus(ImageFile().span());
  INFO(status.message());
  CHECK(status.ok());
}

TEST_CASE("group 15: values that are no pictures are refused", "[model][hostile][images]") {
  ExpectImageRefused({
      {"grey pictures", kUnsupported, "pictures of 1 channels, not 3",
       [](auto& g) { SetChannels(*g.values[0], 1); }},
      {"pictures of codes", kUnsupported, "I8 elements",
       [](auto& g) { g.values[0]->dtype = fb::DType::I8; }},
      {"pictures of halves", kUnsupported, "F16 elements",
       [](auto& g) { g.values[0]->dtype = fb::DType::F16; }},
      {"no channels", kCorrupt, "0 channels, not 1..65536",
       [](auto& g) { SetChannels(*g.values[2], 0); }},
      {"too many", kCorrupt, "65537 channels", [](auto& g) { SetChannels(*g.values[2], 65537); }},
      {"three dimensions", kUnsupported, "3 dimensions, not 4",
       [](auto& g) { g.values[1]->dims.pop_back(); }},
      {"tokens", kUnsupported, "not [B, Spatial, Spatial, channels]",
       [](auto& g) { g.values[1]->dims[1] = fb::Dim(fb::DimSymbol::T, 1); }},
      {"two of each row", kUnsupported, "not [B, Spatial, Spatial, channels]",
       [](auto& g) { g.values[1]->dims[1] = fb::Dim(fb::DimSymbol::Spatial, 2); }},
      {"symbol 200", kUnsupported, "dimension symbol 200",
       [](auto& g) { g.values[1]->dims[1] = fb::Dim(Unknown<fb::DimSymbol>(), 1); }},
      {"type 200", kUnsupported, "element type 200",
       [](auto& g) { g.values[1]->dtype = Unknown<fb::DType>(); }},
      {"halves", kUnsupported, "mixed element types",
       [](auto& g) { g.values[1]->dtype = fb::DType::F16; }},
      {"scale 0", kCorrupt, "scale 0 is not a normal", [](auto& g) { FirstCodes(g).scale = 0; }},
      {"scale NaN", kCorrupt, "scale nan is not", [](auto& g) { FirstCodes(g).scale = kNan; }},
      {"scale infinite", kCorrupt, "scale inf is not",
       [](auto& g) { FirstCodes(g).scale = kInfinity; }},
      {"scale below 0", kCorrupt, "scale -0.05 is not",
       [](auto& g) { FirstCodes(g).scale = -0.05f; }},
      {"scale denormal", kCorrupt, "is not a normal",
       [](auto& g) { FirstCodes(g).scale = std::numeric_limits<float>::denorm_min(); }},
      {"a control character", kCorrupt, "name", [](auto& g) { g.values[1]->name = "a\nb"; }},
  });
}

TEST_CASE("group 15: pictures are written once and before they are read",
          "[model][hostile][images]") {
  ExpectImageRefused({
      {"two writers", kCorrupt, "writes value 1 again", [](auto& g) { g.ops[1]->outputs = {1}; }},
      {"the pictures", kCorrupt, "writes value 0 again", [](auto& g) { g.ops[1]->outputs = {0}; }},
      {"ahead", kCorrupt, "reads value 9 before it is written",
       [](auto& g) { g.ops[1]->inputs = {9}; }},
      {"beyond", kCorrupt, "input value 999", [](auto& g) { g.ops[1]->inputs = {999}; }},
      {"output -1", kCorrupt, "output value -1", [](auto& g) { g.ops[1]->outputs = {-1}; }},
      {"nobody's", kCorrupt, "is written by no operation",
       [](auto& g) { g.values.push_back(std::make_unique<fb::ValueT>(*g.values[1])); }},
      {"one summand", kCorrupt, "1 inputs and 1 outputs, not 2 to 2",
       [](auto& g) { Nth<fb::AddOpT>(g).inputs.pop_back(); }},
      {"17 parts", kCorrupt, "17 inputs",
       [](auto& g) { Nth<fb::ConcatOpT>(g).inputs.assign(17, 1); }},
      {"no operations", kCorrupt, "no values or no operations", [](auto& g) { g.ops.clear(); }},
      {"no attributes", kCorrupt, "no attributes", [](auto& g) { g.ops[3]->attributes.Reset(); }},
      {"operation 200", kUnsupported, "operation 200 is unknown",
       [](auto& g) {
         g.ops[3]->attributes.Reset();
         g.ops[3]->attributes.type = Unknown<fb::OpAttributes>();
       }},
      {"of tokens", kUnsupported, "operation ScaleOp on pictures",
       [](auto& g) { g.ops[3]->attributes.Set(fb::ScaleOpT()); }},
      {"logits beyond", kCorrupt, "logits: value 999", [](auto& g) { g.logits = 999; }},
      {"no logits", kCorrupt, "logits: value -1", [](auto& g) { g.logits = -1; }},
      {"logits of others", kCorrupt, "8 classes, the metadata has 10",
       [](auto& g) { g.logits = 1; }},
      {"features beyond", kCorrupt, "features: value 999",
       [](auto& g) { g.vision->features = 999; }},
      {"features -2", kCorrupt, "features: value -2", [](auto& g) { g.vision->features = -2; }},
      {"features are pictures", kCorrupt, "are the pictures themselves",
       [](auto& g) { g.vision->features = 0; }},
      {"features of codes", kUnsupported, "features: f16 or int8 elements",
       [](auto& g) { g.vision->features = Nth<fb::ConvertOpT>(g).outputs[0]; }},
  });
}

// Convolutions of 8 to 8 channels, 1 x 1.
constexpr size_t kFloats = 3, kCodes = 6, kHalves = 7;

TEST_CASE("group 15: convolutions of pictures", "[model][hostile][images]") {
  ExpectImageRefused({
      {"no kernel", kCorrupt, "no kernel", [](auto& g) { Conv(g).kernel.clear(); }},
      {"kernel of an axis", kUnsupported, "kernel of 1 axes",
       [](auto& g) { Conv(g).kernel = {3}; }},
      {"kernel 0", kCorrupt, "kernel 0 is not 1..64",
       [](auto& g) {
         Conv(g).kernel = {3, 0};
       }},
      {"kernel 65", kCorrupt, "kernel 65 is not",
       [](auto& g) {
         Conv(g).kernel = {65, 3};
       }},
      {"kernel of others", kCorrupt, "weight has 27 columns, its input has 18",
       [](auto& g) {
         Conv(g).kernel = {3, 2};
       }},
      {"stride 0", kCorrupt, "stride 0 is not",
       [](auto& g) {
         Conv(g).stride = {2, 0};
       }},
      {"dilation 0", kCorrupt, "dilation 0 is not",
       [](auto& g) {
         Conv(g).dilation = {0, 1};
       }},
      {"padding 65", kCorrupt, "padding 65 is not",
       [](auto& g) {
         Conv(g).pad_begin = {65, 0};
       }},
      {"padding at the edge", kUnsupported, "padding Edge",
       [](auto& g) { Conv(g).pad_mode = fb::PadMode::Edge; }},
      {"padding 200", kUnsupported, "padding 200",
       [](auto& g) { Conv(g).pad_mode = Unknown<fb::PadMode>(); }},
      {"groups 0", kCorrupt, "3 to 8 channels in 0 groups", [](auto& g) { Conv(g).groups = 0; }},
      {"groups 3", kCorrupt, "3 to 8 channels in 3 groups", [](auto& g) { Conv(g).groups = 3; }},
      {"causal", kUnsupported, "causal or transposed", [](auto& g) { Conv(g).causal = true; }},
      {"transposed", kUnsupported, "causal or transposed",
       [](auto& g) { Conv(g).transposed = true; }},
      {"activation 200", kUnsupported, "activation 200",
       [](auto& g) { Conv(g).activation = Unknown<fb::ActivationKind>(); }},
      {"gelu", kUnsupported, "GeluErf inside of a convolution",
       [](auto& g) { Conv(g).activation = fb::ActivationKind::GeluErf; }},
      {"no weight", kCorrupt, "weight is missing", [](auto& g) { Conv(g).weight.reset(); }},
      {"a vector", kCorrupt, "of rank 1, not a matrix",
       [](auto& g) { Conv(g).weight->tensor = Conv(g).weight->bias; }},
      {"some rows", kUnsupported, "rows 0 + 7 of a weight of 8",
       [](auto& g) { Conv(g).weight->rows = 7; }},
      {"bias of halves", kCorrupt, "bias is f16",
       [](auto& g) { Conv(g).weight->bias = TensorNamed(g, "halves"); }},
      {"codes on floats", kUnsupported, "a weight of int8 on f32 elements",
       [](auto& g) { Conv(g, kFloats).weight->tensor = Conv(g, kCodes).weight->tensor; }},
      {"floats on codes", kUnsupported, "a weight of f32 on int8 elements",
       [](auto& g) { Conv(g, kCodes).weight->tensor = Conv(g, kFloats).weight->tensor; }},
      {"floats on halves", kUnsupported, "a weight of f32 on f16 elements",
       [](auto& g) { Conv(g, kHalves).weight->tensor = Conv(g, kFloats).weight->tensor; }},
      {"codes into halves", kUnsupported, "int8 to f16",
       [](auto& g) { Nth<fb::ConvertOpT>(g, 2).inputs[0] = Nth<fb::ConvertOpT>(g).outputs[0]; }},
      {"nibbles", kUnsupported, "a weight of int4",
       [](auto& g) { Conv(g, kFloats).weight->tensor = TensorNamed(g, "nibbles"); }},
      {"more channels", kCorrupt, "maps 3 to 9 channels, it should map 3 to 8",
       [](auto& g) { SetChannels(*g.values[1], 9); }},
      {"codes from floats", kUnsupported, "mixed element types",
       [](auto& g) {
         g.values[1]->dtype = fb::DType::I8;
         g.values[1]->scale = 1.0f;
       }},
  });
}

fb::NormT& Norm(fb::ModelT& g, size_t nth = 0) { return *Of<fb::NormOpT>(g, nth).norm; }

TEST_CASE("group 15: norms and activations of pictures", "[model][hostile][images]") {
  ExpectImageRefused({
      {"no norm", kCorrupt, "no norm", [](auto& g) { Of<fb::NormOpT>(g).norm.reset(); }},
      {"rms", kUnsupported, "a Rms norm of pictures",
       [](auto& g) { Norm(g).kind = fb::NormKind::Rms; }},
      {"norm 200", kUnsupported, "norm kind 200",
       [](auto& g) { Norm(g).kind = Unknown<fb::NormKind>(); }},
      {"groups 2", kCorrupt, "3 channels in 2 groups", [](auto& g) { Norm(g).groups = 2; }},
      {"groups 0", kCorrupt, "3 channels in 0 groups", [](auto& g) { Norm(g).groups = 0; }},
      {"no weight", kCorrupt, "weight -1 is not in", [](auto& g) { Norm(g).weight = -1; }},
      {"another weight", kCorrupt, "weight is f32 of rank 1, 8 long, not f32 [3]",
       [](auto& g) { Norm(g).weight = Norm(g, 1).weight; }},
      {"another bias", kCorrupt, "bias is f32 of rank 1, 8 long",
       [](auto& g) { Norm(g).bias = Norm(g, 1).bias; }},
      {"epsilon 0", kCorrupt, "epsilon 0 is not in", [](auto& g) { Norm(g).epsilon = 0; }},
      {"epsilon NaN", kCorrupt, "epsilon nan", [](auto& g) { Norm(g).epsilon = kNan; }},
      {"activation 200", kUnsupported, "activation 200",
       [](auto& g) { Of<fb::ActivationOpT>(g).activation = Unknown<fb::ActivationKind>(); }},
      {"no activation", kCorrupt, "no activation",
       [](auto& g) { Of<fb::ActivationOpT>(g).activation = fb::ActivationKind::None; }},
      {"sigmoid of codes", kUnsupported, "f16 or int8 elements",
       [](auto& g) { Of<fb::ActivationOpT>(g, 2).activation = fb::ActivationKind::Sigmoid; }},
  });
}

fb::PoolOpT& Pool(fb::ModelT& g, size_t nth = 0) { return Of<fb::PoolOpT>(g, nth); }
fb::ResizeOpT& Resize(fb::ModelT& g) { return Of<fb::ResizeOpT>(g); }
constexpr size_t kGlobal = 0, kMax = 1;

TEST_CASE("group 15: pools and resizes of pictures", "[model][hostile][images]") {
  ExpectImageRefused({
      {"no kind", kCorrupt, "no kind", [](auto& g) { Pool(g).kind = fb::PoolKind::None; }},
      {"pool 200", kUnsupported, "pool 200",
       [](auto& g) { Pool(g).kind = Unknown<fb::PoolKind>(); }},
      {"kernel 0", kCorrupt, "kernel 0 is not 1..64",
       [](auto& g) {
         Pool(g, kMax).kernel = {0, 2};
       }},
      {"stride 0", kCorrupt, "stride 0 is not",
       [](auto& g) {
         Pool(g, kMax).stride = {1, 0};
       }},
      {"padding as wide as the window", kCorrupt, "padding 3 and 1 of a window of 3",
       [](auto& g) {
         Pool(g, kMax).pad_begin = {3, 0};
       }},
      {"the same behind", kCorrupt, "padding 0 and 2 of a window of 2",
       [](auto& g) {
         Pool(g, kMax).pad_end = {1, 2};
       }},
      {"padding of all", kCorrupt, "padding 1 and 0 of a window of 1",
       [](auto& g) {
         Pool(g, kGlobal).pad_begin = {1, 0};
       }},
      {"another width", kCorrupt, "maps 8 to 4 channels",
       [](auto& g) { SetChannels(Output(g, Nth<fb::PoolOpT>(g, kMax)), 4); }},
      {"no resize", kCorrupt, "no kind", [](auto& g) { Resize(g).kind = fb::ResizeKind::None; }},
      {"resize 200", kUnsupported, "resize 200",
       [](auto& g) { Resize(g).kind = Unknown<fb::ResizeKind>(); }},
      {"to nothing", kCorrupt, "to 0 x 0 or by 0", [](auto& g) { Resize(g).factor = 0; }},
      {"by 65", kCorrupt, "to 0 x 0 or by 65", [](auto& g) { Resize(g).factor = 65; }},
      {"to 16385", kCorrupt, "to 16385 x 1 or by 0",
       [](auto& g) {
         Resize(g).factor = 0;
         Resize(g).height = 16385;
         Resize(g).width = 1;
       }},
  });
}

fb::SliceOpT& Slice(fb::ModelT& g) { return Of<fb::SliceOpT>(g); }

TEST_CASE("group 15: parts of pictures", "[model][hostile][images]") {
  ExpectImageRefused({
      {"empty", kCorrupt, "0 to 0 in steps of 1", [](auto& g) { Slice(g).end = 0; }},
      {"backwards", kCorrupt, "4 to 3 in steps of 1", [](auto& g) { Slice(g).begin = 4; }},
      {"in steps", kCorrupt, "in steps of 2", [](auto& g) { Slice(g).step = 2; }},
      {"out of range", kCorrupt, "channels up to 9 of 8", [](auto& g) { Slice(g).end = 9; }},
      {"the last number", kCorrupt, "channels up to 4294967295 of 8",
       [](auto& g) { Slice(g).end = UINT32_MAX; }},
      {"of columns", kUnsupported, "a slice of axis 2", [](auto& g) { Slice(g).axis = 2; }},
      {"from the end", kUnsupported, "a slice of axis -1", [](auto& g) { Slice(g).axis = -1; }},
      {"narrower", kCorrupt, "maps 8 to 3 channels, it should map 8 to 2",
       [](auto& g) { Slice(g).end = 2; }},
      {"another scale", kUnsupported, "scale 0.0625 and zero point 4 become 0.0625 and 5",
       [](auto& g) { Output(g, Nth<fb::SliceOpT>(g, 2)).zero_point = 5; }},
      {"concatenated rows", kUnsupported, "of axis 1",
       [](auto& g) { Of<fb::ConcatOpT>(g).axis = 1; }},
      {"too few parts", kCorrupt, "it should map 3 to 3",
       [](auto& g) { Nth<fb::ConcatOpT>(g).inputs.pop_back(); }},
      {"a square", kUnsupported, "a shape other than [B, Spatial, 1, C]",
       [](auto& g) { Of<fb::ReshapeOpT>(g).dims[2] = fb::Dim(fb::DimSymbol::Constant, 2); }},
      {"channels moved", kCorrupt, "maps 8 to 8 channels, it should map 4 to 4",
       [](auto& g) { Of<fb::ReshapeOpT>(g).dims[3] = fb::Dim(fb::DimSymbol::Constant, 4); }},
      {"no shape", kUnsupported, "a shape other than",
       [](auto& g) { Of<fb::ReshapeOpT>(g).dims.clear(); }},
      {"sum of unlike", kCorrupt, "8 and 3 channels",
       [](auto& g) { Nth<fb::AddOpT>(g).inputs[1] = Nth<fb::SliceOpT>(g).outputs[0]; }},
      {"factors of codes", kUnsupported, "factors that are not f32",
       [](auto& g) {
         auto& add = Nth<fb::AddOpT>(g, 1);  // of codes
         add.attributes.Set(fb::MultiplyOpT());
       }},
      {"converted channels", kCorrupt, "maps 8 to 7 channels",
       [](auto& g) { SetChannels(Output(g, Nth<fb::ConvertOpT>(g)), 7); }},
  });
}

fb::SelfAttentionOpT& Attention(fb::ModelT& g) { return Of<fb::SelfAttentionOpT>(g); }
fb::PositionEmbeddingOpT& Positions(fb::ModelT& g) { return Of<fb::PositionEmbeddingOpT>(g); }

TEST_CASE("group 15: attention and positions of pictures", "[model][hostile][images]") {
  ExpectImageRefused({
      {"no heads", kCorrupt, "0 heads of 2 and 3", [](auto& g) { Attention(g).heads = 0; }},
      {"4097 heads", kCorrupt, "4097 heads", [](auto& g) { Attention(g).heads = 4097; }},
      {"no queries", kCorrupt, "1 heads of 0 and 3", [](auto& g) { Attention(g).query_width = 0; }},
      {"no values", kCorrupt, "1 heads of 2 and 0", [](auto& g) { Attention(g).value_width = 0; }},
      {"others", kCorrupt, "maps 7 to 3 channels, it should map 9 to 3",
       [](auto& g) { Attention(g).query_width = 3; }},
      {"scale NaN", kCorrupt, "scale nan", [](auto& g) { Attention(g).scale = kNan; }},
      {"scale 0", kCorrupt, "scale 0", [](auto& g) { Attention(g).scale = 0; }},
      {"relu6", kUnsupported, "Relu6 behind attention",
       [](auto& g) { Attention(g).activation = fb::ActivationKind::Relu6; }},
      {"prefix as long as the table", kCorrupt, "65 rows in front of a table of 65",
       [](auto& g) { Positions(g).prefix = 65; }},
      {"prefix longer", kCorrupt, "4294967295 rows in front of a table of 65",
       [](auto& g) { Positions(g).prefix = UINT32_MAX; }},
      {"no table", kCorrupt, "table is missing", [](auto& g) { Positions(g).weight.reset(); }},
      {"a table of halves", kUnsupported, "a table of f16",
       [](auto& g) { Positions(g).weight->tensor = TensorNamed(g, "half table"); }},
      {"a part of it", kUnsupported, "in part or with a bias",
       [](auto& g) { Positions(g).weight->rows = 64; }},
  });
}

fb::PreprocessT& Preparation(fb::ModelT& g) { return *g.vision->preprocess; }

TEST_CASE("group 15: labels and preprocessing", "[model][hostile][images]") {
  ExpectImageRefused({
      {"a label missing", kCorrupt, "labels: 9 for 10 classes",
       [](auto& g) { g.vision->labels.pop_back(); }},
      {"a label more", kCorrupt, "labels: 11 for 10 classes",
       [](auto& g) { g.vision->labels.push_back("x"); }},
      {"a long label", kCorrupt, "labels: one",
       [](auto& g) { g.vision->labels[3] = std::string(257, 'x'); }},
      {"a broken label", kCorrupt, "labels: one", [](auto& g) { g.vision->labels[3] = "\xff"; }},
      {"none", kCorrupt, "preprocessing: missing", [](auto& g) { g.vision->preprocess.reset(); }},
      {"rule 200", kUnsupported, "resize rule 200",
       [](auto& g) { Preparation(g).resize = Unknown<fb::ResizeRule>(); }},
      {"filter 200", kUnsupported, "filter 200",
       [](auto& g) { Preparation(g).filter = Unknown<fb::ResizeFilter>(); }},
      {"rounding 200", kUnsupported, "crop rounding 200",
       [](auto& g) { Preparation(g).rounding = Unknown<fb::CropRounding>(); }},
      {"resize to 0", kCorrupt, "resize height 0",
       [](auto& g) { Preparation(g).resize_height = 0; }},
      {"exactly to 0", kCorrupt, "resize width 0",
       [](auto& g) { Preparation(g).resize = fb::ResizeRule::Exact; }},
      {"crop of 0", kCorrupt, "crop height 0", [](auto& g) { Preparation(g).crop_height = 0; }},
      {"crop of 16385", kCorrupt, "crop width 16385",
       [](auto& g) { Preparation(g).crop_width = 16385; }},
      {"scale 0", kCorrupt, "scale 0", [](auto& g) { Preparation(g).scale = 0; }},
      {"scale NaN", kCorrupt, "scale nan", [](auto& g) { Preparation(g).scale = kNan; }},
      {"two means", kCorrupt, "2 numbers as mean", [](auto& g) { Preparation(g).mean.pop_back(); }},
      {"mean NaN", kCorrupt, "mean nan", [](auto& g) { Preparation(g).mean[1] = kNan; }},
      {"deviation 0", kCorrupt, "deviation 0", [](auto& g) { Preparation(g).deviation[2] = 0; }},
      {"deviation below 0", kCorrupt, "deviation -1",
       [](auto& g) { Preparation(g).deviation[0] = -1; }},
  });
}

}  // namespace
}  // namespace headroom::test
