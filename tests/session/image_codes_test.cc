// Vision models in 8 bits: what becomes codes, with which scales, and how near the results stay.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>

#include "convert/image_codes.h"
#include "session/golden.h"
#include "session/image_golden.h"

namespace headroom::test {
namespace {

using convert::ValueRange;
using model::ImageOp;
using model::ImageOpKind;

// As trained.
plan::ImageSize SizeOf(const session::Engine& engine) {
  const model::PreprocessSpec& spec = engine.model().image.preprocess;
  return {1, spec.crop_height, spec.crop_width};
}

// Of every value of a model, on some pictures.
std::vector<ValueRange> RangesOf(const std::shared_ptr<session::Engine>& engine,
                                 uint32_t pictures) {
  const plan::ImageSize size = SizeOf(*engine);
  const auto session = StartImages(engine, size);
  std::vector<ValueRange> ranges(engine->model().image.values.size());
  session->Observe({[](void* user, uint32_t value, const float* x, size_t positions, size_t stride,
                       size_t channels) {
                      auto& range = (*static_cast<std::vector<ValueRange>*>(user))[value];
                      for (size_t p = 0; p < positions; ++p) {
                        for (size_t c = 0; c < channels; ++c) {
                          range.See(x[p * stride + c], x[p * stride + c]);
                        }
                      }
                    },
                    &ranges});
  for (uint32_t i = 0; i < pictures; ++i) {
    RunPicture(*session);
    // The same picture in other brightness.
    float* input = session->input(0);
    for (uint32_t k = 0; k < size.height * size.width * 3; ++k) {
      input[k] = 0.8f * static_cast<float>(NumberAt(NumberSeed("codes"), k + i));
    }
    REQUIRE(session->Run(1).ok());
  }
  return ranges;
}

std::shared_ptr<session::Engine> OpenWritten(const std::string& path) {
  auto model = model::Model::OpenPath(path.c_str(), {});
  INFO(model.status().message());
  REQUIRE(model.ok());
  auto engine = session::Engine::Create(model.Take(), {});
  INFO(engine.status().message());
  REQUIRE(engine.ok());
  return engine.Take();
}

struct CodedModel {
  std::shared_ptr<session::Engine> floats, codes;
  std::vector<ValueRange> ranges;
  convert::CodesSummary summary;
};

CodedModel MakeCodes(const std::string& name) {
  CodedModel made;
  made.floats = OpenVision(VisionFolder(name));
  made.ranges = RangesOf(made.floats, 4);
  const std::string out = ScratchPath("coded-" + name + ".hrm");
  auto summary = convert::WriteWithCodes(made.floats->model(), made.ranges, out, "coded");
  INFO(summary.status().message());
  REQUIRE(summary.ok());
  made.summary = summary.value();
  made.codes = OpenWritten(out);
  return made;
}

double DistanceBySpread(std::span<const float> a, std::span<const float> b) {
  double squares = 0.0, spread = 0.0, mean = 0.0;
  for (const float x : a) mean += static_cast<double>(x) / static_cast<double>(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    squares += std::pow(static_cast<double>(a[i] - b[i]), 2);
    spread += std::pow(static_cast<double>(a[i]) - mean, 2);
  }
  return std::sqrt(squares / spread);
}

TEST_CASE("logits of 8-bit vision models stay near those of floats", "[images][codes]") {
  for (const char* name : {"shvit", "shvit-even", "vit"}) {
    INFO(name);
    const CodedModel made = MakeCodes(name);
    CHECK(made.summary.coded > made.summary.convolutions / 2);
    const plan::ImageSize size = SizeOf(*made.floats);
    const auto floats = StartImages(made.floats, size), codes = StartImages(made.codes, size);
    RunPicture(*floats);
    RunPicture(*codes);
    const double distance = DistanceBySpread(floats->logits(0), codes->logits(0));
    INFO("of the logits' spread: " << distance);
    CHECK(distance > 1e-6);  // codes they are
    CHECK(distance < 0.25);
  }
}

TEST_CASE("convolutions on pictures become codes, those of one position stay", "[images][codes]") {
  const CodedModel made = MakeCodes("shvit");
  const model::Model& model = made.codes->model();
  uint32_t coded = 0, halves = 0;
  for (const ImageOp& op : model.image.ops) {
    if (op.kind != ImageOpKind::kConvolution) continue;
    const DType stored = model.tensors[static_cast<size_t>(op.weight)].dtype;
    coded += stored == DType::kI8;
    halves += stored == DType::kF16;
    CHECK((model.image.values[static_cast<size_t>(op.output)].dtype == DType::kI8) ==
          (stored == DType::kI8));
  }
  CHECK(coded == made.summary.coded);
  // Squeeze-and-excite has two, twice, and the head one.
  CHECK(halves == made.summary.convolutions - made.summary.coded);
  CHECK(halves >= 1);
  for (const int32_t end : {model.image.logits, model.image.features}) {
    CHECK(model.image.values[static_cast<size_t>(end)].dtype == DType::kF32);
  }
}

TEST_CASE("codes reach exactly over what was seen, and hold 0", "[images][codes]") {
  const CodedModel made = MakeCodes("shvit");
  const auto& values = made.codes->model().image.values;
  uint32_t of_one_range = 0;
  for (const ImageOp& op : made.floats->model().image.ops) {
    const auto index = static_cast<size_t>(op.output);
    if (op.kind != ImageOpKind::kConvolution || values[index].dtype != DType::kI8) continue;
    const model::ImageValue& value = values[index];
    const ValueRange& range = made.ranges[index];
    const double low = (-128.0 - value.zero_point) * static_cast<double>(value.scale);
    const double high = (127.0 - value.zero_point) * static_cast<double>(value.scale);
    const auto step = static_cast<double>(value.scale);
    CHECK(low <= static_cast<double>(range.low) + step);
    CHECK(high >= static_cast<double>(range.high) - step);
    CHECK(low <= 0.0);
    CHECK(high >= 0.0);
    if (op.limit == model::Limit::kRelu) CHECK(value.zero_point == -128);
    const double width =
        static_cast<double>(std::max(range.high, 0.0f) - std::min(range.low, 0.0f));
    of_one_range += std::abs(255.0 * step - width) <= 1e-5 * width;
  }
  CHECK(of_one_range > 10);  // the others share a scale with what they are joined with
}

std::shared_ptr<session::Engine> MakeHalves(const session::Engine& floats, const std::string& name,
                                            convert::CodesSummary* summary) {
  const std::string out = ScratchPath("halved-" + name + ".hrm");
  auto written = convert::WriteWithHalves(floats.model(), out, "halved");
  INFO(written.status().message());
  REQUIRE(written.ok());
  *summary = written.value();
  return OpenWritten(out);
}

TEST_CASE("logits of vision models with values of f16 stay near those of floats",
          "[images][halves]") {
  for (const char* name : {"shvit", "shvit-even", "vit"}) {
    INFO(name);
    const auto floats = OpenVision(VisionFolder(name));
    convert::CodesSummary summary;
    const auto halves = MakeHalves(*floats, name, &summary);
    CHECK(summary.coded > summary.convolutions / 2);
    const plan::ImageSize size = SizeOf(*floats);
    const auto a = StartImages(floats, size), b = StartImages(halves, size);
    RunPicture(*a);
    RunPicture(*b);
    const double distance = DistanceBySpread(a->logits(0), b->logits(0));
    INFO("of the logits' spread: " << distance);
    CHECK(distance > 1e-6);  // halves they are
    CHECK(distance < 0.01);
    CHECK(b->plan().packed_bytes < a->plan().packed_bytes);
  }
}

TEST_CASE("values of f16 are computed by weights of f16, and results are f32", "[images][halves]") {
  const auto floats = OpenVision(VisionFolder("shvit"));
  convert::CodesSummary summary;
  const auto halves = MakeHalves(*floats, "shvit", &summary);
  const model::Model& model = halves->model();
  uint32_t convolutions = 0;
  for (const ImageOp& op : model.image.ops) {
    if (op.kind != ImageOpKind::kConvolution) continue;
    CHECK(model.tensors[static_cast<size_t>(op.weight)].dtype == DType::kF16);
    convolutions += model.image.values[static_cast<size_t>(op.output)].dtype == DType::kF16;
  }
  CHECK(convolutions == summary.coded);
  for (const int32_t end : {model.image.logits, model.image.features}) {
    CHECK(model.image.values[static_cast<size_t>(end)].dtype == DType::kF32);
  }
  const auto again = convert::WriteWithHalves(model, ScratchPath("refused-halves.hrm"), "refused");
  REQUIRE_FALSE(again.ok());
  CHECK(std::string(again.status().message()).find("f16 values already") != std::string::npos);
}

TEST_CASE("numbers that no half holds are refused by their tensor", "[images][halves]") {
  const auto floats = OpenVision(VisionFolder("shvit"));
  const std::string out = ScratchPath("beyond.hrm");
  auto& model = const_cast<model::Model&>(floats->model());
  for (const bool bias : {false, true}) {
    for (const ImageOp& op : model.image.ops) {
      if (op.kind != ImageOpKind::kConvolution) continue;
      TensorView& tensor = model.tensors[static_cast<size_t>(bias ? op.bias : op.weight)];
      const TensorView kept = tensor;
      std::vector<float> large(tensor.f32(), tensor.f32() + tensor.data_bytes / sizeof(float));
      large.back() = -7e4f;
      tensor.data = reinterpret_cast<const std::byte*>(large.data());
      const auto written = convert::WriteWithHalves(model, out, "beyond");
      INFO(written.status().message());
      CHECK_FALSE(written.ok());
      CHECK(std::string(written.status().message()).find("holds -70000 > 65504") !=
            std::string::npos);
      CHECK_FALSE(std::filesystem::exists(out));
      tensor = kept;
      break;
    }
  }
}

TEST_CASE("what cannot become codes is refused by its reason", "[images][codes]") {
  const auto floats = OpenVision(VisionFolder("shvit"));
  const std::string out = ScratchPath("refused.hrm");
  const auto ranges = RangesOf(floats, 1);
  const auto refusal = [&](const model::Model& model, const std::vector<ValueRange>& given) {
    const auto written = convert::WriteWithCodes(model, given, out, "refused");
    REQUIRE_FALSE(written.ok());
    CHECK_FALSE(std::filesystem::exists(out));
    return std::string(written.status().message());
  };
  CHECK(refusal(floats->model(), {}).find("0 ranges of") != std::string::npos);
  CHECK(refusal(floats->model(), std::vector<ValueRange>(ranges.size())).find("was not seen") !=
        std::string::npos);
  auto endless = ranges;
  for (ValueRange& range : endless) range.high = INFINITY;
  CHECK(refusal(floats->model(), endless).find("inf") != std::string::npos);
  const CodedModel made = MakeCodes("shvit");
  const std::vector<ValueRange> more(made.codes->model().image.values.size());
  CHECK(refusal(made.codes->model(), more).find("int8 values already") != std::string::npos);
  CHECK(refusal(model::Model(), {}).find("no vision model") != std::string::npos);
}

}  // namespace
}  // namespace headroom::test
