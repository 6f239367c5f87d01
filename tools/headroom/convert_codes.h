// headroom convert of a vision model's .hrm: 8-bit codes, calibrated by a folder of pictures.
#pragma once

#include <string>

namespace headroom::cli {

struct CodesRequest {
  std::string source, out;
  std::string pictures;  // a folder, or one file
  std::string name;      // empty: the source's, with "-int8"
  uint32_t threads = 0;
};

int ConvertToCodes(const CodesRequest& request, bool json);

}  // namespace headroom::cli
