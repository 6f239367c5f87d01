#include "backends/xnnpack/dense.h"

#include <xxhash.h>

#include <cassert>
#include <cstring>
#include <mutex>

#include "backends/xnnpack/dense_in_place.h"
#include "backends/xnnpack/dense_layer.h"
#include "backends/xnnpack/dense_packing.h"
#include "backends/xnnpack/weights_cache.h"
#include "base/math.h"
#include "base/platform.h"

namespace headroom::xnnpack {
namespace {

static_assert(DenseSet::kSpareInputBytes >= XNN_EXTRA_BYTES);

uint64_t Signature(const DenseWeights& layer, LayerForm form) {
  struct {
    uint32_t form, dtype, block, columns, row_begin, rows, has_bias, parts;
  } facts = {static_cast<uint32_t>(form),
             static_cast<uint32_t>(layer.weight.dtype),
             layer.weight.block,
             layer.weight.columns(),
             layer.row_begin,
             layer.rows,
             layer.bias != nullptr,
             layer.parts};
  uint64_t name = XXH3_64bits(layer.weight.name.data(), layer.weight.name.size());
  if (layer.convolution != nullptr) {
    name = XXH3_64bits_withSeed(layer.convolution, sizeof(*layer.convolution), name);
  }
  return XXH3_64bits_withSeed(&facts, sizeof(facts), name);
}

void ReleaseSource(const LayerSlice& slice) {
  platform::Advise(slice.weights, slice.RowBytes() * slice.rows, platform::Advice::kRelease);
  if (slice.scales == nullptr) return;
  platform::Advise(slice.scales, slice.RowScaleBytes() * slice.rows, platform::Advice::kRelease);
}

// A kernel that takes rows in tiles computes its last row again for each row it lacks, with the
// parameters behind that row's, and stores the last of these results. XNNPACK repeats the last
// row's parameters ten times, which is too few for tiles of 14 rows with 1 to 3 in the last.
void PadQuantization(xnn_quantization_params* rows, uint32_t count) {
  for (uint32_t i = 0; i < kSpareQuantization; ++i) rows[count + i] = rows[count - 1];
}

struct CheckedLayers {
  std::vector<LayerSlice> slices;  // of the first part
  std::vector<uint32_t> parts;
  std::vector<uint32_t> at_once;
  std::vector<std::string> names;
  std::vector<uint64_t> bytes;  // of all parts
  uint64_t total_bytes = 0;

  uint64_t PartBytes(size_t i) const { return bytes[i] / parts[i]; }
};

LayerSlice PartOf(const LayerSlice& first, uint32_t part) {
  LayerSlice slice = SubSlice(first, 0, first.rows);
  slice.weights += first.RowBytes() * first.rows * part;
  if (slice.scales != nullptr) slice.scales += first.RowScaleBytes() * first.rows * part;
  if (slice.bias != nullptr) slice.bias += uint64_t{first.rows} * part;
  return slice;
}

Result<CheckedLayers> CheckLayers(std::span<const DenseWeights> layers) {
  HR_RETURN_IF_ERROR(InitializeXnnpack());
  CheckedLayers checked;
  for (const DenseWeights& layer : layers) {
    HR_ASSIGN_OR_RETURN(const LayerSlice slice, SliceOf(layer));
    checked.slices.push_back(slice);
    checked.parts.push_back(layer.parts);
    checked.at_once.push_back(layer.at_once);
    checked.names.emplace_back(layer.weight.name);
    HR_ASSIGN_OR_RETURN(uint64_t bytes, MeasureLayer(slice, checked.names.back().c_str()));
    const bool fits = CheckedMul(bytes, layer.parts, &bytes);
    checked.bytes.push_back(bytes);
    if (!fits || !CheckedAdd(checked.total_bytes, bytes, &checked.total_bytes)) {
      return Status::Make(StatusCode::kUnsupported, "packed weights exceed 64-bit sizes");
    }
  }
  return checked;
}

// Tells the app how far loading is, and hears whether to go on.
class LoadProgress {
 public:
  LoadProgress(const DenseOptions& options, uint64_t total_bytes)
      : options_(options), total_bytes_(total_bytes) {}

