// SPDX-License-Identifier: Apache-2.0
// MPI_Allreduce, whichever MPI this file is compiled against.
#include <mpi.h>

#include <algorithm>
#include <stdexcept>

#include "bench/peers/peer.h"

namespace dist::bench {
namespace {

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(what) + ": " + text);
}

class MpiPeer : public Peer {
 public:
  // MPI's own words up to the first comma or the end of its first line.
  std::string version() const override {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
    int length = 0;
    check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
    std::string line = text;
    line = line.substr(0, line.find_first_of(",\n"));
    std::replace(line.begin(), line.end(), '\t', ' ');
    return line;
  }

  void all_reduce(float* data, std::uint64_t elems) override {
    check(MPI_Allreduce(MPI_IN_PLACE, data, static_cast<int>(elems), MPI_FLOAT, MPI_SUM,
                        MPI_COMM_WORLD),
          "MPI_Allreduce");
  }
  void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }
};

int body(const PeerArguments& arguments) {
  check(MPI_Init(nullptr, nullptr), "MPI_Init");
  int rank = -1;
  int ranks = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (rank != arguments.rank || ranks != arguments.ranks) {
    throw std::runtime_error("MPI has another view of the ranks than the launcher's variables");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MpiPeer peer;
  const int code = serve(peer, arguments);
  if (code != 0) MPI_Abort(MPI_COMM_WORLD, code);
  MPI_Finalize();
  return code;
}

}  // namespace
}  // namespace dist::bench

int main(int argc, char** argv) { return dist::bench::run_peer(argc, argv, dist::bench::body); }
