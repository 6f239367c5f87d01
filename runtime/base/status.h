// Status and Result<T>: how every fallible function of the runtime reports.
//
// The numeric values are those of hr_status in headroom.h, so the C shims pass them through. A
// Status carries its message inline (no allocation, nothing to free). With HR_SIZE_BUILD the text
// is dropped and only the code remains.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <optional>
#include <utility>

namespace headroom {

// Ranges: 1xx the caller, 2xx a file, 3xx memory, 4xx a device, 5xx us. What the caller should do
// about each one is said beside its twin in headroom.h.
enum class StatusCode : int32_t {
  kOk = 0,
  kInvalidArgument = 100,
  kWrongState = 101,
  kUnsupported = 102,
  kCancelled = 103,
  kContextFull = 104,
  kBufferTooSmall = 105,
  kNotFound = 200,
  kIo = 201,
  kCorrupt = 202,
  kNewerFormat = 203,
  kMismatch = 204,
  kOverBudget = 300,
  kOutOfMemory = 301,
  kDevice = 400,
  kInternal = 500,
};

class [[nodiscard]] Status {
 public:
  static constexpr int kMessageBytes = 252;

  Status() : code_(StatusCode::kOk) { message_[0] = '\0'; }

  // Message: fact, value, limit ("window 4096 > max_context 2048 (layer 7)"). Truncated to fit.
  [[gnu::format(printf, 2, 3)]] static Status Make(StatusCode code, const char* format, ...);
  static Status MakeV(StatusCode code, const char* format, va_list arguments);

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const char* message() const { return message_; }

 private:
  StatusCode code_;
  char message_[kMessageBytes];
};

// Fixed English name of a code, "ok" for kOk; never null.
const char* StatusCodeName(StatusCode code);

// A value or the Status that explains its absence.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit by intent
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit by intent
    if (status_.ok()) status_ = Status::Make(StatusCode::kInternal, "result built from ok");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() { return *value_; }
  const T& value() const { return *value_; }
  T Take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace headroom

#define HR_CONCAT_INNER(a, b) a##b
#define HR_CONCAT(a, b) HR_CONCAT_INNER(a, b)

#define HR_RETURN_IF_ERROR(expression)                                                     \
  do {                                                                                     \
    if (::headroom::Status hr_status_ = (expression); !hr_status_.ok()) return hr_status_; \
  } while (0)

#define HR_ASSIGN_OR_RETURN(target, expression) \
  HR_ASSIGN_OR_RETURN_INNER(HR_CONCAT(hr_result_, __LINE__), target, expression)
#define HR_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                 \
  if (!result.ok()) return result.status();                   \
  target = result.Take()
