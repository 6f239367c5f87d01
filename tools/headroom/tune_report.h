// What `headroom tune` found, as a picture and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headroom/report.h"
#include "headroom/tune_search.h"

namespace headroom::cli {

// A KV head, or all of a layer.
struct TuneUnit {
  uint32_t layer = 0;
  std::vector<uint32_t> heads;
};

struct TunedProfile {
  std::string name;    // empty: not worth its bytes, left out of the model
  std::string policy;  // as --kv reads it
  Assignment assignment;
  uint64_t state_bytes = 0;
  double share = 0;      // of the f16 bytes
  double accuracy = -1;  // of needles; < 0: not measured
  double loss = 0;       // mean KL where it was judged
};

struct TuneReport {
  std::string model;      // one line
  std::string yardstick;  // what the losses are of
  std::string judge;      // what profiles were judged by
  uint32_t context_tokens = 0;
  uint32_t distance = 0;           // of the needles that judged; 0: a text did
  std::vector<std::string> roles;  // [role] of Choices
  std::vector<TuneUnit> units;     // [unit] of Choices
  Choices choices;                 // empty: labels told
  size_t measured_roles = 0;       // the losses of the others are sums of theirs
  std::vector<double> labels;      // [unit]; empty: choices told
  std::vector<TunedProfile> profiles;
};

// To stdout.
void PrintTune(const TuneReport& report);
Json TuneJson(const TuneReport& report);
// One self-contained HTML page: quality against bytes, the profiles, and what each head can bear.
std::string TunePage(const TuneReport& report);
// The first picture of the page by itself.
std::string TuneSvg(const TuneReport& report);

}  // namespace headroom::cli
