// The boundary that no exception crosses. The library throws none itself; the C++ heap throws when
// the system has no memory left, and so may an app's callback.
#pragma once

#include <exception>
#include <new>

#include "api/handles.h"

namespace headroom::api {

// Runs body() -> hr_status. On the way out destructors have released what the call had taken.
template <typename Body>
hr_status Guarded(hr_error* error, const Body& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Report(Status::Make(StatusCode::kOutOfMemory, "the C++ heap has no memory left"), error);
  } catch (const std::exception& fault) {
    return Report(Status::Make(StatusCode::kInternal, "unexpected: %s", fault.what()), error);
  } catch (...) {
    return Report(Status::Make(StatusCode::kInternal, "a callback threw"), error);
  }
}

}  // namespace headroom::api
