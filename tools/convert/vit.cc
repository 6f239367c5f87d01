#include "convert/vit.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "convert/image_preprocess.h"
#include "convert/recipe.h"

namespace headroom::convert {
namespace {

constexpr uint32_t kMostWidth = 1u << 13, kMostLayers = 256, kMostClasses = 1u << 16;
constexpr double kPlain = 1.0;  // of noise: norms keep its size
constexpr Noise kTokenNoise = {0.3};

struct VitShape {
  std::string prefix;                    // of all tensors but the classifiers'
  bool distils = false;                  // a second token in front
  std::vector<std::string> classifiers;  // of row i; their mean counts
  uint32_t width = 0, layers = 0, heads = 0, inner = 0, patch = 0, side = 0, classes = 0;
  float epsilon = 1e-12f;
  bool qkv_bias = true;
  model::Activation activation = model::Activation::kGeluErf;

  uint32_t prefix_rows() const { return distils ? 2 : 1; }
  uint32_t rows() const { return prefix_rows() + (side / patch) * (side / patch); }
};

Status ReadActivation(Config& config, VitShape* shape) {
  static const std::map<std::string, model::Activation> kNames = {
      {"gelu", model::Activation::kGeluErf},
      {"gelu_new", model::Activation::kGeluTanh},
      {"gelu_fast", model::Activation::kGeluTanh},
      {"gelu_pytorch_tanh", model::Activation::kGeluTanh},
      {"relu", model::Activation::kRelu},
      {"quick_gelu", model::Activation::kQuickGelu},
      {"silu", model::Activation::kSilu}};
  HR_ASSIGN_OR_RETURN(const auto name, config.String("hidden_act"));
  const auto found = kNames.find(name.value_or("gelu"));
  if (found == kNames.end()) {
    return Status::Make(StatusCode::kUnsupported, "config.json: hidden_act \"%s\"",
                        Printable(*name).c_str());
  }
  shape->activation = found->second;
  return {};
}

Status ReadClass(const Config& config, VitShape* shape) {
  shape->distils = !config.Names("architectures", "ViT");
  shape->prefix = shape->distils ? "deit" : "vit";
  shape->classifiers = {"classifier"};
  if (config.Names("architectures", "DeiTForImageClassificationWithTeacher")) {
    shape->classifiers = {"cls_classifier", "distillation_classifier"};
  }
  return {};
}

Status CheckShape(const VitShape& shape) {
  if (shape.width % shape.heads != 0) {
    return Status::Make(StatusCode::kUnsupported,
                        "config.json: hidden_size %u is no multiple of %u heads", shape.width,
                        shape.heads);
  }
  if (shape.side % shape.patch != 0) {
    return Status::Make(StatusCode::kUnsupported,
                        "config.json: image_size %u is no multiple of patch_size %u", shape.side,
                        shape.patch);
  }
  return {};
}

Result<VitShape> ReadVitShape(Config& config) {
  VitShape shape;
  HR_RETURN_IF_ERROR(ReadClass(config, &shape));
  HR_ASSIGN_OR_RETURN(shape.width, config.NeedCount("hidden_size", 1, kMostWidth));
  HR_ASSIGN_OR_RETURN(shape.layers, config.NeedCount("num_hidden_layers", 1, kMostLayers));
  HR_ASSIGN_OR_RETURN(shape.heads, config.NeedCount("num_attention_heads", 1, kMostWidth));
  HR_ASSIGN_OR_RETURN(shape.inner, config.NeedCount("intermediate_size", 1, 8 * kMostWidth));
  HR_ASSIGN_OR_RETURN(shape.patch, config.NeedCount("patch_size", 1, model::kMaxImageKernel));
  HR_ASSIGN_OR_RETURN(shape.side, config.NeedCount("image_size", 1, 4096));
  HR_RETURN_IF_ERROR(config.Count("num_channels", 3, 3).status());
  HR_ASSIGN_OR_RETURN(const auto epsilon, config.Number("layer_norm_eps", 1e-30, 1.0));
  shape.epsilon = static_cast<float>(epsilon.value_or(1e-12));
  HR_ASSIGN_OR_RETURN(const auto biased, config.Bool("qkv_bias"));
  shape.qkv_bias = biased.value_or(true);
  HR_RETURN_IF_ERROR(ReadActivation(config, &shape));
  HR_RETURN_IF_ERROR(CheckShape(shape));
  return shape;
}

class Builder {
 public:
  Builder(const VitShape& shape, ImageSource& source, WeightFormat format, ImagePlan& plan)
      : shape_(shape), source_(source), graph_(format, plan) {}

  ImageGraphWriter& graph() { return graph_; }
  Result<int32_t> Embed();
  Result<int32_t> Layer(const std::string& name, int32_t x);
  Status Classify(int32_t x);

