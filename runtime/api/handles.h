// What stands behind the opaque handles, and how the shims treat structs and errors. Only api/ sees
// this.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>

#include "base/status.h"
#include "headroom/headroom.h"
#include "session/session.h"
#include "text/text_stream.h"
#include "text/tokenizer.h"

// One caller's hold on a model; sessions hold the parts they need by themselves.
struct hr_model {
  std::shared_ptr<headroom::session::Engine> engine;
  std::shared_ptr<const headroom::text::Tokenizer> tokenizer;  // null: the model carries none
};

struct hr_session {
  std::unique_ptr<headroom::session::Session> session;
  std::shared_ptr<const headroom::text::Tokenizer> tokenizer;
  headroom::text::TextStream stream;
};

namespace headroom::api {

// Status to code, and its text to the caller's error (emptied on success).
inline hr_status Report(const Status& status, hr_error* error) {
  if (error != nullptr) {
    static_assert(sizeof(error->text) > Status::kMessageBytes);
    std::memcpy(error->text, status.message(), std::strlen(status.message()) + 1);
  }
  return static_cast<hr_status>(status.code());
}

inline hr_status NullArgument(const char* name, hr_error* error) {
  return Report(Status::Make(StatusCode::kInvalidArgument, "%s is NULL", name), error);
}

inline Status NoTokenizer() {
  return Status::Make(StatusCode::kUnsupported, "this model carries no tokenizer");
}

// As much of `name` as the caller's field holds, terminated.
template <size_t N>
void CopyName(std::string_view name, char (&out)[N]) {
  const size_t bytes = std::min(name.size(), N - 1);
  std::memcpy(out, name.data(), bytes);
  out[bytes] = '\0';
}

// A struct from an older or newer caller: what it has is taken, what it lacks is zero.
template <typename T>
T CopyIn(const T* given) {
  T options = {};
  if (given == nullptr) return options;
  const size_t bytes = given->struct_size == 0 ? sizeof(T) : given->struct_size;
  std::memcpy(&options, given, std::min(bytes, sizeof(T)));
  return options;
}

// Writes no more than the caller's struct holds, and keeps its struct_size.
template <typename T>
void CopyOut(T filled, T* out) {
  const size_t bytes = out->struct_size == 0 ? sizeof(T) : std::min(out->struct_size, sizeof(T));
  filled.struct_size = out->struct_size;
  std::memcpy(out, &filled, bytes);
}

}  // namespace headroom::api
