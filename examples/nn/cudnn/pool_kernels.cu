// SPDX-License-Identifier: Apache-2.0
// Pooling, an octet of channels a thread. Backward gathers: every input pixel asks the windows that
// hold it, so nothing is added atomically and the order is fixed.
#include "examples/nn/cudnn/launch.h"

namespace nn::cudnn {
namespace {

// An octet of some pixel, by index; and the windows or pixels around it.
struct Spot {
  std::int64_t image, row, column;
  int channel;
};
__device__ inline Spot spot_of(std::int64_t index, std::int64_t octets, std::int64_t height,
                               std::int64_t width) {
  const std::int64_t pixel = index / octets;
  return {pixel / (height * width), pixel / width % height, pixel % width,
          static_cast<int>(index % octets) * kOctet};
}

struct Span {
  std::int64_t begin, end;
};
// What of a window lies inside the image.
__device__ inline Span inside(std::int64_t out, std::int64_t stride, std::int64_t padding,
                              std::int64_t kernel, std::int64_t size) {
  const std::int64_t first = out * stride - padding;
  const std::int64_t last = first + kernel;
  return {first > 0 ? first : 0, last < size ? last : size};
}
// Which windows hold a pixel: those with out * stride - padding <= in < that + kernel.
__device__ inline Span windows(std::int64_t in, std::int64_t stride, std::int64_t padding,
                               std::int64_t kernel, std::int64_t size) {
  const std::int64_t reach = in + padding - kernel;
  const std::int64_t first = reach < 0 ? 0 : reach / stride + 1;
  const std::int64_t last = (in + padding) / stride + 1;
  return {first, last < size ? last : size};
}

template <typename T>
__global__ void max_forward(PoolShape s, Source<T> x, Sink<T> y, std::uint8_t* places) {
  const std::int64_t octets = s.channels / kOctet;
  const std::int64_t count = s.batch * s.out_h * s.out_w * octets;
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    const Spot out = spot_of(k, octets, s.out_h, s.out_w);
    const Span rows = inside(out.row, s.stride, s.padding_h, s.kernel_h, s.in_h);
    const Span columns = inside(out.column, s.stride, s.padding_w, s.kernel_w, s.in_w);
    const std::int64_t top = out.row * s.stride - s.padding_h;
    const std::int64_t left = out.column * s.stride - s.padding_w;
    float largest[kOctet] = {};
    unsigned place[kOctet] = {};
    bool first = true;
    for (std::int64_t h = rows.begin; h < rows.end; ++h) {
      for (std::int64_t w = columns.begin; w < columns.end; ++w) {
        float values[kOctet];
        x.get((out.image * s.in_h + h) * s.in_w + w, out.channel, values);
        const unsigned at = static_cast<unsigned>((h - top) * s.kernel_w + (w - left));
#pragma unroll
        for (int i = 0; i < kOctet; ++i) {
          const bool larger = first || values[i] > largest[i];
          largest[i] = larger ? values[i] : largest[i];
          place[i] = larger ? at : place[i];
        }
        first = false;
      }
    }
    y.put(k / octets, out.channel, largest);
    const auto four = [&](int i) {
      return place[i] | place[i + 1] << 8 | place[i + 2] << 16 | place[i + 3] << 24;
    };
    reinterpret_cast<uint2*>(places)[k] = make_uint2(four(0), four(4));
  }
}

template <typename T>
__global__ void max_backward(PoolShape s, Source<T> dy, const std::uint8_t* __restrict__ places,
                             Sink<T> dx) {
  const std::int64_t octets = s.channels / kOctet;
  const std::int64_t count = s.batch * s.in_h * s.in_w * octets;
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    const Spot in = spot_of(k, octets, s.in_h, s.in_w);
    const Span rows = windows(in.row, s.stride, s.padding_h, s.kernel_h, s.out_h);
    const Span columns = windows(in.column, s.stride, s.padding_w, s.kernel_w, s.out_w);
    float sums[kOctet] = {};
    for (std::int64_t h = rows.begin; h < rows.end; ++h) {
      for (std::int64_t w = columns.begin; w < columns.end; ++w) {
        const std::int64_t pixel = (in.image * s.out_h + h) * s.out_w + w;
        const auto at = static_cast<unsigned>((in.row + s.padding_h - h * s.stride) * s.kernel_w +
                                              (in.column + s.padding_w - w * s.stride));
        const uint2 place =
            reinterpret_cast<const uint2*>(places)[pixel * octets + in.channel / kOctet];
        float values[kOctet];
        dy.get(pixel, in.channel, values);
#pragma unroll
        for (int i = 0; i < kOctet; ++i) {
          const unsigned chosen = (i < 4 ? place.x : place.y) >> (i % 4 * 8) & 255u;
          sums[i] += chosen == at ? values[i] : 0;
        }
      }
    }
    dx.put(k / octets, in.channel, sums);
  }
}

