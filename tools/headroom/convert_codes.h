// headroom convert of a vision model's .hrm: 8-bit codes, calibrated by a folder of pictures, or
// halves.
#pragma once

#include <string>

namespace headroom::cli {

struct CodesRequest {
  std::string source, out;
  std::string of;        // what the user named, for messages
  std::string pictures;  // a folder, or one file
  std::string name;      // empty: the source's, with "-int8" or "-f16"
  uint32_t threads = 0;
};

int ConvertToHalves(const CodesRequest& request, bool json);  // takes no pictures
int ConvertToCodes(const CodesRequest& request, bool json);

}  // namespace headroom::cli
