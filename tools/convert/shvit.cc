#include "convert/shvit.h"

#include <algorithm>
#include <cmath>

#include "convert/image_preprocess.h"

namespace headroom::convert {
namespace {

using model::Limit;

constexpr uint32_t kStemConvolutions = 4;
constexpr float kNormEpsilon = 1e-5f;  // of PyTorch's GroupNorm
// Of noise: what keeps numbers of one size through a ReLU, what adds little to a sum.
constexpr double kThroughRelu = 1.4142135623730951, kPlain = 1.0, kAdded = 0.3;

// Adds layers under timm's names; each returns its output.
class Builder {
 public:
  Builder(ImageSource& source, WeightFormat format, ImagePlan& plan)
      : source_(source), graph_(format, plan) {}

  ImageGraphWriter& graph() { return graph_; }
  Result<int32_t> Stem(uint32_t width);
  Result<int32_t> Depthwise(const std::string& name, int32_t x);
  Result<int32_t> FeedForward(const std::string& name, int32_t x);
  Result<int32_t> Merge(const std::string& name, uint32_t width, int32_t x);
  Result<int32_t> Join(const std::string& name, uint32_t width, int32_t x);
  Result<int32_t> Mixer(const std::string& name, const ShvitStage& stage, int32_t x);
  Result<int32_t> Block(const std::string& name, const ShvitStage& stage, int32_t x);
  Result<int32_t> Classify(uint32_t classes, int32_t x);

 private:
  Result<int32_t> Point(const std::string& name, uint32_t width, double gain, Limit limit,
                        int32_t x);
  Result<int32_t> Excite(const std::string& name, int32_t x);

