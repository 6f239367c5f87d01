#include "model/image_model.h"

namespace headroom::test {
namespace {

using model::Activation;
using model::ImageOp;
using model::ImageOpKind;
using model::ImageValue;
using Kind = model::ImageOpKind;

class Builder {
 public:
  int32_t Value(const ImageValue& value) {
    d.image.values.push_back(value);
    return static_cast<int32_t>(d.image.values.size()) - 1;
  }
  const ImageValue& value(int32_t i) const { return d.image.values[static_cast<size_t>(i)]; }
  int32_t Tensor(const char* what, DType dtype, std::vector<uint32_t> extents) {
    d.tensors.push_back({what + std::to_string(d.tensors.size()), dtype, 0, std::move(extents)});
    return static_cast<int32_t>(d.tensors.size()) - 1;
  }
  int32_t Add(ImageOp op, std::vector<int32_t> inputs, const ImageValue& out) {
    op.inputs = std::move(inputs);
    op.output = Value(out);
    d.image.ops.push_back({op, "op" + std::to_string(d.image.ops.size())});
    return op.output;
  }
  // As the first input.
  int32_t Same(const ImageOp& op, std::vector<int32_t> inputs) {
    const ImageValue out = value(inputs[0]);
    return Add(op, std::move(inputs), out);
  }
  static ImageOp Of(Kind kind) {
    ImageOp op;
    op.kind = kind;
    return op;
  }

  int32_t Convolve(int32_t x, ImageOp op, DType dtype, ImageValue out) {
    op.kind = Kind::kConvolution;
    const uint32_t taps = op.window.kernel[0] * op.window.kernel[1];
    op.weight = Tensor("w", dtype, {out.channels, taps * value(x).channels / op.groups});
    op.bias = Tensor("b", DType::kF32, {out.channels});
    return Add(op, {x}, out);
  }
  int32_t Project(int32_t x, uint32_t channels) { return Convolve(x, {}, DType::kF32, {channels}); }
  int32_t Norm(int32_t x, uint32_t groups) {
    ImageOp op = Of(Kind::kNorm);
    op.groups = groups;
    op.epsilon = 1e-6f;
    op.weight = Tensor("n", DType::kF32, {value(x).channels});
    op.bias = Tensor("nb", DType::kF32, {value(x).channels});
    return Same(op, {x});
  }
  int32_t Activate(int32_t x, Activation activation) {
    ImageOp op = Of(Kind::kActivation);
    op.activation = static_cast<uint8_t>(activation);
    return Same(op, {x});
  }
  int32_t Slice(int32_t x, uint32_t begin, uint32_t end) {
    ImageOp op = Of(Kind::kSlice);
    op.begin = begin;
    op.end = end;
    ImageValue out = value(x);
    out.channels = end - begin;
    return Add(op, {x}, out);
  }
  int32_t Concat(int32_t x, int32_t y) {
    ImageValue out = value(x);
    out.channels += value(y).channels;
    return Add(Of(Kind::kConcat), {x, y}, out);
  }
  int32_t Sum(int32_t x, int32_t y) { return Same(Of(Kind::kAdd), {x, y}); }
  int32_t Pool(int32_t x, model::PoolKind kind, const model::WindowSpec& window) {
    ImageOp op = Of(Kind::kPool);
    op.pool = kind;
    op.window = window;
    return Same(op, {x});
  }
  int32_t GlobalPool(int32_t x) { return Pool(x, model::PoolKind::kAverage, {{0, 0}}); }
  int32_t Resize(int32_t x, uint32_t height, uint32_t width, uint32_t factor, bool bilinear) {
    ImageOp op = Of(Kind::kResize);
    op.size[0] = height;
    op.size[1] = width;
    op.factor = factor;
    op.bilinear = bilinear;
    op.align_corners = bilinear && factor == 0;
    return Same(op, {x});
  }
  int32_t Attend(int32_t x, uint32_t heads, uint32_t query, uint32_t channels, bool relu) {
    ImageOp op = Of(Kind::kSelfAttention);
    op.attention = {heads, query, channels / heads, 0.5f, relu};
    return Add(op, {Project(x, op.attention.input_width())}, {channels});
  }
  int32_t Stem(int32_t x);
  int32_t SingleHead(int32_t x);
  int32_t Excite(int32_t x);
  int32_t Codes(int32_t x);
  int32_t Windows(int32_t x);
  int32_t Positions(int32_t x, uint32_t count);

