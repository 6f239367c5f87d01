// Reading JSON that nobody has checked: sizes are limited and nothing throws.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headroom::convert {

using Json = nlohmann::json;

// kCorrupt when `text` is no JSON or an object in it names a key twice. `what` stands in the
// message.
Result<Json> ParseJson(std::string_view text, const std::string& what);

// kNotFound, kIo (not a regular file), kCorrupt (larger than max_bytes, no JSON). With `infinity`
// the word that Python writes for it, which JSON has not, is read as transformers writes it since:
// {"__float__": "Infinity"}.
Result<Json> ReadJsonFile(const std::string& path, uint64_t max_bytes, bool infinity = false);

inline constexpr uint64_t kMaxConfigBytes = 16u << 20;  // of config.json and the like

// Whether anything has this name.
bool Exists(const std::string& path);

// JSON tells whole numbers from others, and so do messages: dump() writes no "1e+06".
Json ToJson(double number);

// Text of foreign origin made fit for a message: at most 60 characters, controls replaced, quotes
// single.
std::string Printable(std::string_view text);

}  // namespace headroom::convert
