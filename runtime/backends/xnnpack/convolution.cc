#include "backends/xnnpack/convolution.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "backends/xnnpack/convolution_layer.h"
#include "backends/xnnpack/dense_packing.h"
#include "base/half.h"

namespace headroom::xnnpack {
namespace {

constexpr size_t kSpareSourceBytes = 64;
constexpr float kLargestRatio = 256.0f;  // of codes' scales: XNNPACK's limit

void WidenInto(const LayerSlice& slice, std::vector<std::byte>& copy) {
  const uint64_t count = uint64_t{slice.rows} * slice.columns;
  const auto* from = reinterpret_cast<const uint16_t*>(slice.weights);
  copy.resize(count * sizeof(float) + kSpareSourceBytes);
  auto* to = reinterpret_cast<float*>(copy.data());
  for (uint64_t i = 0; i < count; ++i) to[i] = HalfToFloat(from[i]);
}

int32_t BiasCode(float bias, float unit) {
  const double code = std::nearbyint(static_cast<double>(bias) / static_cast<double>(unit));
  constexpr double kMost = 1 << 30;  // leaves room for the products
  return static_cast<int32_t>(std::clamp(code, -kMost, kMost));
}

// A code for a limit on results.
int8_t LimitCode(float limit, const ConvolutionSpec& spec) {
  const float code = std::nearbyint(limit / spec.out_scale) + static_cast<float>(spec.out_zero);
  return static_cast<int8_t>(std::clamp(code, -128.0f, 127.0f));
}

// XNNPACK's functions of both have one form, but for the types of what they point to.
template <class Element, class Create>
xnn_status CreateNumbers(Create create, uint32_t flags, const LayerSlice& slice,
                         const ConvolutionSource& source, size_t in_stride, size_t out_stride,
                         xnn_weights_cache_provider* provider, xnn_operator_t* out) {
  const ConvolutionSpec& c = *slice.convolution;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return create(c.pad[0], c.pad[3], c.pad[2], c.pad[1], c.kernel[0], c.kernel[1], c.stride[0],
                c.stride[1], c.dilation[0], c.dilation[1], c.groups, c.channels / c.groups,
                slice.rows / c.groups, in_stride, out_stride,
                static_cast<const Element*>(source.weights),
                static_cast<const Element*>(source.bias), c.limited() ? c.low : -kInfinity,
                c.limited() ? c.high : kInfinity, flags, /*code_cache=*/nullptr, provider, out);
}

xnn_status CreateFloats(const LayerSlice& slice, const ConvolutionSource& source, size_t in_stride,
                        size_t out_stride, xnn_weights_cache_provider* provider,
                        xnn_operator_t* out) {
  return CreateNumbers<float>(xnn_create_convolution2d_nhwc_f32, /*flags=*/0, slice, source,
                              in_stride, out_stride, provider, out);
}

// Weights and bias come widened, and are rounded when they are packed.
xnn_status CreateHalves(const LayerSlice& slice, const ConvolutionSource& source, size_t in_stride,
                        size_t out_stride, xnn_weights_cache_provider* provider,
                        xnn_operator_t* out) {
  return CreateNumbers<void>(xnn_create_convolution2d_nhwc_f16, XNN_FLAG_FP32_STATIC_WEIGHTS, slice,
                             source, in_stride, out_stride, provider, out);
}

xnn_status CreateCodes(const LayerSlice& slice, const ConvolutionSource& source, size_t in_stride,
                       size_t out_stride, xnn_weights_cache_provider* provider,
                       xnn_operator_t* out) {
  const ConvolutionSpec& c = *slice.convolution;
  return xnn_create_convolution2d_nhwc_qs8_qc8w(
      c.pad[0], c.pad[3], c.pad[2], c.pad[1], c.kernel[0], c.kernel[1], c.stride[0], c.stride[1],
      c.dilation[0], c.dilation[1], c.groups, c.channels / c.groups, slice.rows / c.groups,
      in_stride, out_stride, static_cast<int8_t>(c.in_zero), c.in_scale,
      reinterpret_cast<const float*>(slice.scales), static_cast<const int8_t*>(source.weights),
      static_cast<const int32_t*>(source.bias), static_cast<int8_t>(c.out_zero), c.out_scale,
      c.limited() ? LimitCode(c.low, c) : int8_t{-128},
      c.limited() ? LimitCode(c.high, c) : int8_t{127}, /*flags=*/0, /*code_cache=*/nullptr,
      provider, out);
}

Elements ElementsOf(LayerForm form) {
  if (form == LayerForm::kConvolutionInt8) return Elements::kCodes;
  return form == LayerForm::kConvolutionHalves ? Elements::kHalves : Elements::kFloats;
}

bool Widened(LayerForm form) {
  return form == LayerForm::kConvolutionF16 || form == LayerForm::kConvolutionHalves ||
         form == LayerForm::kPanelsF16;
}

}  // namespace

ConvolutionSource SourceOf(const LayerSlice& slice) {
  ConvolutionSource source;
  source.weights = slice.weights;
  source.bias = slice.bias;
  if (Widened(slice.form)) {
    WidenInto(slice, source.copy);
  } else if (slice.form == LayerForm::kConvolutionInt8) {
    const uint64_t bytes = slice.RowBytes() * slice.rows;
    source.copy.resize(bytes + kSpareSourceBytes);
    std::memcpy(source.copy.data(), slice.weights, bytes);
    const auto* scales = reinterpret_cast<const float*>(slice.scales);
    for (uint32_t row = 0; slice.bias != nullptr && row < slice.rows; ++row) {
      const float unit = slice.convolution->in_scale * scales[row];
      source.codes.push_back(BiasCode(slice.bias[row], unit));
    }
    source.bias = source.codes.empty() ? nullptr : source.codes.data();
  }
  if (!source.copy.empty()) source.weights = source.copy.data();
  return source;
}

xnn_status CreateConvolution(const LayerSlice& slice, const ConvolutionSource& source,
                             size_t in_stride, size_t out_stride,
                             xnn_weights_cache_provider* provider, xnn_operator_t* out) {
  constexpr decltype(&CreateFloats) kCreate[] = {CreateFloats, CreateHalves, CreateCodes};
  return kCreate[static_cast<int>(ElementsOf(slice.form))](slice, source, in_stride, out_stride,
                                                           provider, out);
}

Status CheckConvolution(const LayerSlice& slice, const char* name) {
  if (slice.form != LayerForm::kConvolutionInt8) return {};
  const ConvolutionSpec& c = *slice.convolution;
  const auto* scales = reinterpret_cast<const float*>(slice.scales);
  for (uint32_t row = 0; row < slice.rows; ++row) {
    const float ratio = c.in_scale * scales[row] / c.out_scale;
    if (std::isnormal(ratio) && ratio < kLargestRatio) continue;
    return Status::Make(StatusCode::kUnsupported,
                        "%s: row %u: input scale %g times weight scale %g by output scale %g is "
                        "not a normal number below %g",
                        name, row, static_cast<double>(c.in_scale),
                        static_cast<double>(scales[row]), static_cast<double>(c.out_scale),
                        static_cast<double>(kLargestRatio));
  }
  return {};
}

namespace {

// What XNNPACK packs of depthwise weights whether or not it finds them packed.
struct Unwanted {
  ConvolutionSource source;
  std::vector<std::byte> packed;
};
Status ProvideUnwanted(const LayerSlice& slice, const char* name, PackingProvider& provider,
                       Unwanted* unwanted) {
  unwanted->source = SourceOf(slice);
  HR_ASSIGN_OR_RETURN(const uint64_t bytes, MeasureLayer(slice, name));
  unwanted->packed.resize(bytes + kPackedAlignment);
  void* begin = unwanted->packed.data();
  size_t space = unwanted->packed.size();
  std::align(kPackedAlignment, bytes, begin, space);
  provider.PackInto({static_cast<std::byte*>(begin), bytes});
  return {};
}

xnn_status SetUp(Elements elements, xnn_operator_t op, void* workspace, const void* input,
                 void* out) {
  switch (elements) {
    case Elements::kFloats:
      return xnn_setup_convolution2d_nhwc_f32(op, workspace, static_cast<const float*>(input),
                                              static_cast<float*>(out));
    case Elements::kHalves:
      return xnn_setup_convolution2d_nhwc_f16(op, workspace, input, out);
    case Elements::kCodes:
      return xnn_setup_convolution2d_nhwc_qs8_qc8w(op, workspace, static_cast<const int8_t*>(input),
                                                   static_cast<int8_t*>(out));
  }
  return xnn_status_invalid_state;
}

}  // namespace

Result<Convolution> Convolution::Create(const DenseWeights& layer, const std::byte* packed,
                                        uint32_t in_stride, uint32_t out_stride) {
  HR_ASSIGN_OR_RETURN(const LayerSlice slice, SliceOf(layer));
  const std::string name(layer.weight.name);
  Convolution made;
  if (InPanels(slice.form)) {
    made.UsePanels(slice, packed, in_stride, out_stride);
    return made;
  }
  made.provider_ = std::make_unique<PackingProvider>();
  Unwanted unwanted;
  unwanted.source = {slice.weights, slice.bias, {}, {}};
  if (layer.convolution->depthwise()) {
    HR_RETURN_IF_ERROR(ProvideUnwanted(slice, name.c_str(), *made.provider_, &unwanted));
  }
  made.provider_->Find(packed);
  made.elements_ = ElementsOf(slice.form);
  made.products_ = uint64_t{slice.rows} * slice.columns;
  HR_RETURN_IF_ERROR(StatusFromXnn(CreateConvolution(slice, unwanted.source, in_stride, out_stride,
                                                     made.provider_->callbacks(), &made.op_),
                                   "create its operator", name.c_str()));
  return made;
}

void Convolution::UsePanels(const LayerSlice& slice, const std::byte* packed, uint32_t in_stride,
                            uint32_t out_stride) {
  layer_.panels = reinterpret_cast<const float*>(packed);
  layer_.rows = slice.rows;
  layer_.columns = slice.columns;
  layer_.in_stride = in_stride;
  layer_.out_stride = out_stride;
  layer_.spec = *slice.convolution;
}

Status Convolution::Shape(const ConvolutionSize& size, uint64_t workspace_bytes, ThreadPool& pool) {
  if (op_ == nullptr) {
    SetSize(size, &layer_);
    return {};
  }
  size_t bytes = 0, alignment = 0, rows = 0, columns = 0;
  constexpr decltype(&xnn_reshape_convolution2d_nhwc_f32) kReshape[] = {
      xnn_reshape_convolution2d_nhwc_f32, xnn_reshape_convolution2d_nhwc_f16,
      xnn_reshape_convolution2d_nhwc_qs8_qc8w};  // by Elements
  const auto reshape = kReshape[static_cast<int>(elements_)];
  // With more threads than one, XNNPACK cuts the work for them: as many as will run it.
  products_ *= uint64_t{size.batch} * size.rows * size.columns;
  HR_RETURN_IF_ERROR(StatusFromXnn(reshape(op_, size.batch, size.rows, size.columns, &bytes,
                                           &alignment, &rows, &columns, pool.HandleFor(products_)),
                                   "reshape", "convolution"));
  if (bytes <= workspace_bytes) return {};
  return Status::Make(StatusCode::kInternal, "a convolution needs %zu bytes to work in > %llu",
                      bytes, static_cast<unsigned long long>(workspace_bytes));
}

Status Convolution::Bind(const void* input, void* out, void* workspace) {
  if (op_ == nullptr) {
    input_ = static_cast<const float*>(input);
    out_ = static_cast<float*>(out);
    return {};
  }
  return StatusFromXnn(SetUp(elements_, op_, workspace, input, out), "set up", "convolution");
}

Status Convolution::Run(ThreadPool& pool) {
  if (op_ == nullptr) {
    RunPanels(layer_, input_, out_, pool);
    return {};
  }
  return StatusFromXnn(xnn_run_operator(op_, pool.HandleFor(products_)), "run", "convolution");
}

Convolution::Convolution() = default;
Convolution::Convolution(Convolution&& other) noexcept { *this = std::move(other); }

Convolution& Convolution::operator=(Convolution&& other) noexcept {
  std::swap(provider_, other.provider_);
  std::swap(op_, other.op_);
  std::swap(elements_, other.elements_);
  std::swap(products_, other.products_);
  std::swap(layer_, other.layer_);
  std::swap(input_, other.input_);
  std::swap(out_, other.out_);
  return *this;
}

Convolution::~Convolution() {
  if (op_ != nullptr) xnn_delete_operator(op_);
}

}  // namespace headroom::xnnpack