  void Restart() { done_bytes_ = 0; }
  Status Advance(uint64_t bytes) {
    done_bytes_ += bytes;
    if (options_.progress == nullptr) return {};
    const float fraction =
        static_cast<float>(static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_));
    if (options_.progress(options_.progress_user_data, fraction)) return {};
    return Status::Make(StatusCode::kCancelled, "loading was cancelled at %.0f %%",
                        static_cast<double>(fraction) * 100);
  }

 private:
  const DenseOptions& options_;
  uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
};

// One layer being packed: where its bytes go and what happens to each finished piece.
struct LayerPacking {
  const DenseOptions* options;
  LoadProgress* progress;
  platform::FileBuilder* file;  // null when packing into private memory
  uint64_t offset;              // of the part being packed, in the file
  std::byte* packed;
  XXH3_state_t checksum;
};

Status PieceIsDone(void* context, const PackedPiece& piece) {
  auto& layer = *static_cast<LayerPacking*>(context);
  // Hash first: flushing drops the pages.
  XXH3_64bits_update(&layer.checksum, layer.packed + piece.offset, piece.bytes);
  if (layer.file != nullptr) {
    HR_RETURN_IF_ERROR(layer.file->Flush(layer.offset + piece.offset, piece.bytes));
  }
  if (layer.options->release_source) ReleaseSource(piece.source);
  return layer.progress->Advance(piece.bytes);
}

}  // namespace

struct DenseSet::Impl {
  // An operator keeps its pointers and shape from set-up to the end of the run, so that threads of
  // different sessions take turns. Taking a free lock costs nothing beside a matrix.
  struct Operator {
    ~Operator() {
      if (op != nullptr) xnn_delete_operator(op);
    }
    Status Run(LayerForm form, const std::byte* packed, uint32_t rows, uint32_t columns,
               const std::byte* input, uint32_t tokens, float* out, ThreadPool& pool);

    std::mutex busy;
    xnn_operator_t op = nullptr;
    uint32_t shaped_rows = 0;  // what the operator was last reshaped for
    uint32_t shaped_threads = 0;
    // Operators that layers in parts share: where XNNPACK looks for their packed weights.
    std::unique_ptr<PackingProvider> provider;
    const std::byte* shaped_packed = nullptr;
  };
  // Operators for parts of one shape. Any free one will do.
  struct SharedOperators {
    LayerForm form;
    uint32_t rows, columns, block;
    std::vector<Operator> operators;
    bool Serves(const LayerSlice& slice) const {
      return form == slice.form && rows == slice.rows && columns == slice.columns &&
             block == slice.block;
    }
  };
  struct Layer {
    LayerSlice slice;  // pointers are used after Create for forms in place only
    Operator own;      // without parts
    SharedOperators* shared = nullptr;
    const std::byte* packed = nullptr;  // of the first part
    uint64_t part_bytes = 0;
  };

  ~Impl() {
    if (convert != nullptr) xnn_delete_operator(convert);
  }

  Status PackInto(const CheckedLayers& checked, CacheLayout& layout, std::byte* file_begin,
                  platform::FileBuilder* file, const DenseOptions& options, LoadProgress& progress);
  Status PackFile(const std::string& path, const CheckedLayers& checked, CacheLayout& layout,
                  const DenseOptions& options, LoadProgress& progress);
  Status PackPrivate(const CheckedLayers& checked, CacheLayout& layout, const DenseOptions& options,
                     LoadProgress& progress);
  Status FindOrPack(const CheckedLayers& checked, CacheLayout& layout, const DenseOptions& options);
  Status CreateOperators(const CheckedLayers& checked, const CacheLayout& layout,
                         const DenseOptions& options);
  Status ShareOperators(const LayerSlice& slice, const char* name, uint32_t at_once, Layer& layer);

