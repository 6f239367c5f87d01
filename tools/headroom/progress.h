// A progress bar on stderr, drawn only when stderr is a terminal.
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
  bool visible() const { return terminal_; }
  void SetLabel(std::string label) { label_ = std::move(label); }
  // `fraction` 0..1. Redraws at most ten times a second.
  void Update(double fraction);
  // Wipes the bar off the screen; a later Update draws it again.
  void Finish();

 private:
  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  uint64_t started_ns_ = 0;
  uint64_t drawn_ns_ = 0;
};

}  // namespace headroom::cli
