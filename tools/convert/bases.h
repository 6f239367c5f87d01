// Orthogonal bases of keys and values, in which the first numbers of a row matter most
// (MatryoshkaKV, arXiv 2410.14731): from second moments of what a model makes of a text.
//
// Rows cut behind r numbers lose R x, R = I - U_r U_r^T. What that does to whoever reads them is
//   E (q^T R k)^2 = tr(Q R K R)      with Q = E q q^T, K = E k k^T, q and k independent
// for keys, and for values the same with the matrix of what the output makes of an error in place
// of Q. Deviations from the paper, which takes the principal components of K: candidates that weigh
// K by Q as well, of which the one that loses least is taken; no mean is kept beside the rows. Of
// keys the mean counts for nothing, since q . mean is the same for all rows; values keep theirs.
#pragma once

#include <cstdint>
#include <vector>

namespace headroom::convert {

// Sums over vectors x of a head: of x, and of x x^T by rows.
class Moments {
 public:
  explicit Moments(uint32_t width = 0)
      : width_(width), sum_(width, 0.0), products_(uint64_t{width} * width, 0.0) {}
  void Add(const float* x);
  void Add(const Moments& other);
  uint32_t width() const { return width_; }
  uint64_t count() const { return count_; }
  // E x x^T, and the same around the mean; [width * width]. Of no vector: 0.
  std::vector<double> Second() const;
  std::vector<double> Covariance() const;

 private:
  uint32_t width_;
  uint64_t count_ = 0;
  std::vector<double> sum_, products_;
};

// U, [width * width] by rows, its columns in order of importance: `rows` is K, `readers` Q, both
// symmetric and positive semidefinite.
std::vector<double> MakeBasis(const std::vector<double>& rows, const std::vector<double>& readers,
                              uint32_t width);

// tr(Q R K R) of that basis cut behind `rank` columns.
double CutError(const std::vector<double>& rows, const std::vector<double>& readers,
                const std::vector<double>& basis, uint32_t width, uint32_t rank);

}  // namespace headroom::convert