  PackingProvider provider;
  std::vector<Layer> layers;
  std::vector<std::unique_ptr<SharedOperators>> shared;  // by shape
  std::mutex convert_busy;
  xnn_operator_t convert = nullptr;
  platform::FileMapping mapping;
  Arena arena;
  // Where offset 0 of the file is or, for private memory, would be.
  const std::byte* packed_begin = nullptr;
  PackedFacts facts;
};

Status DenseSet::Impl::PackInto(const CheckedLayers& checked, CacheLayout& layout,
                                std::byte* file_begin, platform::FileBuilder* file,
                                const DenseOptions& options, LoadProgress& progress) {
  progress.Restart();
  for (size_t i = 0; i < checked.slices.size(); ++i) {
    CacheEntry& entry = layout.entries[i];
    if (entry.bytes == 0) continue;
    LayerPacking layer{&options, &progress, file, entry.offset, file_begin + entry.offset, {}};
    XXH3_64bits_reset(&layer.checksum);
    for (uint32_t part = 0; part < checked.parts[i]; ++part) {
      HR_RETURN_IF_ERROR(PackLayer(PartOf(checked.slices[i], part), checked.names[i].c_str(),
                                   {layer.packed, checked.PartBytes(i)}, PieceIsDone, &layer));
      layer.offset += checked.PartBytes(i);
      layer.packed += checked.PartBytes(i);
    }
    entry.checksum = XXH3_64bits_digest(&layer.checksum);
  }
  return {};
}

Status DenseSet::Impl::PackFile(const std::string& path, const CheckedLayers& checked,
                                CacheLayout& layout, const DenseOptions& options,
                                LoadProgress& progress) {
  HR_ASSIGN_OR_RETURN(auto file, platform::FileBuilder::Create(path.c_str(), layout.file_bytes));
  HR_RETURN_IF_ERROR(PackInto(checked, layout, file.data(), &file, options, progress));
  WriteIndex(layout, file.data());
  HR_RETURN_IF_ERROR(file.Commit());
  // Read it back through a fresh read-only mapping. Another process may have put its own file in
  // our place meanwhile; it is the same, or it does not pass.
  CacheLayout found = layout;
  HR_ASSIGN_OR_RETURN(mapping, OpenCache(path, found, /*verify_content=*/false, {}));
  for (size_t i = 0; i < layout.entries.size(); ++i) {
    if (found.entries[i].checksum != layout.entries[i].checksum) {
      return Status::Make(StatusCode::kIo, "%s changed while it was written", path.c_str());
    }
  }
  return {};
}

Status DenseSet::Impl::PackPrivate(const CheckedLayers& checked, CacheLayout& layout,
                                   const DenseOptions& options, LoadProgress& progress) {
  HR_ASSIGN_OR_RETURN(arena, Arena::Create(checked.total_bytes, options.hooks));
  HR_ASSIGN_OR_RETURN(const auto memory, arena.Take(checked.total_bytes));
  packed_begin = memory.data() - layout.payload_offset;
  HR_RETURN_IF_ERROR(PackInto(checked, layout, memory.data() - layout.payload_offset,
                              /*file=*/nullptr, options, progress));
  facts.built = true;
  facts.private_bytes = checked.total_bytes;
  return {};
}

