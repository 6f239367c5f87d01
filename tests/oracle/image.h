// Operations on pictures in double precision, each from its definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace headroom::oracle {

// [rows, columns, channels]: channels of a pixel lie together (NHWC without the batch).
struct Picture {
  size_t rows = 0, columns = 0, channels = 0;
  std::vector<double> x;

  Picture() = default;
  Picture(size_t r, size_t c, size_t n) : rows(r), columns(c), channels(n), x(r * c * n, 0.0) {}
  size_t positions() const { return rows * columns; }
  double& at(size_t r, size_t c, size_t n) { return x[(r * columns + c) * channels + n]; }
  double at(size_t r, size_t c, size_t n) const { return x[(r * columns + c) * channels + n]; }
};

// Rows and columns of each; padding: top, left, bottom, right.
struct Window {
  size_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1}, pad[4] = {0, 0, 0, 0};
  // Places of the window (arXiv 1603.07285 relationship 6, with dilation section 5.1).
  size_t Places(size_t size, int axis) const {
    return (size + pad[axis] + pad[axis + 2] - (dilation[axis] * (kernel[axis] - 1) + 1)) /
               stride[axis] +
           1;
  }
};

struct Convolved {
  Picture out, magnitude;  // magnitude: sum of |terms|
};

// Grouped, dilated cross-correlation (arXiv 1603.07285; groups: arXiv 1611.05431 section 3.3).
// weight[n][i][j][k] is flat, k over the C / groups channels of output n's group:
// out[r, c, n] = bias[n] + sum_ijk weight[n][i][j][k] x[r s0 - p0 + i d0, c s1 - p1 + j d1, g K +
// k], where x outside of the picture is `outside`.
inline Convolved Convolve2d(const Picture& x, const std::vector<double>& weight,
                            const std::vector<double>& bias, const Window& w, size_t groups,
                            double outside = 0) {
  const size_t outputs = bias.size(), width = x.channels / groups;
  Convolved result;
  result.out = Picture(w.Places(x.rows, 0), w.Places(x.columns, 1), outputs);
  result.magnitude = result.out;
  for (size_t r = 0; r < result.out.rows; ++r) {
    for (size_t c = 0; c < result.out.columns; ++c) {
      for (size_t n = 0; n < outputs; ++n) {
        double sum = bias[n], size = std::fabs(bias[n]);
        const size_t first = n / (outputs / groups) * width;
        for (size_t i = 0; i < w.kernel[0]; ++i) {
          for (size_t j = 0; j < w.kernel[1]; ++j) {
            const auto row = static_cast<ptrdiff_t>(r * w.stride[0] + i * w.dilation[0]) -
                             static_cast<ptrdiff_t>(w.pad[0]);
            const auto column = static_cast<ptrdiff_t>(c * w.stride[1] + j * w.dilation[1]) -
                                static_cast<ptrdiff_t>(w.pad[1]);
            const bool inside = row >= 0 && row < static_cast<ptrdiff_t>(x.rows) && column >= 0 &&
                                column < static_cast<ptrdiff_t>(x.columns);
            for (size_t k = 0; k < width; ++k) {
              const double value = inside ? x.at(row, column, first + k) : outside;
              const double term =
                  weight[((n * w.kernel[0] + i) * w.kernel[1] + j) * width + k] * value;
              sum += term;
              size += std::fabs(term);
            }
          }
        }
        result.out.at(r, c, n) = sum;
        result.magnitude.at(r, c, n) = size;
      }
    }
  }
  return result;
}

// Group norm (arXiv 1803.08494 eq. 1, 2, 7): mean and variance of a group are taken over all
// positions and the group's channels together; one group is layer norm of a whole picture, and not
// one of each position.
inline Picture GroupNorm(const Picture& x, size_t groups, const std::vector<double>& weight,
                         const std::vector<double>& bias, double epsilon) {
  Picture out = x;
  const size_t width = x.channels / groups;
  for (size_t g = 0; g < groups; ++g) {
    double mean = 0, variance = 0;
    const double count = static_cast<double>(x.positions() * width);
    const auto each = [&](const auto& visit) {
      for (size_t p = 0; p < x.positions(); ++p) {
        for (size_t c = g * width; c < (g + 1) * width; ++c) visit(p * x.channels + c, c);
      }
    };
    each([&](size_t i, size_t) { mean += x.x[i] / count; });
    each([&](size_t i, size_t) { variance += (x.x[i] - mean) * (x.x[i] - mean) / count; });
    each([&](size_t i, size_t c) {
      out.x[i] = (x.x[i] - mean) / std::sqrt(variance + epsilon) * weight[c] + bias[c];
    });
  }
  return out;
}

