#include "base/log.h"

#include <cstdarg>
#include <cstdio>

namespace headroom {

void Log::Line(LogLevel level, const char* format, ...) const {
  if (write == nullptr) return;
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  write(user_data, static_cast<int32_t>(level), text);
}

}  // namespace headroom