  ImageSource& source_;
  ImageGraphWriter graph_;
};

// A 1 x 1 convolution with its batch norm.
Result<int32_t> Builder::Point(const std::string& name, uint32_t width, double gain, Limit limit,
                               int32_t x) {
  HR_ASSIGN_OR_RETURN(const ImageLayer layer,
                      NormedConvolution(source_, name, {width, graph_.channels(x)}, gain));
  return graph_.Project(name, layer, x, limit);
}

Result<int32_t> Builder::Stem(uint32_t width) {
  int32_t x = 0;
  for (uint32_t i = 0; i < kStemConvolutions; ++i) {
    const bool last = i + 1 == kStemConvolutions;
    const std::string name = "patch_embed." + std::to_string(2 * i);
    const KernelShape shape = {width >> (kStemConvolutions - 1 - i), graph_.channels(x), 3};
    HR_ASSIGN_OR_RETURN(const ImageLayer layer,
                        NormedConvolution(source_, name, shape, kThroughRelu));
    x = graph_.Convolve(name, layer, {2, 1, 1}, last ? Limit::kNone : Limit::kRelu, x);
  }
  return x;
}

// x + convolution(x), as one.
Result<int32_t> Builder::Depthwise(const std::string& name, int32_t x) {
  const uint32_t width = graph_.channels(x);
  HR_ASSIGN_OR_RETURN(const ImageLayer layer,
                      ResidualDepthwise(source_, name, {width, 1, 3}, kAdded));
  return graph_.Convolve(name, layer, {1, 1, width}, Limit::kNone, x);
}

Result<int32_t> Builder::FeedForward(const std::string& name, int32_t x) {
  const uint32_t width = graph_.channels(x);
  HR_ASSIGN_OR_RETURN(int32_t y, Point(name + ".m.pw1", 2 * width, kThroughRelu, Limit::kRelu, x));
  HR_ASSIGN_OR_RETURN(y, Point(name + ".m.pw2", width, kAdded, Limit::kNone, y));
  return graph_.Sum(name, x, y);
}

// Each channel times a factor in 0..1 that all of them have a say in.
Result<int32_t> Builder::Excite(const std::string& name, int32_t x) {
  const uint32_t width = graph_.channels(x);
  uint64_t inner = std::max(8u, (width / 4 + 4) / 8 * 8);
  if (!source_.random()) {
    HR_ASSIGN_OR_RETURN(const std::vector<uint64_t> stored, source_.Shape(name + ".fc1.weight"));
    inner = stored.empty() ? 0 : stored[0];
  }
  if (inner == 0 || inner > 4u * width) {
    return Status::Make(StatusCode::kUnsupported,
                        "tensor \"%s.fc1.weight\" has %llu rows, not 1..%u", name.c_str(),
                        static_cast<unsigned long long>(inner), 4 * width);
  }
  const auto narrow = static_cast<uint32_t>(inner);
  HR_ASSIGN_OR_RETURN(const ImageLayer down,
                      PlainLayer(source_, name + ".fc1", {narrow, width}, kThroughRelu));
  HR_ASSIGN_OR_RETURN(const ImageLayer up,
                      PlainLayer(source_, name + ".fc2", {width, narrow}, kThroughRelu));
  int32_t factor = graph_.Mean(name + ".mean", x);
  factor = graph_.Project(name + ".fc1", down, factor, Limit::kRelu);
  factor = graph_.Project(name + ".fc2", up, factor);
  factor = graph_.Activate(name + ".gate", model::Activation::kSigmoid, factor);
  return graph_.Multiply(name, x, factor);
}

// Half as many rows and columns, `width` channels.
Result<int32_t> Builder::Merge(const std::string& name, uint32_t width, int32_t x) {
  const uint32_t inner = 4 * graph_.channels(x);
  HR_ASSIGN_OR_RETURN(x, Point(name + ".conv1", inner, kThroughRelu, Limit::kRelu, x));
  HR_ASSIGN_OR_RETURN(const ImageLayer layer,
                      NormedConvolution(source_, name + ".conv2", {inner, 1, 3}, kThroughRelu));
  x = graph_.Convolve(name + ".conv2", layer, {2, 1, inner}, Limit::kRelu, x);
  HR_ASSIGN_OR_RETURN(x, Excite(name + ".se", x));
  return Point(name + ".conv3", width, kThroughRelu, Limit::kNone, x);
}

Result<int32_t> Builder::Join(const std::string& name, uint32_t width, int32_t x) {
  HR_ASSIGN_OR_RETURN(x, Depthwise(name + ".0", x));
  HR_ASSIGN_OR_RETURN(x, FeedForward(name + ".1", x));
  HR_ASSIGN_OR_RETURN(x, Merge(name + ".2", width, x));
  HR_ASSIGN_OR_RETURN(x, Depthwise(name + ".3", x));
  return FeedForward(name + ".4", x);
}

// Single-head attention on the first channels; the others pass it by, without the norm.
Result<int32_t> Builder::Mixer(const std::string& name, const ShvitStage& stage, int32_t x) {
  const std::string inner = name + ".m";
  model::SelfAttentionSpec spec;
  spec.query_width = stage.query;
  spec.value_width = stage.partial;
  spec.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(stage.query)));
  spec.relu = true;  // in front of the projection, of both parts
  HR_ASSIGN_OR_RETURN(const ImageNorm norm,
                      ReadImageNorm(source_, inner + ".pre_norm", stage.partial));
  int32_t part = graph_.Channels(inner + ".first", x, 0, stage.partial);
  part = graph_.Norm(inner + ".pre_norm", norm, 1, kNormEpsilon, part);
  HR_ASSIGN_OR_RETURN(part, Point(inner + ".qkv", spec.input_width(), kPlain, Limit::kNone, part));
  part = graph_.Attend(inner + ".attention", spec, part);
  int32_t rest = graph_.Channels(inner + ".rest", x, stage.partial, stage.width);
  rest = graph_.Activate(inner + ".relu", model::Activation::kRelu, rest);
  const int32_t both = graph_.Concat(inner + ".both", part, rest);
  HR_ASSIGN_OR_RETURN(const int32_t y,
                      Point(inner + ".proj.1", stage.width, kAdded, Limit::kNone, both));
  return graph_.Sum(name, x, y);
}

Result<int32_t> Builder::Block(const std::string& name, const ShvitStage& stage, int32_t x) {
  HR_ASSIGN_OR_RETURN(x, Depthwise(name + ".conv", x));
  if (stage.attends) {
    HR_ASSIGN_OR_RETURN(x, Mixer(name + ".mixer", stage, x));
  }
  return FeedForward(name + ".ffn", x);
}

Result<int32_t> Builder::Classify(uint32_t classes, int32_t x) {
  std::vector<std::string> heads = {"head"};
  if (source_.Has("head_dist.l.weight") || source_.Has("head_dist.weight")) {
    heads.push_back("head_dist");
  }
  HR_ASSIGN_OR_RETURN(const ImageLayer layer,
                      NormedClassifier(source_, heads, {classes, graph_.channels(x)}));
  graph_.image().features = graph_.Mean("features", x);
  return graph_.Project("head", layer, graph_.image().features);
}

