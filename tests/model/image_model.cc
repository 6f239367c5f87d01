#include "model/image_model.h"

#include "model/image_builder.h"

namespace headroom::test {
namespace {

using model::Activation;
using model::ImageOp;
using model::ImageOpKind;
using model::ImageValue;
using Kind = model::ImageOpKind;

class Builder : public ImageBuilder {
 public:
  int32_t Stem(int32_t x);
  int32_t SingleHead(int32_t x);
  int32_t Excite(int32_t x);
  int32_t Codes(int32_t x);
  int32_t Halves(int32_t x);
  int32_t Windows(int32_t x);
  int32_t Positions(int32_t x, uint32_t count);
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

int32_t Builder::Halves(int32_t x) {
  const ImageValue halves = {8, DType::kF16};
  int32_t y = Add(Of(Kind::kConvert), {x}, halves);
  y = Activate(Convolve(y, {}, DType::kF16, halves), Activation::kGeluErf);
  y = Concat(Slice(y, 4, 8), Slice(y, 0, 4));
  y = Sum(y, y);
  ImageOp mean = Of(Kind::kPool);
  mean.pool = model::PoolKind::kAverage;
  mean.window.kernel[0] = mean.window.kernel[1] = 0;
  y = Same(Of(Kind::kMultiply), {y, Add(mean, {y}, {8})});
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
  const int32_t windows = b.Windows(x), codes = b.Codes(x), halves = b.Halves(x);
  x = b.Sum(b.Sum(codes, halves), windows);
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
