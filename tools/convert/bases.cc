#include "convert/bases.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace headroom::convert {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const Matrix>;

// Directions that no vector takes have this share of the mean variance, so that they have a
// logarithm.
constexpr double kFloor = 1e-9;

Eigen::SelfAdjointEigenSolver<Matrix> Decomposed(const Matrix& symmetric) {
  return Eigen::SelfAdjointEigenSolver<Matrix>(symmetric);
}

// Eigenvectors, of the largest eigenvalue first.
Matrix Components(const Matrix& symmetric) {
  return Decomposed(symmetric).eigenvectors().rowwise().reverse();
}

Matrix Logarithm(const Matrix& symmetric) {
  const auto parts = Decomposed(symmetric);
  const double floor = std::max(kFloor * symmetric.trace() / static_cast<double>(symmetric.rows()),
                                std::numeric_limits<double>::min());
  const Eigen::VectorXd logs = parts.eigenvalues().cwiseMax(floor).array().log().matrix();
  return parts.eigenvectors() * logs.asDiagonal() * parts.eigenvectors().transpose();
}

double ErrorOf(const Matrix& rows, const Matrix& readers, const Matrix& basis, uint32_t rank) {
  const auto left = basis.rightCols(basis.cols() - rank);
  return ((left.transpose() * readers * left).cwiseProduct(left.transpose() * rows * left)).sum();
}

}  // namespace

void Moments::Add(const float* x) {
  ++count_;
  for (uint32_t i = 0; i < width_; ++i) {
    const double factor = x[i];
    double* row = products_.data() + uint64_t{i} * width_;
    sum_[i] += factor;
    for (uint32_t j = 0; j < width_; ++j) row[j] += factor * x[j];
  }
}

void Moments::Add(const Moments& other) {
  count_ += other.count_;
  for (size_t i = 0; i < sum_.size(); ++i) sum_[i] += other.sum_[i];
  for (size_t i = 0; i < products_.size(); ++i) products_[i] += other.products_[i];
}

std::vector<double> Moments::Second() const {
  std::vector<double> out = products_;
  for (double& x : out) x /= static_cast<double>(std::max<uint64_t>(count_, 1));
  return out;
}

std::vector<double> Moments::Covariance() const {
  std::vector<double> out = Second();
  const double count = static_cast<double>(std::max<uint64_t>(count_, 1));
  for (uint32_t i = 0; i < width_; ++i) {
    for (uint32_t j = 0; j < width_; ++j) {
      out[uint64_t{i} * width_ + j] -= sum_[i] / count * (sum_[j] / count);
    }
  }
  return out;
}

double CutError(const std::vector<double>& rows, const std::vector<double>& readers,
                const std::vector<double>& basis, uint32_t width, uint32_t rank) {
  return ErrorOf(ConstMap(rows.data(), width, width), ConstMap(readers.data(), width, width),
                 ConstMap(basis.data(), width, width), rank);
}

std::vector<double> MakeBasis(const std::vector<double>& rows, const std::vector<double>& readers,
                              uint32_t width) {
  const Matrix k = ConstMap(rows.data(), width, width), q = ConstMap(readers.data(), width, width);
  // Principal components of the rows; of what is lost to first order; and, where the two moments
  // commute exact for every rank, of the geometric mean.
  const std::array<Matrix, 3> candidates = {Components(k), Components(q * k + k * q),
                                            Components(Logarithm(k) + Logarithm(q))};
  double least = std::numeric_limits<double>::infinity();
  std::vector<double> out;
  for (const Matrix& basis : candidates) {
    // At different ranks errors differ by orders: their product, not their sum, is compared.
    double error = 0.0;
    for (const uint32_t quarters : {1u, 2u, 3u}) {
      error +=
          std::log(ErrorOf(k, q, basis, width * quarters / 4) + std::numeric_limits<double>::min());
    }
    if (!(error < least) && !out.empty()) continue;
    least = error;
    out.assign(basis.data(), basis.data() + basis.size());
  }
  return out;
}

}  // namespace headroom::convert