// What "blocksN.M." of the authors' checkpoint is called in timm's: between two stages the first
// three entries of the second one's list join them.
std::string TimmName(const std::string& name) {
  const bool blocks = name.starts_with("blocks") && name.size() > 8 && name[7] == '.';
  if (!blocks || name[6] < '1' || name[6] > '3') return name;
  const size_t dot = name.find('.', 8);
  if (dot == std::string::npos || dot > 11) return name;
  const std::string stage = "stages." + std::to_string(name[6] - '1');
  const std::string item = name.substr(8, dot - 8), rest = name.substr(dot);
  if (item.find_first_not_of("0123456789") != std::string::npos || item.empty()) return name;
  if (name[6] == '1') return stage + ".blocks." + item + rest;
  if (item == "1") return stage + ".downsample.2" + rest;
  if (item == "0" || item == "2") {
    if (rest.size() < 2 || (rest[1] != '0' && rest[1] != '1')) return name;
    const int first = item == "0" ? 0 : 3;
    return stage + ".downsample." + std::to_string(first + rest[1] - '0') + rest.substr(2);
  }
  return stage + ".blocks." + std::to_string(std::stoi(item) - 3) + rest;
}

Result<std::vector<std::string>> ReadLabels(Config& config, Config* pretrained) {
  HR_ASSIGN_OR_RETURN(auto labels, config.Strings("label_names"));
  if (!labels && pretrained) {
    HR_ASSIGN_OR_RETURN(labels, pretrained->Strings("label_names"));
  }
  return labels.value_or(std::vector<std::string>());
}

Status ReadAround(Config& config, const ShvitShape& shape, ImageDescription& image) {
  // The features' width and the pooling are SHViT's own; descriptions say more of the labels.
  for (const char* key : {"num_features", "label_descriptions"}) config.Ignore(key);
  HR_ASSIGN_OR_RETURN(const auto pool, config.String("global_pool"));
  if (pool.value_or("avg") != "avg") {
    return Status::Make(StatusCode::kUnsupported, "config.json: global_pool \"%s\" is not avg",
                        Printable(*pool).c_str());
  }
  HR_ASSIGN_OR_RETURN(auto pretrained, config.Object("pretrained_cfg"));
  Config* around = pretrained ? &*pretrained : nullptr;
  HR_ASSIGN_OR_RETURN(image.preprocess, ReadTimmPreprocess(around, shape.side));
  HR_ASSIGN_OR_RETURN(image.labels, ReadLabels(config, around));
  return config.RefuseUnused();
}

}  // namespace

ImageSource OpenShvit(const Checkpoint& checkpoint) { return {checkpoint, TimmName}; }

Result<ImagePlan> PlanShvit(Config& config, ImageSource& source, WeightFormat format) {
  ImagePlan plan;
  HR_ASSIGN_OR_RETURN(const ShvitShape shape, ReadShvitShape(config));
  Builder builder(source, format, plan);
  HR_RETURN_IF_ERROR(ReadAround(config, shape, builder.graph().image()));
  HR_ASSIGN_OR_RETURN(int32_t x, builder.Stem(shape.stages[0].width));
  for (size_t i = 0; i < shape.stages.size(); ++i) {
    const ShvitStage& stage = shape.stages[i];
    const std::string name = "stages." + std::to_string(i);
    // The authors join stages of one width, too; timm does not.
    const std::string join = name + ".downsample";
    const bool joined = builder.graph().channels(x) != stage.width ||
                        source.Has(join + ".2.conv3.c.weight") ||
                        source.Has(join + ".2.conv3.weight");
    if (joined) {
      HR_ASSIGN_OR_RETURN(x, builder.Join(join, stage.width, x));
    }
    for (uint32_t block = 0; block < stage.depth; ++block) {
      HR_ASSIGN_OR_RETURN(x, builder.Block(name + ".blocks." + std::to_string(block), stage, x));
    }
    plan.layers += stage.depth;
  }
  HR_ASSIGN_OR_RETURN(builder.graph().image().logits, builder.Classify(shape.classes, x));
  plan.channels = shape.stages.back().width;
  plan.description.metadata.architecture = "SHViT";
  plan.description.metadata.vocabulary = shape.classes;
  return plan;
}

}  // namespace headroom::convert
