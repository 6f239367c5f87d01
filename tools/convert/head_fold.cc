#include "convert/head_fold.h"

#include <cmath>

namespace headroom::convert {
namespace {

Status CheckFold(const HeadFold& fold, size_t matrix, size_t weights, size_t out) {
  const uint64_t rows = uint64_t{fold.groups} * fold.width;
  const uint64_t wanted =
      uint64_t{fold.groups} * fold.members * (fold.by_dimension ? fold.width : 1);
  if (rows == 0 || fold.members == 0 || out == 0 || out % rows != 0) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "%u groups of %u heads of %u numbers do not make %zu", fold.groups,
                        fold.members, fold.width, out);
  }
  if (matrix % fold.members != 0 || matrix / fold.members != out || weights != wanted) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "%zu numbers and %zu weights, of %zu times %u and %llu", matrix, weights,
                        out, fold.members, static_cast<unsigned long long>(wanted));
  }
  return {};
}

}  // namespace

Status FoldHeads(const HeadFold& fold, std::span<const float> matrix,
                 std::span<const float> weights, std::span<float> out) {
  HR_RETURN_IF_ERROR(CheckFold(fold, matrix.size(), weights.size(), out.size()));
  for (size_t i = 0; i < weights.size(); ++i) {
    if (std::isfinite(weights[i])) continue;
    return Status::Make(StatusCode::kCorrupt, "weight %zu of a head is %g", i,
                        static_cast<double>(weights[i]));
  }
  const size_t rows = size_t{fold.groups} * fold.width, columns = out.size() / rows;
  for (size_t row = 0; row < rows; ++row) {
    const size_t group = row / fold.width, dimension = row % fold.width;
    for (size_t column = 0; column < columns; ++column) {
      double sum = 0;
      for (size_t member = group * fold.members; member < (group + 1) * fold.members; ++member) {
        const size_t from = member * fold.width + dimension;
        const double weight = weights[fold.by_dimension ? from : member];
        sum += weight * static_cast<double>(matrix[from * columns + column]);
      }
      out[row * columns + column] = static_cast<float>(sum);
    }
  }
  return {};
}

}  // namespace headroom::convert