Status DenseSet::Impl::FindOrPack(const CheckedLayers& checked, CacheLayout& layout,
                                  const DenseOptions& options) {
  LoadProgress progress(options, checked.total_bytes);
  if (options.cache_directory.empty()) return PackPrivate(checked, layout, options, progress);

  const std::string path = CachePath(options.cache_directory, layout);
  const CacheProgress step{[](void* context, uint64_t bytes) {
                             return static_cast<LoadProgress*>(context)->Advance(bytes);
                           },
                           &progress};
  auto found = OpenCache(path, layout, options.verify_content, step);
  Status status = found.status();
  if (found.ok()) {
    mapping = found.Take();
  } else if (status.code() == StatusCode::kCancelled) {
    return status;
  } else {
    if (status.code() != StatusCode::kNotFound) {
      options.log.Line(LogLevel::kWarning, "%s: %s; packing the weights anew", path.c_str(),
                       status.message());
    }
    if (options.check_source != nullptr) {
      HR_RETURN_IF_ERROR(options.check_source(options.check_source_context));
    }
    status = platform::MakeDirectories(options.cache_directory.c_str());
    if (status.ok()) status = PackFile(path, checked, layout, options, progress);
    // Only trouble with the file sends us to private memory; trouble with the weights, or the app's
    // wish to stop, would be the same there.
    if (status.code() == StatusCode::kIo || status.code() == StatusCode::kNotFound ||
        status.code() == StatusCode::kMismatch || status.code() == StatusCode::kCorrupt) {
      options.log.Line(LogLevel::kWarning,
                       "no cache file: %s; %llu bytes of packed weights need private memory",
                       status.message(), static_cast<unsigned long long>(checked.total_bytes));
      if (options.allow_private != nullptr) {
        HR_RETURN_IF_ERROR(
            options.allow_private(options.allow_private_user_data, checked.total_bytes));
      }
      return PackPrivate(checked, layout, options, progress);
    }
    HR_RETURN_IF_ERROR(status);
    facts.built = true;
  }
  packed_begin = mapping.data();
  facts.mapped = true;
  facts.mapped_bytes = layout.file_bytes;
  return {};
}

Status DenseSet::Impl::CreateOperators(const CheckedLayers& checked, const CacheLayout& layout,
                                       const DenseOptions& options) {
  layers = std::vector<Layer>(checked.slices.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    Layer& layer = layers[i];
    layer.slice = checked.slices[i];
    layer.slice.convolution = nullptr;  // the caller's
    if (InPlace(layer.slice.form)) continue;
    const char* name = checked.names[i].c_str();
    layer.packed = packed_begin + layout.entries[i].offset;
    layer.part_bytes = checked.PartBytes(i);
    if (IsConvolution(layer.slice.form)) {
      // Has operators of its own in every session.
    } else if (checked.parts[i] > 1) {
      HR_RETURN_IF_ERROR(ShareOperators(layer.slice, name, checked.at_once[i], layer));
    } else {
      provider.Find(layer.packed);
      HR_RETURN_IF_ERROR(
          StatusFromXnn(CreateOperator(layer.slice, provider.callbacks(), &layer.own.op),
                        "create its operator", name));
    }
    // XNNPACK has read the block scales once more, to check them.
    if (options.release_source) ReleaseSource(layer.slice);
    layer.slice.weights = nullptr;
    layer.slice.scales = nullptr;
    layer.slice.bias = nullptr;
  }
  return StatusFromXnn(xnn_create_convert_nc_f32_qd8(/*flags=*/0, &convert), "create its operator",
                       "input conversion");
}

// Finds the operators of the layer's shape, or makes them: as many as parts run at once, twice, so
// that two sessions seldom wait for each other.
Status DenseSet::Impl::ShareOperators(const LayerSlice& slice, const char* name, uint32_t at_once,
                                      Layer& layer) {
  for (const auto& made : shared) {
    if (made->Serves(slice)) layer.shared = made.get();
  }
  if (layer.shared != nullptr && layer.shared->operators.size() >= 2 * size_t{at_once}) return {};
  auto made = std::make_unique<SharedOperators>(
      SharedOperators{slice.form, slice.rows, slice.columns, slice.block, {}});
  made->operators = std::vector<Operator>(2 * size_t{at_once});
  for (Operator& each : made->operators) {
    each.provider = std::make_unique<PackingProvider>();
    each.provider->Switch(layer.packed);
    HR_RETURN_IF_ERROR(StatusFromXnn(CreateOperator(slice, each.provider->callbacks(), &each.op),
                                     "create its operator", name));
  }
  layer.shared = made.get();
  shared.push_back(std::move(made));
  return {};
}

DenseSet::DenseSet() : impl_(new Impl) {}
DenseSet::~DenseSet() = default;

