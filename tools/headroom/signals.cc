#include "headroom/signals.h"

#include <iterator>

namespace headroom::cli {
namespace {

constexpr int kHeld[] = {SIGINT, SIGTERM};

volatile std::sig_atomic_t g_caught = 0;

void Note(int) { g_caught = 1; }

}  // namespace

HeldSignals::HeldSignals() {
  g_caught = 0;
  struct sigaction action = {};
  action.sa_handler = Note;
  action.sa_flags = SA_RESTART;  // the work is asked to stop, not its system calls
  sigset_t both;
  sigemptyset(&both);
  for (size_t i = 0; i < std::size(kHeld); ++i) {
    sigaction(kHeld[i], &action, &before_[i]);
    sigaddset(&both, kHeld[i]);
  }
  sigprocmask(SIG_UNBLOCK, &both, nullptr);
}

HeldSignals::~HeldSignals() {
  for (size_t i = 0; i < std::size(kHeld); ++i) sigaction(kHeld[i], &before_[i], nullptr);
}

bool HeldSignals::Caught() { return g_caught != 0; }

}  // namespace headroom::cli
