#include "convert/json_file.h"

#include <cmath>
#include <filesystem>
#include <set>
#include <vector>

#include "base/platform.h"

namespace headroom::convert {
namespace {

constexpr int kMaxDepth = 64;  // deeper than any published file

// Counted before parsing, so that a file of brackets costs nothing but this loop.
bool TooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

Result<Json> ParseJson(std::string_view text, const std::string& what) {
  if (TooDeep(text)) {
    return Status::Make(StatusCode::kCorrupt, "%s: nested deeper than %d", what.c_str(), kMaxDepth);
  }
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string twice;
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && twice.empty()) {
      const std::string& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) twice = key;
    }
    return true;
  };
  const Json json = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return Status::Make(StatusCode::kCorrupt, "%s: is not JSON", what.c_str());
  }
  if (!twice.empty()) {
    return Status::Make(StatusCode::kCorrupt, "%s: key \"%s\" twice in one object", what.c_str(),
                        Printable(twice).c_str());
  }
  return json;
}

namespace {

// Outside of strings; the negative one no file has.
std::string WithoutInfinity(std::string_view text) {
  constexpr std::string_view kWord = "Infinity", kObject = R"({"__float__": "Infinity"})";
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool negative = i > 0 && text[i - 1] == '-';
    if (!in_string && !negative && text.substr(i).starts_with(kWord)) {
      out += kObject;
      i += kWord.size() - 1;
      continue;
    }
    out += text[i];
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      out += text[++i];
    } else if (text[i] == '"') {
      in_string = !in_string;
    }
  }
  return out;
}

}  // namespace

Result<Json> ReadJsonFile(const std::string& path, uint64_t max_bytes, bool infinity) {
  HR_ASSIGN_OR_RETURN(const platform::FileMapping file,
                      platform::FileMapping::OpenPath(path.c_str()));
  if (file.bytes() > max_bytes) {
    return Status::Make(StatusCode::kCorrupt, "%s: %llu bytes > %llu", path.c_str(),
                        static_cast<unsigned long long>(file.bytes()),
                        static_cast<unsigned long long>(max_bytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              static_cast<size_t>(file.bytes()));
  return infinity ? ParseJson(WithoutInfinity(text), path) : ParseJson(text, path);
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

Json ToJson(double number) {
  const bool whole = std::abs(number) <= 1e15 && number == std::floor(number);
  if (!whole) return Json(number);
  return number < 0 ? Json(static_cast<int64_t>(number)) : Json(static_cast<uint64_t>(number));
}

std::string Printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (out.size() == 57) return out + "...";
    const bool plain =
        static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f;
    out += c == '"' ? '\'' : plain ? c : '?';
  }
  return out;
}

}  // namespace headroom::convert