Result<std::vector<uint64_t>> DenseSet::PackedBytes(std::span<const DenseWeights> layers) {
  HR_ASSIGN_OR_RETURN(CheckedLayers checked, CheckLayers(layers));
  return std::move(checked.bytes);
}

uint64_t DenseSet::CacheFileBytes(std::span<const uint64_t> packed_bytes) {
  uint64_t bytes = 0;
  for (const uint64_t layer_bytes : packed_bytes) bytes += layer_bytes;
  return bytes == 0 ? 0 : bytes + CachePayloadOffset(packed_bytes.size());
}

Result<InputKind> DenseSet::InputKindOf(const DenseWeights& layer) {
  HR_ASSIGN_OR_RETURN(const LayerSlice slice, SliceOf(layer));
  return InputKindOfForm(slice.form);
}

Result<bool> DenseSet::KeepsPointers(const DenseWeights& layer) {
  HR_ASSIGN_OR_RETURN(const LayerSlice slice, SliceOf(layer));
  return !InPanels(slice.form);
}

Result<std::unique_ptr<DenseSet>> DenseSet::Create(std::span<const DenseWeights> layers,
                                                   const DenseOptions& options) {
  HR_ASSIGN_OR_RETURN(const CheckedLayers checked, CheckLayers(layers));
  std::unique_ptr<DenseSet> set(new DenseSet);
  Impl& impl = *set->impl_;
  impl.facts.bytes = checked.total_bytes;

  CacheKey key{options.model_digest, 0};
  HR_ASSIGN_OR_RETURN(key.packing_digest, PackingDigest(checked.slices));
  std::vector<CacheEntry> entries(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    entries[i].signature = Signature(layers[i], checked.slices[i].form);
    entries[i].bytes = checked.bytes[i];
  }
  CacheLayout layout = LayOut(key, std::move(entries));
  if (checked.total_bytes != 0) {
    HR_RETURN_IF_ERROR(impl.FindOrPack(checked, layout, options));
  }
  HR_RETURN_IF_ERROR(impl.CreateOperators(checked, layout, options));
  return set;
}

const PackedFacts& DenseSet::packed() const { return impl_->facts; }

InputKind DenseSet::input_kind(size_t layer) const {
  return InputKindOfForm(impl_->layers[layer].slice.form);
}

const std::byte* DenseSet::packed_weights(size_t layer) const {
  return impl_->layers[layer].packed;
}

bool DenseSet::in_place(size_t layer) const { return InPlace(impl_->layers[layer].slice.form); }

uint64_t DenseSet::InputBytes(InputKind kind, uint32_t rows, uint32_t columns) {
  switch (kind) {
    case InputKind::kF32:
      return RoundUp(uint64_t{rows} * columns * sizeof(float) + kSpareInputBytes,
                     Arena::kAlignment);
    case InputKind::kQd8:
      return QuantizationOffset(rows, columns) +
             RoundUp((uint64_t{rows} + kSpareQuantization) * sizeof(xnn_quantization_params),
                     Arena::kAlignment);
  }
  return 0;
}

void DenseSet::ConvertInput(InputKind kind, const float* x, uint32_t rows, uint32_t columns,
                            std::byte* input, ThreadPool& pool) {
  if (kind == InputKind::kF32 || rows == 0) return;
  auto* quantization =
      reinterpret_cast<xnn_quantization_params*>(input + QuantizationOffset(rows, columns));
  const std::lock_guard lock(impl_->convert_busy);
  xnn_operator_t op = impl_->convert;
  pthreadpool* workers = pool.HandleFor(uint64_t{rows} * columns * 8);  // some eight passes
  // None of these can fail for an operator that exists and a shape that is not empty.
  xnn_status status = xnn_reshape_convert_nc_f32_qd8(op, rows, columns, columns, columns, workers);
  assert(status == xnn_status_success);
  status = xnn_setup_convert_nc_f32_qd8(op, x, reinterpret_cast<int8_t*>(input), quantization);
  assert(status == xnn_status_success);
  status = xnn_run_operator(op, workers);
  assert(status == xnn_status_success);
  (void)status;
  PadQuantization(quantization, rows);
}

