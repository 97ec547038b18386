// SPDX-License-Identifier: Apache-2.0
// How ranks learn where the others listen, and the secret by which they know each other.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "libdist/options.h"
#include "libdist/status.h"
#include "libdist/transport/tcp_socket.h"
#include "libdist/types.h"
#include "libdist/wire/handshake.h"

namespace dist {

/// A rank's entry in the place where the ranks of a job meet. The destructor withdraws it; keep it
/// until this rank is connected to all others.
class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  Rendezvous() = default;
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  /// The secret of the job. Lives as long as this object.
  virtual const wire::Secret& secret() const = 0;

  /// Where a rank listens now; nothing while it has not come.
  virtual std::optional<tcp::Endpoint> find(Rank rank) const = 0;
};

/// Whether this rank may listen where options ask for it: an address that is not loopback demands a
/// secret file, ranks on several hosts demand such an address and tcp:HOST:PORT. Returns where to
/// listen, with port 0 but for the servers of an elastic world at known ports.
Result<tcp::Endpoint> listening_address(const Options& options);

/// Enters this rank with the address it listens on. By options.rendezvous:
/// - "dir:PATH": PATH must be a private directory of this user (made if it is missing). Returns
///   at once.
/// - "": the same in a directory of the user and job below $TMPDIR or /tmp, which goes away with
/// the
///   last rank.
/// - "tcp:HOST:PORT": rank 0 listens there and returns when all ranks have come; the others return
///   when it has told them. In an elastic world tcp:HOST:PORT,HOST:PORT,... names the place of
///   every server instead.
Result<std::unique_ptr<Rendezvous>> open_rendezvous(const Options& options,
                                                    const tcp::Endpoint& own, TimePoint deadline);

}  // namespace dist
