// A progress bar on stderr, drawn when stderr is a terminal and the work takes a while, or as
// HEADROOM_PROGRESS says: "always" (at once, anywhere) or "never".
#pragma once

#include <cstdint>
#include <string>

namespace headroom::cli {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar() { Finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // False when nothing will ever be drawn.
  bool visible() const { return visible_; }
  void SetLabel(std::string label) { label_ = std::move(label); }
  // `fraction` 0..1. Redraws at most ten times a second.
  void Update(double fraction);
  // Wipes the bar off the screen; a later Update draws it again.
  void Finish();

 private:
  std::string label_;
  bool visible_ = false;
  bool at_once_ = false;
  bool drawn_ = false;
  uint64_t started_ns_ = 0;
  uint64_t drawn_ns_ = 0;
};

}  // namespace headroom::cli
