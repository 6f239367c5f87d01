// A vision model with values and weights of 8 bits or of halves, made of one with floats; for the
// former, of what its values were seen to be as well.
//
// Convolutions on more than one position, sums, slices and what joins them become narrow. Codes of
// 8 bits: of each value one scale and zero point (arXiv 1712.05877 eq. 1), of each output channel a
// scale of its weights. Norms, attention, pooled values and whatever else there is stay f32;
// conversions stand between the two.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/hrm_writer.h"
#include "model/model.h"

namespace headroom::convert {

// Smallest and largest number of a value of the source, by its index. Those of views need not be
// known.
struct ValueRange {
  float low = 0.0f, high = 0.0f;
  bool known = false;
  void See(float from, float to) {
    low = known && low < from ? low : from;
    high = known && high > to ? high : to;
    known = true;
  }
};

struct CodesSummary {
  uint32_t coded = 0, convolutions = 0;  // of them, how many have codes, or halves
  uint64_t file_bytes = 0;
};

// Errors: kInvalidArgument (no vision model; narrow already; a range that was not seen),
// kUnsupported (a number beyond f16), those of HrmWriter.
Result<CodesSummary> WriteWithCodes(const model::Model& source, std::span<const ValueRange> ranges,
                                    const std::string& out, const std::string& name);
Result<CodesSummary> WriteWithHalves(const model::Model& source, const std::string& out,
                                     const std::string& name);

}  // namespace headroom::convert
