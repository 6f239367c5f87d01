// Ctrl-C for commands that have something to tidy up.
#pragma once

#include <csignal>

namespace headroom::cli {

// While this lives, the first SIGINT, SIGTERM or SIGHUP is noted instead of ending the program,
// also where whoever started it had blocked it; a second of its kind ends the program. One at a
// time.
class HeldSignals {
 public:
  HeldSignals();
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  static bool Caught();  // one of them, since the last of these began to live

 private:
  struct sigaction before_[3];
};

}  // namespace headroom::cli
