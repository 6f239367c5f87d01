#include "headroom/tune_search.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace headroom::cli {
namespace {

// One unit moves from its role before to `role`.
struct Move {
  size_t unit = 0;
  uint8_t role = 0;
  double saved = 0;
  double loss = 0;
  double slope() const { return loss / saved; }
};

// The lower convex hull of one unit's choices, from role 0 on, as moves of rising slope. A measured
// gain (a loss below the one before) is luck, but free: such a choice comes first.
std::vector<Move> Hull(size_t unit, const std::vector<Choice>& choices) {
  std::vector<Move> moves;
  for (size_t at = 0;;) {
    Move best;
    double slope = std::numeric_limits<double>::infinity();
    for (size_t role = 0; role < choices.size(); ++role) {
      const double saved = choices[at].bytes - choices[role].bytes;
      if (!choices[role].possible || saved <= 0) continue;
      const Move move{unit, static_cast<uint8_t>(role), saved,
                      choices[role].loss - choices[at].loss};
      // Of equal slopes the longer step: it leaves fewer profiles that nobody wants.
      if (move.slope() < slope || (move.slope() == slope && saved > best.saved)) {
        slope = move.slope();
        best = move;
      }
    }
    if (best.saved == 0) return moves;
    moves.push_back(best);
    at = best.role;
  }
}

}  // namespace

std::vector<Assignment> Descend(const Choices& choices) {
  std::vector<Move> moves;
  Assignment now;
  for (size_t unit = 0; unit < choices.size(); ++unit) {
    const std::vector<Move> hull = Hull(unit, choices[unit]);
    moves.insert(moves.end(), hull.begin(), hull.end());
    now.bytes += choices[unit][0].bytes;
    now.loss += choices[unit][0].loss;
  }
  // Stable, and each hull's slopes rise: the moves of a unit keep their order.
  std::stable_sort(moves.begin(), moves.end(),
                   [](const Move& a, const Move& b) { return a.slope() < b.slope(); });
  now.roles.assign(choices.size(), 0);
  std::vector<Assignment> path = {now};
  for (const Move& move : moves) {
    now.roles[move.unit] = move.role;
    now.bytes -= move.saved;
    now.loss += move.loss;
    path.push_back(now);
  }
  return path;
}

std::vector<Assignment> Pick(const std::vector<Assignment>& path,
                             const std::vector<double>& bytes) {
  std::vector<Assignment> picked;
  size_t last = SIZE_MAX;
  for (const double limit : bytes) {
    const auto fits = [&](const Assignment& assignment) { return assignment.bytes <= limit; };
    const auto found = std::find_if(path.begin(), path.end(), fits);
    const auto index = static_cast<size_t>(found - path.begin());
    if (found == path.end() || index == last) continue;
    picked.push_back(*found);
    last = index;
  }
  return picked;
}

std::vector<size_t> WorthTheirBytes(const std::vector<Measured>& measured) {
  std::vector<size_t> order(measured.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const Measured &x = measured[a], &y = measured[b];
    if (x.bytes != y.bytes) return x.bytes < y.bytes;
    return x.quality != y.quality ? x.quality > y.quality : x.loss < y.loss;
  });
  std::vector<size_t> kept;
  double quality = -std::numeric_limits<double>::infinity();
  double loss = std::numeric_limits<double>::infinity();
  for (const size_t i : order) {
    if (measured[i].quality < quality) continue;
    if (measured[i].quality == quality && measured[i].loss >= loss) continue;
    quality = measured[i].quality;
    loss = measured[i].loss;
    kept.push_back(i);
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

}  // namespace headroom::cli
