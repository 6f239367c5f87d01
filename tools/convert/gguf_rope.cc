#include "convert/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace headroom::convert {
namespace {

using Number = GgufKeys::Number;

constexpr uint64_t kMaxFactors = 4096;

class Rotation {
 public:
  Rotation(const GgufArchitecture& architecture, const Recipe& recipe, double head_width,
           GgufFile& gguf, GgufKeys& keys, Json& config)
      : architecture_(architecture),
        recipe_(recipe),
        head_width_(head_width),
        gguf_(gguf),
        keys_(keys),
        config_(config) {}

  Status Describe() {
    if (!recipe_.rotary) return {};
    HR_ASSIGN_OR_RETURN(const Number base, keys_.Read("rope.freq_base"));
    Set("rope_theta", ToJson(base.value_or(10000.0)));
    HR_ASSIGN_OR_RETURN(const Number local, keys_.Read("rope.freq_base_swa"));
    if (local && recipe_.local_rope_base_key.empty() && *local != base.value_or(10000.0))
      return keys_.Refuse("rope.freq_base_swa", "is not executed for this architecture");
    if (!recipe_.local_rope_base_key.empty())
      Set(recipe_.local_rope_base_key, ToJson(local.value_or(10000.0)));
    HR_RETURN_IF_ERROR(RotatedShare());
    if (architecture_.unrotated_period != 0)
      Set("no_rope_layer_interval", architecture_.unrotated_period);
    HR_ASSIGN_OR_RETURN(const auto finetuned, keys_.ReadFlag("rope.scaling.finetuned"));
    if (architecture_.rotates_if_tuned && !finetuned.value_or(true))
      return keys_.Refuse("rope.scaling.finetuned", "is false: no layer would be rotated");
    return Scaling();
  }

 private:
  Status RotatedShare() {
    HR_ASSIGN_OR_RETURN(const Number dims, keys_.Read("rope.dimension_count"));
    if (!dims || *dims == head_width_) return {};
    const std::string_view key = recipe_.rotary_share_key;
    if (key.empty() || !(*dims > 0 && *dims < head_width_))
      return keys_.Refuse("rope.dimension_count", "is not the width of a head");
    // Half a dimension more: the reader cuts the product off to a whole number.
    Set(key, (*dims + 0.5) / head_width_);
    return {};
  }

  Status Scaling() {
    HR_ASSIGN_OR_RETURN(auto type, keys_.ReadText("rope.scaling.type"));
    HR_ASSIGN_OR_RETURN(Number factor, keys_.Read("rope.scaling.factor"));
    HR_ASSIGN_OR_RETURN(const Number linear, keys_.Read("rope.scale_linear"));  // older files
    if (!factor) factor = linear;
    HR_ASSIGN_OR_RETURN(const Number original, keys_.Read("rope.scaling.original_context_length"));
    HR_ASSIGN_OR_RETURN(const Number attention, keys_.Read("rope.scaling.attn_factor"));
    HR_ASSIGN_OR_RETURN(const Json yarn, YarnKeys());
    HR_ASSIGN_OR_RETURN(const Json divisors, Factors("rope_freqs.weight"));
    HR_ASSIGN_OR_RETURN(const Json long_factors, Factors("rope_factors_long.weight"));
    HR_ASSIGN_OR_RETURN(const Json short_factors, Factors("rope_factors_short.weight"));
    Json scaling = Json::object();
    const bool scaled = factor.value_or(1.0) != 1.0 && factor.value_or(0.0) != 0.0;
    const std::string kind = type.value_or("linear");
    const double attention_factor = attention.value_or(1.0);
    if (!long_factors.empty() || !short_factors.empty()) {
      scaling = {{"rope_type", "longrope"},
                 {"long_factor", long_factors},
                 {"short_factor", short_factors},
                 {"attention_factor", attention_factor}};
      if (original) scaling["original_max_position_embeddings"] = ToJson(*original);
      if (kind == "yarn" || !divisors.empty())
        return keys_.Refuse("rope.scaling.type", "scales rotations twice");
    } else if (kind == "yarn") {
      scaling = yarn;
      scaling["rope_type"] = "yarn";
      scaling["factor"] = ToJson(factor.value_or(1.0));
      if (original) scaling["original_max_position_embeddings"] = ToJson(*original);
      // llama.cpp multiplies where transformers replaces.
      const double magnitude = 0.1 * std::log(std::max(factor.value_or(1.0), 1.0)) + 1.0;
      if (attention) scaling["attention_factor"] = attention_factor * magnitude;
      if (!divisors.empty()) return keys_.RefuseName("rope_freqs.weight", "scales rotations twice");
    } else if (kind == "none" || kind == "linear") {
      const bool linearly = kind == "linear" && scaled;
      if (attention_factor != 1.0)
        return keys_.Refuse("rope.scaling.attn_factor", "stands beside no factors");
      if (linearly && !divisors.empty())
        return keys_.RefuseName("rope_freqs.weight", "scales twice");
      if (linearly) scaling = {{"rope_type", "linear"}, {"factor", ToJson(*factor)}};
      if (!divisors.empty()) scaling = {{"rope_type", "divisors"}, {"divisors", divisors}};
    } else {
      return keys_.Refuse("rope.scaling.type", "is \"" + Printable(kind) + "\"");
    }
    if (!scaling.empty()) Set("rope_scaling", std::move(scaling));
    return {};
  }