template <typename T>
__global__ void average_forward(PoolShape s, Source<T> x, Sink<T> y) {
  const std::int64_t octets = s.channels / kOctet;
  const std::int64_t count = s.batch * s.out_h * s.out_w * octets;
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    const Spot out = spot_of(k, octets, s.out_h, s.out_w);
    const Span rows = inside(out.row, s.stride, s.padding_h, s.kernel_h, s.in_h);
    const Span columns = inside(out.column, s.stride, s.padding_w, s.kernel_w, s.in_w);
    float sums[kOctet] = {};
    for (std::int64_t h = rows.begin; h < rows.end; ++h) {
      for (std::int64_t w = columns.begin; w < columns.end; ++w) {
        float values[kOctet];
        x.get((out.image * s.in_h + h) * s.in_w + w, out.channel, values);
#pragma unroll
        for (int i = 0; i < kOctet; ++i) sums[i] += values[i];
      }
    }
    const auto pixels = static_cast<float>((rows.end - rows.begin) * (columns.end - columns.begin));
#pragma unroll
    for (int i = 0; i < kOctet; ++i) sums[i] /= pixels;
    y.put(k / octets, out.channel, sums);
  }
}

template <typename T>
__global__ void average_backward(PoolShape s, Source<T> dy, Sink<T> dx) {
  const std::int64_t octets = s.channels / kOctet;
  const std::int64_t count = s.batch * s.in_h * s.in_w * octets;
  for (std::int64_t k = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; k < count;
       k += std::int64_t{gridDim.x} * kThreads) {
    const Spot in = spot_of(k, octets, s.in_h, s.in_w);
    const Span rows = windows(in.row, s.stride, s.padding_h, s.kernel_h, s.out_h);
    const Span columns = windows(in.column, s.stride, s.padding_w, s.kernel_w, s.out_w);
    float sums[kOctet] = {};
    for (std::int64_t h = rows.begin; h < rows.end; ++h) {
      for (std::int64_t w = columns.begin; w < columns.end; ++w) {
        const Span tall = inside(h, s.stride, s.padding_h, s.kernel_h, s.in_h);
        const Span wide = inside(w, s.stride, s.padding_w, s.kernel_w, s.in_w);
        const auto pixels = static_cast<float>((tall.end - tall.begin) * (wide.end - wide.begin));
        float values[kOctet];
        dy.get((in.image * s.out_h + h) * s.out_w + w, in.channel, values);
#pragma unroll
        for (int i = 0; i < kOctet; ++i) sums[i] += values[i] / pixels;
      }
    }
    dx.put(k / octets, in.channel, sums);
  }
}

std::int64_t outputs(const PoolShape& s) {
  return s.batch * s.out_h * s.out_w * s.channels / kOctet;
}
std::int64_t inputs(const PoolShape& s) { return s.batch * s.in_h * s.in_w * s.channels / kOctet; }

}  // namespace

void max_pool(dist::Stream stream, Element element, const PoolShape& s, View x, View y,
              std::uint8_t* places) {
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("max_forward", max_forward<T>, grid_for(outputs(s)), kThreads, stream, s, Source<T>(x),
           sink_of<T>(y), places);
  });
}

void max_pool_backward(dist::Stream stream, Element element, const PoolShape& s, View dy,
                       const std::uint8_t* places, Target dx) {
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("max_backward", max_backward<T>, grid_for(inputs(s)), kThreads, stream, s, Source<T>(dy),
           places, Sink<T>(dx));
  });
}

void average_pool(dist::Stream stream, Element element, const PoolShape& s, View x, View y) {
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("average_forward", average_forward<T>, grid_for(outputs(s)), kThreads, stream, s,
           Source<T>(x), sink_of<T>(y));
  });
}

void average_pool_backward(dist::Stream stream, Element element, const PoolShape& s, View dy,
                           Target dx) {
  with_type(element, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch("average_backward", average_backward<T>, grid_for(inputs(s)), kThreads, stream, s,
           Source<T>(dy), Sink<T>(dx));
  });
}

}  // namespace nn::cudnn
