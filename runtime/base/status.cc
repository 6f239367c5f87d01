#include "base/status.h"

#include <cstdio>

namespace headroom {

Status Status::Make(StatusCode code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  Status status = MakeV(code, format, arguments);
  va_end(arguments);
  return status;
}

Status Status::MakeV(StatusCode code, const char* format, va_list arguments) {
  Status status;
  status.code_ = code;
#if defined(HR_SIZE_BUILD)
  (void)format;
  (void)arguments;
#else
  std::vsnprintf(status.message_, sizeof(status.message_), format, arguments);
#endif
  return status;
}

const char* StatusCodeName(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return "ok";
    case StatusCode::kInvalidArgument:
      return "invalid argument";
    case StatusCode::kWrongState:
      return "wrong state";
    case StatusCode::kUnsupported:
      return "unsupported";
    case StatusCode::kCancelled:
      return "cancelled";
    case StatusCode::kContextFull:
      return "context full";
    case StatusCode::kBufferTooSmall:
      return "buffer too small";
    case StatusCode::kNotFound:
      return "not found";
    case StatusCode::kIo:
      return "input/output error";
    case StatusCode::kCorrupt:
      return "corrupt file";
    case StatusCode::kNewerFormat:
      return "format newer than this build";
    case StatusCode::kMismatch:
      return "mismatch";
    case StatusCode::kOverBudget:
      return "over budget";
    case StatusCode::kOutOfMemory:
      return "out of memory";
    case StatusCode::kDevice:
      return "device error";
    case StatusCode::kInternal:
      return "internal error";
  }
  return "unknown status";
}

}  // namespace headroom