  convert::ModelDescription d;
};

// 16 x 16 pictures to 8 x 8 positions of 8 channels.
int32_t Builder::Stem(int32_t x) {
  ImageOp op;
  op.window = {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}};
  op.limit = model::Limit::kRelu;
  x = Convolve(x, op, DType::kF32, {8});
  op.window = {{3, 2}, {1, 1}, {2, 1}, {2, 0, 2, 1}};
  op.groups = 8;
  op.limit = model::Limit::kRelu6;
  return Convolve(x, op, DType::kF16, {8});
}

int32_t Builder::SingleHead(int32_t x) {
  const int32_t part = Attend(Norm(Slice(x, 0, 3), 1), 1, 2, 3, true);
  const int32_t rest = Activate(Slice(x, 3, 8), Activation::kRelu);
  return Sum(x, Project(Concat(part, rest), 8));
}

int32_t Builder::Excite(int32_t x) {
  const int32_t mean = GlobalPool(x);
  d.image.features = mean;
  return Same(Of(Kind::kMultiply),
              {x, Activate(Project(Project(mean, 2), 8), Activation::kSigmoid)});
}

int32_t Builder::Codes(int32_t x) {
  const ImageValue codes = {8, DType::kI8, 0.05f, -3};
  int32_t y = Add(Of(Kind::kConvert), {x}, codes);
  y = Convolve(y, {}, DType::kI8, {8, DType::kI8, 0.0625f, 4});
  y = Activate(y, Activation::kRelu);
  y = Concat(Slice(y, 4, 8), Slice(y, 0, 4));
  y = Sum(y, y);
  return Add(Of(Kind::kConvert), {y}, {8});
}

int32_t Builder::Windows(int32_t x) {
  int32_t y = Pool(x, model::PoolKind::kMax, {{3, 2}, {2, 2}, {1, 1}, {1, 0, 1, 1}});
  y = Resize(y, 0, 0, 2, true);
  y = Pool(y, model::PoolKind::kAverage, {{4, 0}, {1, 1}, {1, 1}, {}, true});
  y = Resize(y, 8, 8, 0, true);
  return Resize(Resize(y, 4, 4, 0, false), 8, 8, 0, false);
}

int32_t Builder::Positions(int32_t x, uint32_t count) {
  x = Same(Of(Kind::kFlatten), {x});
  ImageOp op = Of(Kind::kPositionEmbedding);
  op.weight = Tensor("positions", DType::kF32, {1 + count, value(x).channels});
  op.begin = 1;
  op.end = 1 + count;
  return Same(op, {x});
}

}  // namespace

convert::ModelDescription ImageModel() {
  Builder b;
  int32_t x = b.Stem(b.Value({3}));
  x = b.Excite(b.SingleHead(x));
  x = b.Sum(b.Codes(x), b.Windows(x));
  x = b.Positions(x, kImageSide * kImageSide / 4);
  x = b.Sum(x, b.Attend(b.Norm(x, 0), 2, 3, 8, false));
  ImageOp op = Builder::Of(Kind::kRows);
  op.begin = 0;
  op.end = 1;
  x = b.Project(b.Activate(b.Same(op, {x}), Activation::kGeluErf), kImageClasses);
  convert::ImageDescription& image = b.d.image;
  image.logits = x;
  image.preprocess = {model::ResizeRule::kShorterSide,
                      model::ResizeFilter::kLanczos,
                      18,
                      0,
                      kImageSide,
                      kImageSide,
                      model::CropRounding::kDown,
                      true,
                      0.5f,
                      {0.1f, 0.2f, 0.3f},
                      {0.4f, 0.5f, 0.6f}};
  for (uint32_t i = 0; i < kImageClasses; ++i) image.labels.push_back("kind " + std::to_string(i));
  b.d.metadata = {"pictures", "Test", "Apache-2.0", "made by a test", 0, kImageClasses};
  return std::move(b.d);
}

}  // namespace headroom::test