 private:
  Result<int32_t> Norm(const std::string& name, const std::string& from, int32_t x);
  Result<int32_t> Project(const std::string& name, const std::string& from, uint32_t width,
                          int32_t x);
  Result<int32_t> Attention(const std::string& name, const std::string& from, int32_t x);
  Result<MakeNumbers> Positions();

  const VitShape& shape_;
  ImageSource& source_;
  ImageGraphWriter graph_;
};

Result<int32_t> Builder::Norm(const std::string& name, const std::string& from, int32_t x) {
  HR_ASSIGN_OR_RETURN(const ImageNorm norm, ReadImageNorm(source_, from, shape_.width));
  return graph_.Norm(name, norm, 0, shape_.epsilon, x);
}

Result<int32_t> Builder::Project(const std::string& name, const std::string& from, uint32_t width,
                                 int32_t x) {
  HR_ASSIGN_OR_RETURN(const ImageLayer layer,
                      PlainLayer(source_, from, {width, graph_.channels(x)}, kPlain));
  return graph_.Project(name, layer, x);
}

// Row i of the table in front of the patches: token i and its position.
Result<MakeNumbers> Builder::Positions() {
  const std::string from = shape_.prefix + ".embeddings.";
  const uint64_t width = shape_.width;
  HR_ASSIGN_OR_RETURN(
      const SourceNumbers table,
      source_.Need(from + "position_embeddings", {1, shape_.rows(), width}, kTokenNoise));
  std::vector<SourceNumbers> tokens;
  for (const char* name : {"cls_token", "distillation_token"}) {
    if (tokens.size() == shape_.prefix_rows()) break;
    HR_ASSIGN_OR_RETURN(SourceNumbers token, source_.Need(from + name, {1, 1, width}, kTokenNoise));
    tokens.push_back(std::move(token));
  }
  source_.Ignore(from + "mask_token");  // of training
  return MakeNumbers([table, tokens]() -> Result<std::vector<double>> {
    HR_ASSIGN_OR_RETURN(std::vector<double> out, table.Read());
    size_t at = 0;
    for (const SourceNumbers& token : tokens) {
      HR_ASSIGN_OR_RETURN(const std::vector<double> numbers, token.Read());
      for (const double x : numbers) out[at++] += x;
    }
    return out;
  });
}

Result<int32_t> Builder::Embed() {
  const std::string from = shape_.prefix + ".embeddings.patch_embeddings.projection";
  HR_ASSIGN_OR_RETURN(const ImageLayer patches,
                      PlainLayer(source_, from, {shape_.width, 3, shape_.patch}, kPlain));
  int32_t x = graph_.Convolve("patches", patches, {shape_.patch, 0, 1}, model::Limit::kNone, 0);
  x = graph_.Flatten("rows", x);
  HR_ASSIGN_OR_RETURN(MakeNumbers table, Positions());
  return graph_.AddPositions("positions", std::move(table), shape_.rows(), shape_.prefix_rows(), x);
}

Result<int32_t> Builder::Attention(const std::string& name, const std::string& from, int32_t x) {
  std::vector<ImageLayer> parts;
  for (const char* part : {"query", "key", "value"}) {
    HR_ASSIGN_OR_RETURN(ImageLayer layer,
                        PlainLayer(source_, from + ".attention." + part,
                                   {shape_.width, shape_.width}, kPlain, {1.0, shape_.qkv_bias}));
    parts.push_back(std::move(layer));
  }
  const uint32_t width = shape_.width / shape_.heads;
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  x = graph_.Project(name + ".qkv", StackedLayers(std::move(parts)), x);
  x = graph_.Attend(name, {shape_.heads, width, width, scale, false}, x);
  return Project(name + ".output", from + ".output.dense", shape_.width, x);
}

Result<int32_t> Builder::Layer(const std::string& name, int32_t x) {
  const std::string from = shape_.prefix + ".encoder.layer." + name;
  const std::string to = "layers." + name;
  HR_ASSIGN_OR_RETURN(int32_t y, Norm(to + ".norm1", from + ".layernorm_before", x));
  HR_ASSIGN_OR_RETURN(y, Attention(to + ".attention", from + ".attention", y));
  x = graph_.Sum(to + ".sum1", x, y);
  HR_ASSIGN_OR_RETURN(y, Norm(to + ".norm2", from + ".layernorm_after", x));
  HR_ASSIGN_OR_RETURN(y, Project(to + ".up", from + ".intermediate.dense", shape_.inner, y));
  y = graph_.Activate(to + ".act", shape_.activation, y);
  HR_ASSIGN_OR_RETURN(y, Project(to + ".down", from + ".output.dense", shape_.width, y));
  return graph_.Sum(to + ".sum2", x, y);
}

// Of positions one by one, so that the last norm need not see the others.
Status Builder::Classify(int32_t x) {
  ImageDescription& image = graph_.image();
  const double share = 1.0 / static_cast<double>(shape_.classifiers.size());
  for (size_t i = 0; i < shape_.classifiers.size(); ++i) {
    const std::string number = i == 0 ? "" : std::to_string(i);
    int32_t row = graph_.Row("token" + number, static_cast<uint32_t>(i), x);
    HR_ASSIGN_OR_RETURN(row, Norm("norm" + number, shape_.prefix + ".layernorm", row));
    if (i == 0) image.features = row;
    HR_ASSIGN_OR_RETURN(const ImageLayer layer,
                        PlainLayer(source_, shape_.classifiers[i], {shape_.classes, shape_.width},
                                   kPlain, {share}));
    const int32_t logits = graph_.Project(shape_.classifiers[i], layer, row);
    image.logits = i == 0 ? logits : graph_.Sum("logits", image.logits, logits);
  }
  return {};
}

// By number; none where they are what the library makes up.
Result<std::vector<std::string>> ReadLabels(Config& config, uint32_t classes) {
  HR_ASSIGN_OR_RETURN(auto names, config.Object("id2label"));
  std::vector<std::string> labels;
  if (!names) return labels;
  bool own = false;
  for (uint32_t i = 0; i < classes; ++i) {
    const std::string key = std::to_string(i);
    HR_ASSIGN_OR_RETURN(const auto label, names->String(key));
    if (!label) {
      return Status::Make(StatusCode::kUnsupported,
                          "config.json: id2label lacks number %u of %u classes", i, classes);
    }
    own = own || *label != "LABEL_" + key;
    labels.push_back(*label);
  }
  HR_RETURN_IF_ERROR(names->RefuseUnused());
  return own ? labels : std::vector<std::string>();
}

Result<uint32_t> CountClasses(Config& config, const VitShape& shape, const ImageSource& source) {
  HR_ASSIGN_OR_RETURN(const auto stated, config.Count("num_labels", 1, kMostClasses));
  if (source.random()) return stated.value_or(1000);
  const std::string name = shape.classifiers[0] + ".weight";
  HR_ASSIGN_OR_RETURN(const std::vector<uint64_t> stored, source.Shape(name));
  if (stored.size() == 2 && stored[0] >= 1 && stored[0] <= kMostClasses) {
    return static_cast<uint32_t>(stored[0]);
  }
  return Status::Make(StatusCode::kUnsupported, "tensor \"%s\" is no matrix of 1..%u rows",
                      name.c_str(), kMostClasses);
}

Status ReadAround(Config& config, const VitShape& shape, ImageDescription& image) {
  HR_ASSIGN_OR_RETURN(auto preprocessor, config.Object("preprocessor"));
  if (!preprocessor) {
    return Status::Make(StatusCode::kNotFound,
                        "the folder has no preprocessor_config.json, which says how pictures "
                        "become the model's input");
  }
  HR_ASSIGN_OR_RETURN(image.preprocess,
                      ReadHuggingFacePreprocess(*preprocessor, shape.side, shape.side));
  HR_ASSIGN_OR_RETURN(image.labels, ReadLabels(config, shape.classes));
  // Of training, of the pooler that no classifier has, and of masked pictures.
  for (const char* key : {"hidden_dropout_prob", "attention_probs_dropout_prob", "encoder_stride",
                          "pooler_output_size", "pooler_act", "layerdrop"}) {
    config.Ignore(key);
  }
  for (const std::string_view key : NeutralKeys()) config.Ignore(std::string(key));
  return config.RefuseUnused();
}

}  // namespace

bool IsVit(const Config& config) {
  return config.Names("architectures", "ViTForImageClassification") ||
         config.Names("architectures", "DeiTForImageClassification");
}

Result<ImagePlan> PlanVit(Config& config, ImageSource& source, WeightFormat format) {
  HR_ASSIGN_OR_RETURN(VitShape shape, ReadVitShape(config));
  HR_ASSIGN_OR_RETURN(shape.classes, CountClasses(config, shape, source));
  ImagePlan plan;
  Builder builder(shape, source, format, plan);
  HR_RETURN_IF_ERROR(ReadAround(config, shape, builder.graph().image()));
  HR_ASSIGN_OR_RETURN(int32_t x, builder.Embed());
  for (uint32_t i = 0; i < shape.layers; ++i) {
    HR_ASSIGN_OR_RETURN(x, builder.Layer(std::to_string(i), x));
  }
  HR_RETURN_IF_ERROR(builder.Classify(x));
  plan.layers = shape.layers;
  plan.channels = shape.width;
  plan.description.metadata.architecture = shape.distils ? "DeiT" : "ViT";
  plan.description.metadata.vocabulary = shape.classes;
  return plan;
}

}  // namespace headroom::convert
