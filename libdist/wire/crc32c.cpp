// SPDX-License-Identifier: Apache-2.0
// Three ways, by what the processor has. Carry-less multiplication folds 256 bytes into the next
// 256, several times faster than memory. The CRC instruction has a latency of three cycles and a
// throughput of one, so three thirds of a block run side by side; their checksums are joined by
// advancing each over the bytes that follow it, which is a linear map kept in tables. Then tables.
#include "libdist/wire/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dist::wire {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78u;

using ByteTable = std::array<std::uint32_t, 256>;

// tables[k][b]: the checksum register after byte b and k zero bytes.
constexpr std::array<ByteTable, 8> make_slicing_tables() {
  std::array<ByteTable, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = value;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr auto kSlicing = make_slicing_tables();

std::uint64_t load_word(const std::byte* from) {
  std::uint64_t word = 0;
  std::memcpy(&word, from, sizeof word);
  return word;
}

#if defined(__x86_64__)

// A linear map of 32 bits to 32 bits: what each bit alone becomes.
using BitMap = std::array<std::uint32_t, 32>;

constexpr std::uint32_t apply(const BitMap& map, std::uint32_t value) {
  std::uint32_t sum = 0;
  for (std::size_t bit = 0; value != 0; ++bit, value >>= 1) {
    if ((value & 1) != 0) sum ^= map[bit];
  }
  return sum;
}

// Four tables, one a byte of the register, that advance it over `bytes` (a power of two) zero
// bytes.
constexpr std::array<ByteTable, 4> make_advance_tables(std::size_t bytes) {
  BitMap map{};
  for (std::size_t bit = 0; bit < 32; ++bit) {
    const std::uint32_t value = std::uint32_t{1} << bit;
    map[bit] = (value >> 8) ^ kSlicing[0][value & 0xff];
  }
  for (std::size_t covered = 1; covered < bytes; covered *= 2) {
    BitMap squared{};
    for (std::size_t bit = 0; bit < 32; ++bit) squared[bit] = apply(map, map[bit]);
    map = squared;
  }
  std::array<ByteTable, 4> tables{};
  for (std::size_t byte = 0; byte < 4; ++byte) {
    for (std::uint32_t value = 0; value < 256; ++value) {
      tables[byte][value] = apply(map, value << (8 * byte));
    }
  }
  return tables;
}

constexpr std::size_t kThirdBytes = 1024;
constexpr auto kAdvance = make_advance_tables(kThirdBytes);

std::uint64_t advance(std::uint64_t crc) {
  return kAdvance[0][crc & 0xff] ^ kAdvance[1][(crc >> 8) & 0xff] ^
         kAdvance[2][(crc >> 16) & 0xff] ^ kAdvance[3][(crc >> 24) & 0xff];
}

__attribute__((target("sse4.2"))) std::uint32_t crc32c_by_instruction(
    std::span<const std::byte> bytes, std::uint32_t previous) {
  std::uint64_t crc = ~previous;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 3 * kThirdBytes; left -= 3 * kThirdBytes, at += 3 * kThirdBytes) {
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    for (std::size_t i = 0; i < kThirdBytes; i += 8) {
      crc = _mm_crc32_u64(crc, load_word(at + i));
      second = _mm_crc32_u64(second, load_word(at + kThirdBytes + i));
      third = _mm_crc32_u64(third, load_word(at + 2 * kThirdBytes + i));
    }
    crc = advance(advance(crc) ^ second) ^ third;
  }
  for (; left >= 8; left -= 8, at += 8) crc = _mm_crc32_u64(crc, load_word(at));
  auto narrow = static_cast<std::uint32_t>(crc);
  for (; left > 0; --left, ++at) narrow = _mm_crc32_u8(narrow, static_cast<unsigned char>(*at));
  return ~narrow;
}

// x^power modulo the polynomial; the highest bit is the coefficient of x^0.
constexpr std::uint32_t power_of_x(int power) {
  std::uint32_t value = 0x80000000u;
  for (int i = 0; i < power; ++i) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
  return value;
}

constexpr std::size_t kFoldBytes = 256;  // four registers of 64 bytes
constexpr int kFoldBits = 8 * kFoldBytes;
// What the first and the second 8 bytes of a group of 16 are multiplied by to come kFoldBytes
// later. The product of two reflected factors stands one bit too low, hence the - 1.
constexpr auto kFoldFirst =
    std::bit_cast<long long>(std::uint64_t{power_of_x(kFoldBits + 63)} << 32);
constexpr auto kFoldSecond =
    std::bit_cast<long long>(std::uint64_t{power_of_x(kFoldBits - 1)} << 32);

__attribute__((target("avx512f,vpclmulqdq"))) inline __m512i fold(__m512i sum, __m512i by,
                                                                  const std::byte* next) {
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(sum, by, 0x00),
                                   _mm512_clmulepi64_epi128(sum, by, 0x11),
                                   _mm512_loadu_si512(next), 0x96);
}

// What is left after the last fold has the checksum of all that was folded.
__attribute__((target("avx512f,vpclmulqdq,sse4.2"))) std::uint32_t crc32c_by_folding(
    std::span<const std::byte> bytes, std::uint32_t previous) {
  if (bytes.size() < 4 * kFoldBytes) return crc32c_by_instruction(bytes, previous);
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size() - kFoldBytes;
  const auto by = _mm512_set4_epi64(kFoldSecond, kFoldFirst, kFoldSecond, kFoldFirst);
  const auto start = static_cast<long long>(std::uint64_t{~previous});
  auto a = _mm512_xor_si512(_mm512_loadu_si512(at), _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, start));
  auto b = _mm512_loadu_si512(at + 64);
  auto c = _mm512_loadu_si512(at + 128);
  auto d = _mm512_loadu_si512(at + 192);
  for (at += kFoldBytes; left >= kFoldBytes; left -= kFoldBytes, at += kFoldBytes) {
    a = fold(a, by, at);
    b = fold(b, by, at + 64);
    c = fold(c, by, at + 128);
    d = fold(d, by, at + 192);
  }
  std::array<std::byte, kFoldBytes> rest;
  _mm512_storeu_si512(rest.data(), a);
  _mm512_storeu_si512(rest.data() + 64, b);
  _mm512_storeu_si512(rest.data() + 128, c);
  _mm512_storeu_si512(rest.data() + 192, d);
  const auto folded = crc32c_by_instruction(rest, ~std::uint32_t{0});
  return crc32c_by_instruction({at, left}, folded);
}

using Way = std::uint32_t (*)(std::span<const std::byte>, std::uint32_t);

Way best_way() {
  if (__builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("vpclmulqdq") != 0 &&
      __builtin_cpu_supports("sse4.2") != 0) {
    return crc32c_by_folding;
  }
  return __builtin_cpu_supports("sse4.2") != 0 ? crc32c_by_instruction : crc32c_by_table;
}

#else

using Way = std::uint32_t (*)(std::span<const std::byte>, std::uint32_t);

Way best_way() { return crc32c_by_table; }

#endif

}  // namespace

std::uint32_t crc32c_by_table(std::span<const std::byte> bytes, std::uint32_t previous) {
  std::uint32_t crc = ~previous;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    const std::uint64_t word = load_word(at) ^ crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kSlicing[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (; left > 0; --left, ++at) {
    crc = (crc >> 8) ^ kSlicing[0][(crc ^ static_cast<unsigned char>(*at)) & 0xff];
  }
  return ~crc;
}

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t previous) {
  static const Way way = best_way();
  return way(bytes, previous);
}

}  // namespace dist::wire
