// Ctrl-C for commands that have something to tidy up.
#pragma once

#include <csignal>

namespace headroom::cli {

// While this lives, SIGINT and SIGTERM are noted instead of ending the program, also where whoever
// started it had blocked them. One at a time.
class HeldSignals {
 public:
  HeldSignals();
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  static bool Caught();  // one of the two, since the last of these began to live

 private:
  struct sigaction before_[2];
};

}  // namespace headroom::cli