// Pixels [begin, end) of each axis.
struct PixelSpan {
  size_t begin = 0, end = 0;
};
// What a sliding window sees at place `at` (padding does not count), and what place `at` of `count`
// of an adaptive pool does: [floor(at size / count), ceil((at + 1) size / count)).
inline PixelSpan SlidingSpan(const Window& w, int axis, size_t at, size_t size) {
  PixelSpan span{size, 0};
  for (size_t i = 0; i < w.kernel[axis]; ++i) {
    const auto pixel =
        static_cast<ptrdiff_t>(at * w.stride[axis] + i) - static_cast<ptrdiff_t>(w.pad[axis]);
    if (pixel < 0 || pixel >= static_cast<ptrdiff_t>(size)) continue;
    span.begin = std::min(span.begin, static_cast<size_t>(pixel));
    span.end = std::max(span.end, static_cast<size_t>(pixel) + 1);
  }
  return span;
}
inline PixelSpan AdaptiveSpan(size_t at, size_t count, size_t size) {
  return {at * size / count, ((at + 1) * size + count - 1) / count};
}

// One place of a pool: the largest of every channel, or the mean.
inline std::vector<double> PoolPixels(const Picture& x, PixelSpan rows, PixelSpan columns,
                                      bool largest) {
  std::vector<double> out(x.channels, largest ? -INFINITY : 0.0);
  for (size_t r = rows.begin; r < rows.end; ++r) {
    for (size_t c = columns.begin; c < columns.end; ++c) {
      for (size_t n = 0; n < x.channels; ++n) {
        out[n] = largest ? std::max(out[n], x.at(r, c, n)) : out[n] + x.at(r, c, n);
      }
    }
  }
  const double pixels =
      static_cast<double>((rows.end - rows.begin) * (columns.end - columns.begin));
  if (!largest) {
    for (double& value : out) value /= pixels;
  }
  return out;
}

// The whole pool. Adaptive (strip pooling, arXiv 2003.13328 eq. 1, is one with an extent of 1):
// the kernel is the output's extent, 0 as the input's. Else kernel 0 is the whole picture.
inline Picture Pool(const Picture& x, const Window& w, bool adaptive, bool largest) {
  const size_t sizes[2] = {x.rows, x.columns};
  size_t extents[2];
  for (int axis = 0; axis < 2; ++axis) {
    if (adaptive) {
      extents[axis] = w.kernel[axis] == 0 ? sizes[axis] : w.kernel[axis];
    } else {
      extents[axis] = w.kernel[axis] == 0 ? 1 : w.Places(sizes[axis], axis);
    }
  }
  const auto span = [&](int axis, size_t at) {
    return adaptive || w.kernel[axis] == 0 ? AdaptiveSpan(at, extents[axis], sizes[axis])
                                           : SlidingSpan(w, axis, at, sizes[axis]);
  };
  Picture out(extents[0], extents[1], x.channels);
  for (size_t r = 0; r < out.rows; ++r) {
    for (size_t c = 0; c < out.columns; ++c) {
      const std::vector<double> pooled = PoolPixels(x, span(0, r), span(1, c), largest);
      std::copy(pooled.begin(), pooled.end(), out.x.begin() + (r * out.columns + c) * x.channels);
    }
  }
  return out;
}

enum class ResizeRule { kNearest, kBilinear, kAlignCorners };

// Where place `at` of `count` lies among `size` pixels. Centres at half numbers:
// (at + 1/2) size / count - 1/2, not below 0; with aligned corners at (size - 1) / (count - 1).
// Nearest takes the pixel floor(at size / count).
inline double ResizePlace(ResizeRule rule, size_t at, size_t count, size_t size) {
  if (rule == ResizeRule::kNearest) return static_cast<double>(at * size / count);
  const double a = static_cast<double>(at), n = static_cast<double>(count);
  const double s = static_cast<double>(size);
  if (rule == ResizeRule::kAlignCorners) return count == 1 ? 0 : a * (s - 1) / (n - 1);
  return std::max((a + 0.5) * s / n - 0.5, 0.0);
}

// out = linear interpolation between the four pixels around the place; beyond the last, that one.
inline Picture Resize(const Picture& x, size_t rows, size_t columns, ResizeRule rule) {
  Picture out(rows, columns, x.channels);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      const double y = ResizePlace(rule, r, rows, x.rows);
      const double z = ResizePlace(rule, c, columns, x.columns);
      const auto top = static_cast<size_t>(y), left = static_cast<size_t>(z);
      const size_t bottom = std::min(top + 1, x.rows - 1),
                   right = std::min(left + 1, x.columns - 1);
      const double down = y - static_cast<double>(top), over = z - static_cast<double>(left);
      for (size_t n = 0; n < x.channels; ++n) {
        out.at(r, c, n) =
            (1 - down) * (1 - over) * x.at(top, left, n) + (1 - down) * over * x.at(top, right, n) +
            down * (1 - over) * x.at(bottom, left, n) + down * over * x.at(bottom, right, n);
      }
    }
  }
  return out;
}

// Rows in front that are 0, then the input; all plus a table (arXiv 2010.11929 eq. 1, where what
// lies in front is the class token, added to the table beforehand). x has one column.
inline Picture PositionEmbedding(const Picture& x, const std::vector<double>& table,
                                 size_t prefix) {
  Picture out(prefix + x.rows, 1, x.channels);
  out.x = table;
  for (size_t i = 0; i < x.x.size(); ++i) out.x[prefix * x.channels + i] += x.x[i];
  return out;
}

}  // namespace headroom::oracle
