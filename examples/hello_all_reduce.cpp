// SPDX-License-Identifier: Apache-2.0
// The smallest libdist program: every rank brings a few numbers, every rank gets their sums.
//
//   distrun -n 3 hello_all_reduce        or        mpirun -n 3 hello_all_reduce
//
// Expected output, in any order of the lines (distrun puts "[rank] " before each):
//   rank 0 of 3 brought 1 10 100; the sums are 6 60 600
//   rank 1 of 3 brought 2 20 200; the sums are 6 60 600
//   rank 2 of 3 brought 3 30 300; the sums are 6 60 600
#include <dist/dist.h>

#include <array>
#include <cstdio>
#include <exception>

int main(int argc, char** argv) try {
  // Who am I, who are the others? mpirun, srun or distrun said so in the environment; started
  // alone, this is rank 0 of 1. The call returns once all ranks have met.
  dist::World world = dist::World::from_environment(argc, argv).value();

  const float one = static_cast<float>(world.rank() + 1);
  const std::array<float, 3> mine = {one, 10 * one, 100 * one};

  // Collectives happen in a group; this one has all ranks as members.
  const auto group = dist::make_group(world).value();

  // In place: numbers in, sums out. It blocks until they are there, and every rank gets the same
  // bits. Should a rank be lost meanwhile, all others get an error that names it: nobody hangs.
  std::array<float, 3> sums = mine;
  group->all_reduce(sums).value();

  std::printf("rank %d of %d brought %g %g %g; the sums are %g %g %g\n", world.rank(),
              world.ranks(), mine[0], mine[1], mine[2], sums[0], sums[1], sums[2]);
  return 0;
} catch (const std::exception& error) {  // .value() throws; ok() and status() are the other way
  std::fprintf(stderr, "hello_all_reduce: %s\n", error.what());
  return 1;
}
