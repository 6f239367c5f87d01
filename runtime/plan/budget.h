// What every plan counts alike: what a session takes beside its arena, and what a budget lacks.
#pragma once

#include <algorithm>
#include <cstdint>

namespace headroom::plan {

// Operators, step list, tables and the session object: measured, see tests/cli/memory_test.cc.
inline constexpr uint64_t kRuntimeBytes = 256 * 1024;
inline constexpr uint64_t kRuntimeBytesPerThread = 16 * 1024;  // of its stack, what is touched
// No machine maps more; what a file asks beyond it never fits, budget or not.
inline constexpr uint64_t kMostBytes = uint64_t{1} << 47;

// What `bytes` have too many; limit 0: no limit.
constexpr uint64_t BytesOver(uint64_t bytes, uint64_t limit) {
  const uint64_t most = limit == 0 ? kMostBytes : std::min(limit, kMostBytes);
  return bytes > most ? bytes - most : 0;
}
// Of a Plan or an ImagePlan.
template <class Plan, class Limits>
constexpr uint64_t MissingBytes(const Plan& plan, const Limits& limits) {
  return std::max(BytesOver(plan.total_bytes, limits.budget_bytes),
                  BytesOver(plan.private_bytes, limits.private_budget_bytes));
}

}  // namespace headroom::plan
