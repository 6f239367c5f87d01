#include "model/random_image_model.h"

#include <random>

#include "model/image_builder.h"

namespace headroom::test {
namespace {

using model::ImageOp;
using Kind = model::ImageOpKind;

class Drawer : public ImageBuilder {
 public:
  explicit Drawer(uint32_t seed) : random_(seed) {}

  void Draw(uint32_t operations) {
    Keep(Value({3}), 0);
    Keep(Project(0, 8), 0);
    while (d.image.ops.size() < operations) DrawOne();
    Finish();
  }

 private:
  // A value and how often its sides have been halved.
  struct Known {
    int32_t value = 0;
    int level = 0;
  };
  uint32_t Roll(uint32_t sides) { return static_cast<uint32_t>(random_() % sides); }
  void Keep(int32_t value, int level) { known_.push_back({value, level}); }
  bool IsF32(int32_t x) const { return value(x).dtype == DType::kF32; }
  // Recent ones more often; old ones too, so that values live long.
  Known Pick() {
    const auto count = static_cast<uint32_t>(known_.size());
    return known_[Roll(2) == 0 ? Roll(count) : count - 1 - Roll(std::min(count, 4u))];
  }
  Known PickF32() {
    Known x = Pick();
    while (!IsF32(x.value)) x = Pick();
    return x;
  }
  // One that can stand beside x: same sides, channels and type. x itself, if there is no other.
  int32_t Partner(const Known& x) {
    std::vector<int32_t> fit;
    for (const Known& k : known_) {
      const auto &a = value(k.value), &b = value(x.value);
      if (k.level == x.level && a.channels == b.channels && a.dtype == b.dtype) {
        fit.push_back(k.value);
      }
    }
    return fit[Roll(static_cast<uint32_t>(fit.size()))];
  }

  int32_t DrawConvolution(int32_t x) {
    ImageOp op;
    const bool codes = value(x).dtype == DType::kI8, f32 = IsF32(x);
    const uint32_t channels = value(x).channels;
    model::ImageValue out = {4 + 4 * Roll(3)};
    if (!f32) out.dtype = DType::kF16;
    if (codes) out = {channels, DType::kI8, 0.0625f, 4};
    if (Roll(2) == 0) op.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}};
    if (Roll(3) == 0) {
      op.groups = channels;  // depthwise
      out.channels = channels;
    } else if (channels % 4 == 0 && out.channels % 4 == 0 && Roll(2) == 0) {
      op.groups = 4;
    }
    op.limit = static_cast<model::Limit>(Roll(3));
    const DType of_numbers = !f32 || Roll(2) == 0 ? DType::kF16 : DType::kF32;
    return Convolve(x, op, codes ? DType::kI8 : of_numbers, out);
  }
  int32_t Encode(int32_t x) {
    if (Roll(2) == 0) return Add(Of(Kind::kConvert), {x}, {value(x).channels, DType::kF16});
    return Add(Of(Kind::kConvert), {x}, {value(x).channels, DType::kI8, 0.05f, -3});
  }
  // Codes or halves times the mean of their picture.
  int32_t Excite(int32_t x) {
    ImageOp op = Of(Kind::kPool);
    op.pool = model::PoolKind::kAverage;
    op.window.kernel[0] = op.window.kernel[1] = 0;
    const int32_t mean = Add(op, {x}, {value(x).channels});
    return Same(Of(Kind::kMultiply), {x, Activate(mean, model::Activation::kSigmoid)});
  }
  int32_t Decode(int32_t x) { return Add(Of(Kind::kConvert), {x}, {value(x).channels}); }
  // Of codes in steps of their own, which concatenations want alike.
  int32_t DrawConcat(const Known& x) {
    int32_t joined = x.value;
    for (uint32_t more = 1 + Roll(2); more-- > 0;) {
      const int32_t next = Partner(x);
      const auto &a = value(joined), &b = value(next);
      if (a.scale == b.scale && a.zero_point == b.zero_point) joined = Concat(joined, next);
    }
    return joined == x.value ? Concat(x.value, x.value) : joined;
  }
  int32_t DrawPool(const Known& x, bool halve) {
    const auto kind = static_cast<model::PoolKind>(Roll(2));
    if (halve) return Pool(x.value, kind, {{2, 2}, {2, 2}});
    return Pool(x.value, kind, {{3, 2}, {1, 1}, {1, 1}, {1, 0, 1, 1}});
  }

  // f32, codes and halves alike.
  void DrawAny(const Known& x) {
    const uint32_t channels = value(x.value).channels;
    switch (Roll(5)) {
      case 0:
        return Keep(DrawConvolution(x.value), x.level);
      case 1:
        return Keep(Activate(x.value, model::Activation::kRelu), x.level);
      case 2:
        return Keep(Sum(x.value, Partner(x)), x.level);
      case 3: {
        const uint32_t begin = Roll(channels), end = begin + 1 + Roll(channels - begin);
        return Keep(Slice(x.value, begin, end), x.level);
      }
      default:
        if (channels <= 24) Keep(DrawConcat(x), x.level);
    }
  }
  void DrawF32(const Known& x) {
    const uint32_t channels = value(x.value).channels;
    switch (Roll(8)) {
      case 0:
        return Keep(Norm(x.value, Roll(2)), x.level);
      case 1:
        return Keep(Activate(x.value, model::Activation::kGeluErf), x.level);
      case 2:
        return Keep(Same(Of(Kind::kMultiply), {x.value, Partner(x)}), x.level);
      case 3:
        return Keep(Same(Of(Kind::kMultiply),
                         {x.value, Activate(GlobalPool(x.value), model::Activation::kSigmoid)}),
                    x.level);
      case 4:
        return Keep(DrawPool(x, x.level < 2), x.level < 2 ? x.level + 1 : x.level);
      case 5:
        return Keep(DrawPool(x, false), x.level);
      case 6:
        if (x.level == 0) return;
        return Keep(Resize(x.value, 0, 0, 2, Roll(2) == 0), x.level - 1);
      default:
        if (channels % 2 == 0) Keep(Attend(x.value, 2, 3, channels, Roll(2) == 0), x.level);
    }
  }
  void DrawOne() {
    const Known x = Pick();
    if (Roll(2) == 0) return DrawAny(x);
    if (!IsF32(x.value)) return Keep(Roll(2) == 0 ? Decode(x.value) : Excite(x.value), x.level);
    if (Roll(6) == 0) return Keep(Encode(x.value), x.level);
    DrawF32(x);
  }
  void Finish() {
    int32_t x = Pick().value;
    d.image.features = GlobalPool(IsF32(x) ? x : Decode(x));
    x = GlobalPool(PickF32().value);
    d.image.logits = Project(x, 5);
    d.image.preprocess.crop_height = d.image.preprocess.crop_width = kRandomImageSide;
    for (int i = 0; i < 5; ++i) d.image.labels.push_back("kind " + std::to_string(i));
    d.metadata = {"drawn", "Test", "Apache-2.0", "made by a test", 0, 5};
  }

  std::mt19937 random_;
  std::vector<Known> known_;
};

}  // namespace

convert::ModelDescription RandomImageModel(uint32_t seed) {
  Drawer drawer(seed);
  drawer.Draw(12 + seed % 30);
  return std::move(drawer.d);
}

}  // namespace headroom::test
