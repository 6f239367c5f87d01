// Inside the converter: what the readers of a configuration's parts share.
#pragma once

#include <string>
#include <string_view>

#include "convert/shape.h"

namespace headroom::convert {

inline constexpr uint32_t kMaxChannels = 1u << 20;
inline constexpr uint32_t kMaxLayers = 4096;
inline constexpr uint32_t kMaxHeadWidth = 4096;
inline constexpr uint32_t kAnyContext = 1u << 20;  // tokens, where an architecture has no limit
inline constexpr double kHuge = 1e12;

inline std::string Key(std::string_view name) { return std::string(name); }
Status Unsupported(const Config& config, const char* key, const std::string& value);
Result<bool> ReadFlag(Config& config, const Flag& flag);

// YaRN's numbers beside its factor and original context.
Status ReadYarn(Config& rope, RopeParameters& p);

// Each where the recipe has such a part.
Status ReadMixture(Config& config, ModelShape& shape);
Status ReadLatent(Config& config, ModelShape& shape);
Status ReadLinear(Config& config, ModelShape& shape);
// After the ropes: layers that X-EcoMLA or MHA2MLA have put in place of the architecture's own.
Status ReadReplacedLayers(Config& config, ModelShape& shape);
// After the ropes: YaRN's magnitude belongs to the scale of latent attention.
void ScaleLatent(ModelShape& shape);

}  // namespace headroom::convert
