// What comes into each matrix of a model while it reads a text, and what attention makes of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "convert/convert.h"

namespace headroom::cli {

// By name of the stored matrix, for each of its columns, the mean square of its inputs: what
// convert::Options::importance wants. Converts the source of `options` to f16 beside its output,
// lets that read the first tokens of the text (kCalibrationTokens at most) and removes it again.
// Shows its progress. Throws Failure.
std::map<std::string, std::vector<float>> Calibrate(const convert::Options& options,
                                                    const std::string& text);

// In which bases keys and values of each layer have their first numbers matter most while the model
// reads the text: convert::Options::bases. Layers of latents or of another's rows have none. Says
// through options.log how much half of the numbers keep. Throws Failure.
std::vector<convert::LayerBases> CalibrateBases(const convert::Options& options,
                                                const std::string& text);

inline constexpr size_t kCalibrationTokens = 8192;

}  // namespace headroom::cli
