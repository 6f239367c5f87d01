#include "convert/kv_moments.h"

#include <charconv>
#include <cstdio>

#include "base/half.h"

namespace headroom::convert {
namespace {

using model::AttentionSpec;

// Keys and values of heads side by side, KV head g of both read together.
bool HasHeads(const AttentionSpec& spec) {
  if (spec.tail.present() || !spec.value.present() || spec.query.matrix.present()) return false;
  if (!spec.output.present()) return false;  // what reads the values is not known here
  if (spec.key.heads != spec.value.heads || spec.key.width != spec.value.width) return false;
  return spec.key.width <= model::kMaxBasisWidth;
}

void AddHeads(const float* x, size_t numbers, std::vector<Moments>* heads) {
  if (heads->empty() || numbers != heads->size() * heads->front().width()) return;
  for (Moments& head : *heads) {
    head.Add(x);
    x += head.width();
  }
}

float Element(const TensorView& tensor, uint64_t index) {
  if (tensor.dtype == DType::kF32) return tensor.f32()[index];
  return HalfToFloat(reinterpret_cast<const uint16_t*>(tensor.data)[index]);
}

// Of what is lost without it, how much half of the numbers keep, summed over heads.
struct Kept {
  double lost = 0.0, all = 0.0;
  void Add(const std::vector<double>& rows, const std::vector<double>& readers,
           const std::vector<double>& basis, uint32_t width) {
    lost += CutError(rows, readers, basis, width, width / 2);
    all += CutError(rows, readers, basis, width, 0);
  }
  double percent() const { return all > 0.0 ? 100.0 * (1.0 - lost / all) : 100.0; }
};

}  // namespace

size_t KvMoments::Owner(size_t attention) const {
  const int32_t source = model_->attentions[attention].source_attention;
  return source == model::kNone ? attention : static_cast<size_t>(source);
}

Status KvMoments::Open(const std::string& path) {
  HR_ASSIGN_OR_RETURN(model_, model::Model::OpenPath(path.c_str(), {}));
  layers_.resize(model_->attentions.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    const AttentionSpec& spec = model_->attentions[i];
    Layer& layer = layers_[Owner(i)];
    if (!HasHeads(spec)) continue;
    const uint32_t width = spec.key.width;
    if (spec.source_attention == model::kNone) {
      layer.queries.assign(spec.key.heads, Moments(width));
      layer.keys = layer.values = layer.queries;
      layer.readers.assign(spec.key.heads, std::vector<double>(uint64_t{width} * width, 0.0));
    }
    if (!layer.readers.empty()) AddReaders(spec, &layer);
  }
  return {};
}

void KvMoments::AddReaders(const AttentionSpec& spec, Layer* layer) const {
  const TensorView& output = model_->tensors[static_cast<size_t>(spec.output.tensor)];
  const uint32_t width = spec.value.width, columns = output.columns();
  std::vector<double> row(width);
  for (uint64_t r = spec.output.row_begin; r < uint64_t{spec.output.row_begin} + spec.output.rows;
       ++r) {
    for (uint32_t h = 0; h < spec.query_heads; ++h) {
      std::vector<double>& sums = layer->readers[spec.views[spec.head_map[h]].value];
      for (uint32_t i = 0; i < width; ++i) {
        row[i] = Element(output, r * columns + uint64_t{h} * width + i);
      }
      for (uint32_t i = 0; i < width; ++i) {
        for (uint32_t j = 0; j < width; ++j) sums[uint64_t{i} * width + j] += row[i] * row[j];
      }
    }
  }
}

// attention.N.queries and so on.
void KvMoments::AddToken(std::string_view name, const float* x, size_t numbers) {
  constexpr std::string_view kPrefix = "attention.";
  if (!name.starts_with(kPrefix)) return;
  name.remove_prefix(kPrefix.size());
  size_t index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc() || index >= layers_.size()) return;
  const std::string_view what(end, static_cast<size_t>(name.data() + name.size() - end));
  Layer& layer = layers_[Owner(index)];
  if (what == ".keys") AddHeads(x, numbers, &layer.keys);
  if (what == ".values") AddHeads(x, numbers, &layer.values);
  if (what != ".queries" || layer.queries.empty()) return;
  const AttentionSpec& spec = model_->attentions[index];
  for (uint32_t h = 0; h < spec.query_heads; ++h) {
    layer.queries[spec.views[spec.head_map[h]].key].Add(x + uint64_t{h} * spec.query.width);
  }
}

Result<std::vector<LayerBases>> KvMoments::Bases(std::string* summary) const {
  std::vector<LayerBases> bases(layers_.size());
  Kept keys, values;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    for (size_t g = 0; g < layer.keys.size(); ++g) {
      const uint32_t width = layer.keys[g].width();
      const auto add = [&](const std::vector<double>& rows, const std::vector<double>& readers,
                           Kept* kept, std::vector<float>* out) {
        const std::vector<double> basis = MakeBasis(rows, readers, width);
        kept->Add(rows, readers, basis, width);
        out->insert(out->end(), basis.begin(), basis.end());
      };
      add(layer.keys[g].Covariance(), layer.queries[g].Second(), &keys, &bases[i].keys);
      add(layer.values[g].Second(), layer.readers[g], &values, &bases[i].values);
    }
  }
  if (keys.all == 0.0) {
    return Status::Make(StatusCode::kUnsupported,
                        "no layer of the model keeps keys and values of heads (a latent is a basis "
                        "already)");
  }
  char line[128];
  std::snprintf(line, sizeof(line),
                "half of a key's numbers keep %.2f %% of what queries tell apart, half of a "
                "value's %.2f %% of the output",
                keys.percent(), values.percent());
  *summary = line;
  return bases;
}

}  // namespace headroom::convert
