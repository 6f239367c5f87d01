#include "headroom/signals.h"

#include <iterator>

namespace headroom::cli {
namespace {

constexpr int kHeld[] = {SIGINT, SIGTERM, SIGHUP};

volatile std::sig_atomic_t g_caught = 0;

void Note(int) { g_caught = 1; }

}  // namespace

HeldSignals::HeldSignals() {
  g_caught = 0;
  struct sigaction action = {};
  action.sa_handler = Note;
  // The work is asked to stop, not its system calls. Who asks twice does not want to wait.
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigset_t all;
  sigemptyset(&all);
  for (size_t i = 0; i < std::size(kHeld); ++i) {
    sigaction(kHeld[i], &action, &before_[i]);
    sigaddset(&all, kHeld[i]);
  }
  sigprocmask(SIG_UNBLOCK, &all, nullptr);
}

HeldSignals::~HeldSignals() {
  for (size_t i = 0; i < std::size(kHeld); ++i) sigaction(kHeld[i], &before_[i], nullptr);
}

bool HeldSignals::Caught() { return g_caught != 0; }

}  // namespace headroom::cli
