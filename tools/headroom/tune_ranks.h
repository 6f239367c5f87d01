// How much of a row a head in a basis keeps: the rank search of `headroom tune` (MatryoshkaKV,
// arXiv 2410.14731).
//
// Measured is what each cut of the keys alone and of the values alone loses, in f16. What a codec,
// a cut of keys and a cut of values lose together is taken to be their sum, as for the heads among
// themselves; profiles are measured as a whole afterwards. Deviation from the paper, which takes
// one step off one side of one head at a time: all combinations of a head are choices, and the walk
// down their convex hulls takes off as much at once as loses least for a byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "headroom/tune_search.h"

namespace headroom::cli {

// Ranks worth trying in rows of this width, falling: from three quarters to a quarter, whole steps
// of what a rank may be.
std::vector<uint32_t> RanksOf(uint32_t width);

// Parts of rows that are kept; 0: all of it.
struct Cut {
  uint32_t keys = 0, values = 0;
};
// "f16 keyrank=16 valuerank=8"
std::string CutRole(const std::string& codec, const Cut& cut);
// One side cut, the other whole.
std::vector<Cut> OneSided(const std::vector<uint32_t>& keys, const std::vector<uint32_t>& values);

// A role that is not measured: its loss is the sum of those of three measured roles. 0: that of the
// role that keeps everything.
struct Combination {
  std::string role;
  size_t codec = 0, keys = 0, values = 0;
};
// `measured`: role 0 is "f16"; from `first` on those of `cuts`, in f16. All that is not measured,
// in f16 and, if that is measured, in int8.
std::vector<Combination> CombinationsOf(const std::vector<std::string>& measured, size_t first,
                                        const std::vector<Cut>& cuts);
// That of a unit with these choices; `bytes`: of the cache when it alone has that role, 0: it does
// not take it, `full` when it is whole.
Choice Combined(const std::vector<Choice>& choices, const Combination& from, double bytes,
                double full);

}  // namespace headroom::cli
