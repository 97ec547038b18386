// SPDX-License-Identifier: Apache-2.0
#include "ps/shard.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace dist::ps;

std::vector<Bucket> buckets_of(const std::vector<std::uint64_t>& lengths) {
  std::vector<Bucket> buckets;
  std::uint64_t next = 0;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    buckets.push_back({{next, next + lengths[b]}, b, b + 1});
    next += lengths[b];
  }
  return buckets;
}

// Everything the rest of ps/ relies on.
void check(const ShardMap& map, const ShardOptions& options) {
  std::uint64_t next = 0;
  std::vector<std::uint64_t> owned(map.of_server.size(), 0);
  std::vector<std::size_t> listed(map.of_server.size(), 0);
  std::size_t bucket = 0;
  int server = 0;
  for (std::uint32_t id = 0; id < map.pieces.size(); ++id) {
    const Piece& piece = map.pieces[id];
    REQUIRE(piece.range.begin == next);  // no gap, nothing twice
    REQUIRE(!piece.range.empty());
    next = piece.range.end;
    REQUIRE(bytes_of(Elems(piece.range.elems()), options.dtype) <=
            std::max(options.max_piece, Bytes(size_of(options.dtype))));
    const Range whole = map.buckets[piece.bucket].range;
    REQUIRE(intersect(whole, piece.range) == piece.range);
    // A server's pieces of a bucket are neighbours.
    REQUIRE(piece.bucket >= bucket);
    REQUIRE((piece.bucket > bucket || piece.server >= server));
    bucket = piece.bucket;
    server = piece.server;
    const auto s = static_cast<std::size_t>(piece.server);
    REQUIRE(map.of_server[s][listed[s]++] == id);
    REQUIRE(piece.local.begin >= owned[s]);
    REQUIRE(piece.local.begin * size_of(options.dtype) % 64 == 0);
    REQUIRE(piece.local.elems() == piece.range.elems());
    owned[s] = piece.local.end;
    REQUIRE(owned[s] <= map.server_elems[s].value);
  }
  REQUIRE(next == (map.buckets.empty() ? 0 : map.buckets.back().range.end));
  for (std::size_t s = 0; s < listed.size(); ++s) REQUIRE(listed[s] == map.of_server[s].size());
}

