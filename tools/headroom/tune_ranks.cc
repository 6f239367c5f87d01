#include "headroom/tune_ranks.h"

#include <algorithm>

namespace headroom::cli {
namespace {

constexpr uint32_t kStep = 8;  // ranks are multiples of it: headroom.h, hr_session_options.profile
constexpr double kParts[] = {0.75, 0.625, 0.5, 0.375, 0.25};

// Of one side: the whole row, and every cut of it.
struct Side {
  uint32_t rank = 0;
  size_t role = 0;
};

std::vector<Side> SideOf(uint32_t Cut::*side, size_t first, const std::vector<Cut>& cuts) {
  std::vector<Side> out = {{}};
  for (size_t i = 0; i < cuts.size(); ++i) {
    if (cuts[i].*side != 0) out.push_back({cuts[i].*side, first + i});
  }
  return out;
}

}  // namespace

std::vector<uint32_t> RanksOf(uint32_t width) {
  std::vector<uint32_t> ranks;
  for (const double part : kParts) {
    const auto steps = static_cast<uint32_t>(part * width / kStep);
    const uint32_t rank = steps * kStep;
    if (rank != 0 && (ranks.empty() || rank < ranks.back())) ranks.push_back(rank);
  }
  return ranks;
}

std::string CutRole(const std::string& codec, const Cut& cut) {
  std::string role = codec;
  if (cut.keys != 0) role += " keyrank=" + std::to_string(cut.keys);
  if (cut.values != 0) role += " valuerank=" + std::to_string(cut.values);
  return role;
}

std::vector<Cut> OneSided(const std::vector<uint32_t>& keys, const std::vector<uint32_t>& values) {
  std::vector<Cut> cuts;
  for (const uint32_t rank : keys) cuts.push_back({rank, 0});
  for (const uint32_t rank : values) cuts.push_back({0, rank});
  return cuts;
}

std::vector<Combination> CombinationsOf(const std::vector<std::string>& measured, size_t first,
                                        const std::vector<Cut>& cuts) {
  std::vector<Combination> all;
  if (cuts.empty()) return all;
  for (size_t codec = 0; codec < first; ++codec) {
    if (measured[codec] != "f16" && measured[codec] != "int8") continue;
    for (const Side& keys : SideOf(&Cut::keys, first, cuts)) {
      for (const Side& values : SideOf(&Cut::values, first, cuts)) {
        std::string role = CutRole(measured[codec], {keys.rank, values.rank});
        if (std::find(measured.begin(), measured.end(), role) != measured.end()) continue;
        all.push_back({std::move(role), codec, keys.role, values.role});
      }
    }
  }
  return all;
}

Choice Combined(const std::vector<Choice>& choices, const Combination& from, double bytes,
                double full) {
  const Choice &codec = choices[from.codec], &keys = choices[from.keys],
               &values = choices[from.values];
  if (bytes == 0 || bytes >= full) return {};
  if (!codec.possible || !keys.possible || !values.possible) return {};
  return {true, choices[0].bytes - (full - bytes), codec.loss + keys.loss + values.loss};
}

}  // namespace headroom::cli
