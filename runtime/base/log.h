// Where diagnostics go: to the app's hook, or nowhere. The runtime never prints.
#pragma once

#include <cstdint>

namespace headroom {

enum class LogLevel : int32_t { kError = 0, kWarning = 1, kInfo = 2 };

// Borrowed by whoever holds it; the app keeps `user_data` alive and `write` callable from any
// thread.
struct Log {
  void (*write)(void* user_data, int32_t level, const char* message) = nullptr;
  void* user_data = nullptr;

  // One line, truncated to 512 bytes; does nothing without a hook.
  [[gnu::format(printf, 3, 4)]] void Line(LogLevel level, const char* format, ...) const;
};

}  // namespace headroom
