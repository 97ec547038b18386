// SPDX-License-Identifier: Apache-2.0
#include "examples/train/termination.h"

#include <csignal>

namespace train {
namespace {

volatile std::sig_atomic_t asked = 0;  // all that a signal handler may write to

}  // namespace

void note_termination() {
  struct sigaction action {};
  action.sa_handler = [](int) { asked = 1; };
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
}

bool termination_asked() { return asked != 0; }

}  // namespace train
