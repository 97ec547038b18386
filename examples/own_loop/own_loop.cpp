// SPDX-License-Identifier: Apache-2.0
// A program with everything of its own: a small neural potential (atoms -> energy) with gradients
// written by hand, weights in its own vectors, its own optimizer. distrun -n 2 -- own_loop [steps]
//
// The energy of a cluster is the sum over its atoms of net(surroundings of the atom), after Behler
// and Parrinello 2007; it learns Lennard-Jones clusters. The lines that make it data-parallel are
// marked.
#include <dist/dist.h>  // <-

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

namespace {

constexpr int kAtoms = 5;
constexpr int kFeatures = 8;  // radial symmetry functions of an atom
constexpr int kHidden = 16;
constexpr int kBatch = 16;  // clusters a step, over all ranks

using Features = std::array<double, kFeatures>;

struct Cluster {
  std::array<Features, kAtoms> atoms;
  double energy;
};

Cluster make_cluster(unsigned seed) {
  std::mt19937 random(seed);
  std::array<std::array<double, 3>, kAtoms> at;
  for (int i = 0; i < kAtoms; ++i) {
    for (int d = 0; d < 3; ++d) at[i][d] = 1.3 * (i >> d & 1) + 5e-11 * random();
  }
  Cluster cluster{};
  for (int i = 0; i < kAtoms; ++i) {
    for (int j = 0; j < kAtoms; ++j) {
      if (i == j) continue;
      const double r = std::hypot(at[i][0] - at[j][0], at[i][1] - at[j][1], at[i][2] - at[j][2]);
      for (int f = 0; f < kFeatures; ++f) {
        const double centre = 0.8 + 0.25 * f;
        cluster.atoms[i][f] += std::exp(-8 * (r - centre) * (r - centre));
      }
      cluster.energy += 0.5 * (std::pow(r, -12) - 2 * std::pow(r, -6));
    }
  }
  return cluster;
}

// A layer of weights in memory of the program, with Adam's state (Kingma and Ba 2014).
struct Tensor {
  std::vector<double> value, gradient, first, second;

  Tensor(int size, double scale, unsigned seed)
      : value(size), gradient(size), first(size), second(size) {
    std::mt19937 random(seed);
    for (double& v : value) v = scale * (std::ldexp(random(), -31) - 1);
  }

  void update(int step, double rate) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      first[i] += 0.1 * (gradient[i] - first[i]);
      second[i] += 0.001 * (gradient[i] * gradient[i] - second[i]);
      const double mean = first[i] / (1 - std::pow(0.9, step));
      const double square = second[i] / (1 - std::pow(0.999, step));
      value[i] -= rate * mean / (std::sqrt(square) + 1e-8);
      gradient[i] = 0;
    }
  }
};

struct Potential {
  Tensor w1{kFeatures * kHidden, 0.5, 1}, b1{kHidden, 0.1, 2}, w2{kHidden, 0.5, 3};

  // Adds the gradient of scale * (energy - truth)^2; returns the squared error.
  double backward(const Cluster& cluster, double scale) {
    double energy = 0;
    std::array<std::array<double, kHidden>, kAtoms> hidden;
    for (int a = 0; a < kAtoms; ++a) {
      for (int h = 0; h < kHidden; ++h) {
        double sum = b1.value[h];
        for (int f = 0; f < kFeatures; ++f)
          sum += w1.value[h * kFeatures + f] * cluster.atoms[a][f];
        hidden[a][h] = std::tanh(sum);
        energy += w2.value[h] * hidden[a][h];
      }
    }
    const double error = energy - cluster.energy;
    for (int a = 0; a < kAtoms; ++a) {
      for (int h = 0; h < kHidden; ++h) {
        w2.gradient[h] += scale * 2 * error * hidden[a][h];
        const double back = scale * 2 * error * w2.value[h] * (1 - hidden[a][h] * hidden[a][h]);
        b1.gradient[h] += back;
        for (int f = 0; f < kFeatures; ++f)
          w1.gradient[h * kFeatures + f] += back * cluster.atoms[a][f];
      }
    }
    return error * error;
  }
};

dist::Parameter outside(const char* name, Tensor& tensor) {                        // <-
  return dist::borrow(name, std::span(tensor.value), std::span(tensor.gradient));  // <-
}  // <-

}  // namespace

int main(int argc, char** argv) {
  const int steps = argc > 1 ? std::atoi(argv[1]) : 400;
  Potential net;

  auto world = dist::World::from_environment(argc, argv).value();  // <-
  const std::vector<dist::Parameter> parameters = {
      // <- in the order in which gradients end
      outside("w2", net.w2), outside("b1", net.b1), outside("w1", net.w1)};
  auto arena = dist::Arena::create(parameters).value();                                 // <-
  auto ring = dist::make_strategy("ring", world, arena, dist::MeanGradient{}).value();  // <-
  ring->begin().value();                                                                // <-

  const int share = kBatch / world.ranks();  // <- was kBatch
  double error = 0;
  for (int step = 1; step <= steps; ++step) {
    error = 0;
    for (int i = 0; i < share; ++i) {
      const auto cluster =
          make_cluster(static_cast<unsigned>((step % 8) * kBatch + world.rank() * share + i));
      error += net.backward(cluster, 1.0 / share) / share;
    }
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) ring->ready(p);  // <-
    ring->finish_step().value();  // <- the gradients are now the mean over the ranks
    for (Tensor* tensor : {&net.w1, &net.b1, &net.w2}) tensor->update(step, 0.01);
    if (step == 1 || step % 100 == 0) std::printf("step %d: squared error %.6f\n", step, error);
  }
  double sum = 0;
  for (const double w : net.w1.value) sum += w;
  std::printf("sum of the weights %.9f\n", sum);
  ring->end().value();  // <-
}