  // What of yarn's parameters the file gives, under transformers' names.
  Result<Json> YarnKeys() {
    Json yarn = Json::object();
    const std::pair<std::string_view, const char*> names[] = {
        {"rope.scaling.yarn_beta_fast", "beta_fast"}, {"rope.scaling.yarn_beta_slow", "beta_slow"}};
    for (const auto& [from, to] : names) {
      HR_ASSIGN_OR_RETURN(const Number number, keys_.Read(from));
      if (number) yarn[to] = ToJson(*number);
    }
    const std::pair<std::string_view, double> fixed[] = {{"rope.scaling.yarn_ext_factor", 1.0},
                                                         {"rope.scaling.yarn_attn_factor", 1.0},
                                                         {"rope.scaling.yarn_log_multiplier", 0.0}};
    for (const auto& [key, only] : fixed) {
      HR_ASSIGN_OR_RETURN(const Number number, keys_.Read(key));
      if (number.value_or(only) != only)
        return keys_.Refuse(key, "is " + std::to_string(*number) + ", which is not executed");
    }
    HR_ASSIGN_OR_RETURN(const auto truncate, keys_.ReadFlag("rope.scaling.yarn_truncate"));
    if (truncate) yarn["truncate"] = *truncate;
    return yarn;
  }

  // The numbers of a small tensor, which is taken out of the table; empty without it.
  Result<Json> Factors(const std::string& name) {
    Json list = Json::array();
    const auto found = gguf_.tensors.find(name);
    if (found == gguf_.tensors.end()) return list;
    const SourceTensor& tensor = found->second;
    if (tensor.shape.size() != 1 || tensor.shape[0] > kMaxFactors)
      return keys_.Corrupt("tensor \"" + name + "\" is no short list of factors");
    std::vector<float> values(tensor.shape[0]);
    HR_RETURN_IF_ERROR(ReadFloats(name, tensor, 0, values));
    for (const float value : values) {
      if (!std::isfinite(value)) return keys_.Corrupt("tensor \"" + name + "\" is not finite");
      list.push_back(static_cast<double>(value));
    }
    gguf_.tensors.erase(found);
    return list;
  }

  void Set(std::string_view key, Json value) { config_[std::string(key)] = std::move(value); }

  const GgufArchitecture& architecture_;
  const Recipe& recipe_;
  const double head_width_;
  GgufFile& gguf_;
  GgufKeys& keys_;
  Json& config_;
};

}  // namespace

Status DescribeGgufRotation(const GgufArchitecture& architecture, const Recipe& recipe,
                            double head_width, GgufFile& gguf, GgufKeys& keys, Json& config) {
  return Rotation(architecture, recipe, head_width, gguf, keys, config).Describe();
}

}  // namespace headroom::convert