void DenseSet::GatherInput(InputKind kind, const std::byte* input, uint32_t rows, uint32_t columns,
                           const uint32_t* which, uint32_t count, std::byte* out) {
  const uint64_t row_bytes = kind == InputKind::kF32 ? columns * sizeof(float) : uint64_t{columns};
  for (uint32_t i = 0; i < count; ++i) {
    std::memcpy(out + i * row_bytes, input + which[i] * row_bytes, row_bytes);
  }
  if (kind == InputKind::kF32) return;
  const auto* from =
      reinterpret_cast<const xnn_quantization_params*>(input + QuantizationOffset(rows, columns));
  auto* to = reinterpret_cast<xnn_quantization_params*>(out + QuantizationOffset(count, columns));
  for (uint32_t i = 0; i < count; ++i) to[i] = from[which[i]];
  PadQuantization(to, count);
}

Status DenseSet::Impl::Operator::Run(LayerForm form, const std::byte* packed, uint32_t rows,
                                     uint32_t columns, const std::byte* input, uint32_t tokens,
                                     float* out, ThreadPool& pool) {
  // One operator serves every number of rows. Reshaping costs a fraction of a microsecond and is
  // skipped while the number stays the same, as it does during decode. Of the pool it uses the
  // number of threads only.
  pthreadpool* workers = pool.HandleFor(uint64_t{tokens} * rows * columns);
  const uint32_t threads = workers == nullptr ? 1 : pool.threads();
  if (shaped_rows != tokens || shaped_threads != threads || shaped_packed != packed) {
    shaped_rows = 0;  // should reshaping fail, the operator is not as it was
    if (provider != nullptr) provider->Switch(packed);
    HR_RETURN_IF_ERROR(
        StatusFromXnn(ReshapeOperator(form, op, tokens, workers), "reshape", "dense layer"));
    shaped_rows = tokens;
    shaped_threads = threads;
    shaped_packed = packed;
  }
  const auto* quantization =
      reinterpret_cast<const xnn_quantization_params*>(input + QuantizationOffset(tokens, columns));
  HR_RETURN_IF_ERROR(
      StatusFromXnn(SetupOperator(form, op, input, quantization, out), "set up", "dense layer"));
  return StatusFromXnn(xnn_run_operator(op, workers), "run", "dense layer");
}

Status DenseSet::RunPart(size_t index, uint32_t part, const std::byte* input, uint32_t rows,
                         float* out, ThreadPool& pool) {
  if (rows == 0) return {};
  Impl::Layer& layer = impl_->layers[index];
  const LayerSlice& slice = layer.slice;
  if (InPlace(slice.form)) {
    const LayerSlice own = PartOf(slice, part);
    RunInPlaceLayer({own.weights, reinterpret_cast<const uint16_t*>(own.scales), own.block,
                     own.bias, own.columns, own.rows},
                    reinterpret_cast<const float*>(input), rows, out, pool);
    return {};
  }
  const std::byte* packed = layer.packed + part * layer.part_bytes;
  if (layer.shared == nullptr) {
    const std::lock_guard lock(layer.own.busy);
    return layer.own.Run(slice.form, packed, slice.rows, slice.columns, input, rows, out, pool);
  }
  std::vector<Impl::Operator>& operators = layer.shared->operators;
  for (Impl::Operator& each : operators) {
    const std::unique_lock lock(each.busy, std::try_to_lock);
    if (!lock.owns_lock()) continue;
    return each.Run(slice.form, packed, slice.rows, slice.columns, input, rows, out, pool);
  }
  Impl::Operator& any = operators[part % operators.size()];
  const std::lock_guard lock(any.busy);
  return any.Run(slice.form, packed, slice.rows, slice.columns, input, rows, out, pool);
}

}  // namespace headroom::xnnpack