TEST_CASE("a shard map neither loses nor doubles an element") {
  for (int servers = 1; servers <= 5; ++servers) {
    for (const Bytes min_piece : {1_B, 16_B, 100_B}) {
      for (const Bytes max_piece : {1_B, 20_B, 4096_B}) {
        for (std::uint64_t a = 0; a <= 40; ++a) {
          for (const std::uint64_t b : {0, 1, 7, 40}) {
            for (const auto dtype : {DType::f32, DType::f64}) {
              const ShardOptions options{servers, dtype, min_piece, max_piece};
              const auto map = make_shard_map(buckets_of({a, b, 3}), options);
              REQUIRE(map.servers() == servers);
              check(map, options);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("large buckets are divided over all servers, small ones go whole to the least loaded") {
  const auto map = make_shard_map(buckets_of({4096, 100, 100, 100, 100}),
                                  {.servers = 4, .min_piece = 1024_B, .max_piece = 1_MiB});
  REQUIRE(map.pieces.size() == 8);
  for (int s = 0; s < 4; ++s) {
    const auto& owned = map.of_server[static_cast<std::size_t>(s)];
    REQUIRE(owned.size() == 2);
    REQUIRE(map.pieces[owned[0]].range.elems() == 1024);
    REQUIRE(map.pieces[owned[1]].range.elems() == 100);
  }
  REQUIRE(imbalance(map) == 1.0);
}

// Parameter sizes in forward order; weights and biases apart as in the trainers.
std::vector<std::uint64_t> vgg16() {
  std::vector<std::uint64_t> sizes;
  std::uint64_t in = 3;
  for (const std::uint64_t out : {64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512}) {
    sizes.insert(sizes.end(), {in * out * 9, out});
    in = out;
  }
  sizes.insert(sizes.end(),
               {25088 * 4096, 4096, 4096 * 4096, 4096, std::uint64_t{4096} * 1000, 1000});
  return sizes;
}

std::vector<std::uint64_t> resnet50() {
  std::vector<std::uint64_t> sizes;
  const auto convolution = [&](std::uint64_t in, std::uint64_t out, std::uint64_t kernel) {
    sizes.insert(sizes.end(), {in * out * kernel * kernel, out, out});  // with its batch norm
  };
  convolution(3, 64, 7);
  std::uint64_t in = 64;
  const int blocks[] = {3, 4, 6, 3};
  for (int stage = 0; stage < 4; ++stage) {
    const std::uint64_t width = std::uint64_t{64} << stage;
    for (int block = 0; block < blocks[stage]; ++block) {
      convolution(in, width, 1);
      convolution(width, width, 3);
      convolution(width, 4 * width, 1);
      if (block == 0) convolution(in, 4 * width, 1);
      in = 4 * width;
    }
  }
  sizes.insert(sizes.end(), {std::uint64_t{2048} * 1000, 1000});
  return sizes;
}

Arena arena_of(std::vector<std::uint64_t> sizes) {
  std::reverse(sizes.begin(), sizes.end());
  std::vector<Parameter> list;
  for (const auto size : sizes) list.push_back({fmt::format("p{}", list.size()), Elems(size)});
  return Arena::create(std::move(list)).value();
}

TEST_CASE("real models are spread evenly") {
  const auto vgg = arena_of(vgg16());
  const auto resnet = arena_of(resnet50());
  const auto total = [](const Arena& arena) {
    std::uint64_t sum = 0;
    for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
      sum += arena.parameter(p).elements.value;
    }
    return sum;
  };
  REQUIRE(total(vgg) == 138'357'544);
  REQUIRE(total(resnet) == 25'557'032);
  for (const Arena* arena : {&vgg, &resnet}) {
    for (int servers = 1; servers <= 16; ++servers) {
      const ShardOptions options{.servers = servers};
      const auto map = make_shard_map(make_buckets(*arena, {}), options);
      check(map, options);
      INFO(servers << " servers");
      REQUIRE(imbalance(map) <= 1.05);
    }
  }
}

TEST_CASE("imbalance is the fullest over the mean") {
  auto map = make_shard_map(buckets_of({300}), {.servers = 3, .min_piece = 1_B});
  REQUIRE(imbalance(map) == 1.0);
  map.pieces[1].server = 0;
  REQUIRE(imbalance(map) == 2.0);
  REQUIRE(imbalance(make_shard_map({}, {.servers = 2})) == 1.0);
}

TEST_CASE("colocated servers stand on the first ranks") {
  const auto all = make_roles(4, 0, Placement::colocated).value();
  REQUIRE(all.workers == 4);
  REQUIRE(all.servers == 4);
  const auto two = make_roles(4, 2, Placement::colocated).value();
  REQUIRE(two.workers == 4);
  REQUIRE(two.server_rank(1) == 1);
  REQUIRE(two.server_of(1) == 1);
  REQUIRE(two.server_of(2) == -1);
  REQUIRE(two.worker_of(3) == 3);
}

TEST_CASE("dedicated servers are the last ranks and do not train") {
  const auto one = make_roles(4, 0, Placement::dedicated).value();
  REQUIRE(one.workers == 3);
  REQUIRE(one.servers == 1);
  REQUIRE(one.server_rank(0) == 3);
  REQUIRE(one.server_of(3) == 0);
  REQUIRE(one.server_of(2) == -1);
  REQUIRE(one.worker_of(3) == -1);
  REQUIRE(one.worker_rank(2) == 2);
}

TEST_CASE("roles that do not fit are refused") {
  REQUIRE(make_roles(1, 0, Placement::dedicated).status().code() == ErrorCode::invalid_argument);
  REQUIRE(make_roles(3, 3, Placement::dedicated).status().message().find("1 to 2") !=
          std::string::npos);
  REQUIRE(make_roles(3, 4, Placement::colocated).status().message().find("1 to 3") !=
          std::string::npos);
  REQUIRE(make_roles(3, 3, Placement::colocated).ok());
  REQUIRE(!make_roles(3, -1, Placement::colocated).ok());
}

}  // namespace
