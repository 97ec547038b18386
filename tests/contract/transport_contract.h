// SPDX-License-Identifier: Apache-2.0
// What every transport owes its users, as bodies that each rank runs over its own end. They throw
// on failure, so that ranks may be threads or processes.
#pragma once

#include <string_view>
#include <vector>

#include "libdist/transport/transport.h"

namespace dist::test {

struct TransportCase {
  std::string_view name;
  int least_ranks;
  void (*body)(Transport& transport);
};

/// Cases that leave the transport as they found it: they can follow one another on one transport.
const std::vector<TransportCase>& lasting_transport_cases();

/// Cases in which an end breaks or closes: each needs a transport of its own.
const std::vector<TransportCase>& closing_transport_cases();

/// Returns when every rank has called it.
void meet(Transport& transport);

/// Sends and receives messages of more than 2 GiB between rank 0 and rank 1, both ways. Minutes.
void exchange_huge_messages(Transport& transport);

}  // namespace dist::test
