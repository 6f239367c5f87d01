#include "convert/image_preprocess.h"

#include <cmath>

namespace headroom::convert {
namespace {

using model::PreprocessSpec;
using model::ResizeFilter;
using model::ResizeRule;

// Of ImageNet's training set, of values in 0..1.
constexpr double kImageNetMean[] = {0.485, 0.456, 0.406};
constexpr double kImageNetDeviation[] = {0.229, 0.224, 0.225};

template <typename... Values>
Status Refuse(const char* format, Values... values) {
  return Status::Make(StatusCode::kUnsupported, format, values...);
}

struct Filter {
  const char* name;   // timm's and torchvision's
  uint32_t resample;  // Pillow's number
  ResizeFilter filter;
};
constexpr Filter kFilters[] = {
    {"nearest", 0, ResizeFilter::kNearest},   {"lanczos", 1, ResizeFilter::kLanczos},
    {"bilinear", 2, ResizeFilter::kBilinear}, {"bicubic", 3, ResizeFilter::kBicubic},
    {"box", 4, ResizeFilter::kBox},           {"hamming", 5, ResizeFilter::kHamming},
};

Status ReadColours(Config& from, const char* key, const double* absent, double low, float* out) {
  HR_ASSIGN_OR_RETURN(const auto numbers, from.Numbers(key, low, 1e6));
  if (numbers && numbers->size() != 3) {
    return Refuse("%s: \"%s\" has %zu numbers, not 3", from.what().c_str(), key, numbers->size());
  }
  for (size_t i = 0; i < 3; ++i) out[i] = static_cast<float>(numbers ? (*numbers)[i] : absent[i]);
  return {};
}

Status ReadTimmFilter(Config& from, PreprocessSpec* out) {
  HR_ASSIGN_OR_RETURN(const auto name, from.String("interpolation"));
  for (const Filter& filter : kFilters) {
    if (name.value_or("bicubic") != filter.name) continue;
    out->filter = filter.filter;
    return {};
  }
  return Refuse("%s: interpolation \"%s\"", from.what().c_str(), Printable(*name).c_str());
}

Status ReadTimmSize(Config& from, uint32_t side, PreprocessSpec* out) {
  out->crop_height = out->crop_width = side;
  HR_ASSIGN_OR_RETURN(const auto size, from.Numbers("input_size", 1, model::kMaxImageSide));
  if (!size) return {};
  if (size->size() != 3 || (*size)[0] != 3) {
    return Refuse("%s: \"input_size\" is not [3, height, width]", from.what().c_str());
  }
  out->crop_height = static_cast<uint32_t>((*size)[1]);
  out->crop_width = static_cast<uint32_t>((*size)[2]);
  return {};
}

Status ReadTimmCrop(Config& from, PreprocessSpec* out) {
  HR_ASSIGN_OR_RETURN(const auto mode, from.String("crop_mode"));
  HR_ASSIGN_OR_RETURN(const auto share, from.Number("crop_pct", 0.01, 1.0));
  const double crop = share.value_or(0.875);
  const auto grown = [crop](uint32_t side) {
    return static_cast<uint32_t>(std::floor(side / crop));
  };
  out->resize_height = grown(out->crop_height);
  out->resize_width = grown(out->crop_width);
  if (mode == "squash") {
    out->resize = ResizeRule::kExact;
    return {};
  }
  out->resize = ResizeRule::kShorterSide;
  if (mode && *mode != "center") {
    return Refuse("%s: crop_mode \"%s\"", from.what().c_str(), Printable(*mode).c_str());
  }
  if (out->resize_height == out->resize_width) return {};
  return Refuse("%s: a crop of %u x %u from the centre; only squares are", from.what().c_str(),
                out->crop_height, out->crop_width);
}

// A number stands for a square.
Status ReadSides(Config& from, const char* key, uint32_t* height, uint32_t* width) {
  constexpr uint32_t kMost = model::kMaxImageSide;
  const auto whole = from.Count(key, 1, kMost);
  if (whole.ok() && whole.value()) {
    *height = *width = *whole.value();
    return {};
  }
  HR_ASSIGN_OR_RETURN(auto sides, from.Object(key));
  if (!sides) return {};
  HR_ASSIGN_OR_RETURN(*height, sides->NeedCount("height", 1, kMost));
  HR_ASSIGN_OR_RETURN(*width, sides->NeedCount("width", 1, kMost));
  return sides->RefuseUnused();
}

Status ReadResize(Config& from, PreprocessSpec* out) {
  HR_ASSIGN_OR_RETURN(const auto resizes, from.Bool("do_resize"));
  HR_ASSIGN_OR_RETURN(const auto resample, from.Count("resample", 0, 5));
  for (const Filter& filter : kFilters) {
    if (filter.resample == resample.value_or(2)) out->filter = filter.filter;
  }
  out->resize_height = out->crop_height;
  out->resize_width = out->crop_width;
  out->resize = resizes.value_or(true) ? ResizeRule::kExact : ResizeRule::kNone;
  HR_ASSIGN_OR_RETURN(auto size, [&]() -> Result<std::optional<Config>> {
    if (from.Count("size", 1, model::kMaxImageSide).ok()) return std::optional<Config>();
    return from.Object("size");
  }());
  if (!size || !size->Has("shortest_edge")) {
    return ReadSides(from, "size", &out->resize_height, &out->resize_width);
  }
  HR_ASSIGN_OR_RETURN(out->resize_height,
                      size->NeedCount("shortest_edge", 1, model::kMaxImageSide));
  if (out->resize == ResizeRule::kExact) out->resize = ResizeRule::kShorterSide;
  return size->RefuseUnused();
}

Status ReadCrop(Config& from, PreprocessSpec* out) {
  HR_ASSIGN_OR_RETURN(const auto crops, from.Bool("do_center_crop"));
  uint32_t height = out->crop_height, width = out->crop_width;
  HR_RETURN_IF_ERROR(ReadSides(from, "crop_size", &height, &width));
  if (!crops.value_or(false)) {
    if (out->resize == ResizeRule::kExact) {
      height = out->resize_height;
      width = out->resize_width;
    }
    if (out->resize != ResizeRule::kExact) {
      return Refuse("%s: pictures are neither cropped nor brought to one size",
                    from.what().c_str());
    }
  }
  if (height == out->crop_height && width == out->crop_width) return {};
  return Refuse("%s: pictures of %u x %u for an input of %u x %u", from.what().c_str(), height,
                width, out->crop_height, out->crop_width);
}

Status ReadScales(Config& from, PreprocessSpec* out) {
  constexpr double kHalves[] = {0.5, 0.5, 0.5};
  HR_ASSIGN_OR_RETURN(const auto rescales, from.Bool("do_rescale"));
  HR_ASSIGN_OR_RETURN(const auto factor, from.Number("rescale_factor", 1e-6, 1e6));
  HR_ASSIGN_OR_RETURN(const auto normalises, from.Bool("do_normalize"));
  out->scale = static_cast<float>(rescales.value_or(true) ? factor.value_or(1.0 / 255.0) : 1.0);
  HR_RETURN_IF_ERROR(ReadColours(from, "image_mean", kHalves, -1e6, out->mean));
  HR_RETURN_IF_ERROR(ReadColours(from, "image_std", kHalves, 1e-5, out->deviation));
  if (normalises.value_or(true)) return {};
  for (size_t i = 0; i < 3; ++i) {
    out->mean[i] = 0.0f;
    out->deviation[i] = 1.0f;
  }
  return {};
}

}  // namespace

Result<PreprocessSpec> ReadTimmPreprocess(Config* from, uint32_t side) {
  Config none(Json::object(), "pretrained_cfg");
  Config& config = from ? *from : none;
  PreprocessSpec out;
  HR_RETURN_IF_ERROR(ReadTimmSize(config, side, &out));
  HR_RETURN_IF_ERROR(ReadTimmCrop(config, &out));
  HR_RETURN_IF_ERROR(ReadTimmFilter(config, &out));
  HR_RETURN_IF_ERROR(ReadColours(config, "mean", kImageNetMean, -1e6, out.mean));
  HR_RETURN_IF_ERROR(ReadColours(config, "std", kImageNetDeviation, 1e-5, out.deviation));
  return out;
}

Result<PreprocessSpec> ReadHuggingFacePreprocess(Config& from, uint32_t height, uint32_t width) {
  for (const char* key :
       {"image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb",
        "input_data_format", "data_format", "default_to_square", "return_tensors", "device",
        "size_divisor", "image_seq_length", "_processor_class", "_valid_processor_keys"}) {
    from.Ignore(key);
  }
  PreprocessSpec out;
  out.crop_height = height;
  out.crop_width = width;
  out.rounding = model::CropRounding::kDown;
  HR_RETURN_IF_ERROR(ReadResize(from, &out));
  HR_RETURN_IF_ERROR(ReadCrop(from, &out));
  HR_RETURN_IF_ERROR(ReadScales(from, &out));
  HR_RETURN_IF_ERROR(from.RefuseUnused());
  return out;
}

}  // namespace headroom::convert
