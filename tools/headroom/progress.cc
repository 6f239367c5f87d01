#include "headroom/progress.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <unistd.h>

#include "headroom/process.h"

namespace headroom::cli {
namespace {
constexpr uint64_t kRedrawNs = 100'000'000;
constexpr uint64_t kPatienceNs = 300'000'000;  // short work shows no bar at all
constexpr int kBarCells = 30;
}  // namespace

ProgressBar::ProgressBar(std::string label) : label_(std::move(label)) {
  const char* wish = std::getenv("HEADROOM_PROGRESS");
  at_once_ = wish != nullptr && std::strcmp(wish, "always") == 0;
  const bool never = wish != nullptr && std::strcmp(wish, "never") == 0;
  visible_ = at_once_ || (!never && isatty(STDERR_FILENO) != 0);
}

void ProgressBar::Update(double fraction) {
  if (!visible_) return;
  const uint64_t now = NowNs();
  if (started_ns_ == 0) started_ns_ = now;
  if (!at_once_ && now - started_ns_ < kPatienceNs) return;
  if (now - drawn_ns_ < kRedrawNs) return;
  drawn_ns_ = now;
  drawn_ = true;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const int full = static_cast<int>(fraction * kBarCells);
  const std::string bar = std::string(full, '#') + std::string(kBarCells - full, '.');
  std::fprintf(stderr, "\r%s [%s] %3.0f %%", label_.c_str(), bar.c_str(), fraction * 100);
  const double elapsed = static_cast<double>(now - started_ns_) * 1e-9;
  if (fraction > 0.02) std::fprintf(stderr, " %.0f s left ", elapsed / fraction - elapsed);
  std::fputs("\x1b[K", stderr);
}

void ProgressBar::Finish() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
  started_ns_ = 0;
}

}  // namespace headroom::cli
