#include "convert/config.h"

#include <cmath>
#include <limits>

namespace headroom::convert {

const Json* Config::Use(const std::string& key) {
  used_.insert(key);
  return Has(key) ? &json_[key] : nullptr;
}

bool Config::Names(const std::string& key, std::string_view beginning) const {
  const auto found = json_.is_object() ? json_.find(key) : json_.end();
  if (found == json_.end() || !found->is_array() || found->empty()) return false;
  const Json& first = found->front();
  return first.is_string() && first.get_ref<const std::string&>().starts_with(beginning);
}

bool Config::Begins(const std::string& key, std::string_view beginning) const {
  return IsText(key) && json_[key].get_ref<const std::string&>().starts_with(beginning);
}

bool Config::Has(const std::string& key) const {
  return json_.is_object() && json_.contains(key) && !json_[key].is_null();
}

Status Config::Wrong(const std::string& key, const char* expected) const {
  const std::string value =
      json_[key].dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" is %s, expected %s", what_.c_str(),
                      key.c_str(), Printable(value).c_str(), expected);
}

Status Config::OutOfRange(const std::string& which, double number, double low, double high) const {
  return Status::Make(StatusCode::kUnsupported, "%s: %s is %s, must be %s to %s", what_.c_str(),
                      which.c_str(), ToJson(number).dump().c_str(), ToJson(low).dump().c_str(),
                      ToJson(high).dump().c_str());
}

Result<std::optional<double>> Config::Number(const std::string& key, double low, double high) {
  const Json* value = Use(key);
  if (!value) return std::optional<double>();
  if (!value->is_number()) return Wrong(key, "a number");
  const double number = value->get<double>();
  if (!(number >= low && number <= high)) {
    return OutOfRange("\"" + key + "\"", number, low, high);
  }
  return std::optional<double>(number);
}

Result<std::optional<uint32_t>> Config::Count(const std::string& key, uint32_t low, uint32_t high) {
  HR_ASSIGN_OR_RETURN(const std::optional<double> number, Number(key, low, high));
  if (!number) return std::optional<uint32_t>();
  if (*number != std::floor(*number)) return Wrong(key, "a whole number");
  return std::optional<uint32_t>(static_cast<uint32_t>(*number));
}

Result<std::optional<bool>> Config::Bool(const std::string& key) {
  const Json* value = Use(key);
  if (!value) return std::optional<bool>();
  if (!value->is_boolean()) return Wrong(key, "true or false");
  return std::optional<bool>(value->get<bool>());
}

Result<std::optional<std::string>> Config::String(const std::string& key) {
  const Json* value = Use(key);
  if (!value) return std::optional<std::string>();
  if (!value->is_string()) return Wrong(key, "a text");
  return std::optional<std::string>(value->get<std::string>());
}

Result<std::optional<std::vector<std::string>>> Config::Strings(const std::string& key) {
  const Json* value = Use(key);
  if (!value) return std::optional<std::vector<std::string>>();
  if (!value->is_array()) return Wrong(key, "a list of texts");
  std::vector<std::string> texts;
  for (const Json& item : *value) {
    if (!item.is_string()) return Wrong(key, "a list of texts");
    texts.push_back(item.get<std::string>());
  }
  return std::optional<std::vector<std::string>>(std::move(texts));
}

Result<std::optional<std::vector<double>>> Config::Numbers(const std::string& key, double low,
                                                           double high) {
  const Json* value = Use(key);
  if (!value) return std::optional<std::vector<double>>();
  if (!value->is_array()) return Wrong(key, "a list of numbers");
  std::vector<double> numbers;
  for (const Json& item : *value) {
    if (!item.is_number()) return Wrong(key, "a list of numbers");
    numbers.push_back(item.get<double>());
    if (!(numbers.back() >= low && numbers.back() <= high)) {
      const std::string which = "\"" + key + "\"[" + std::to_string(numbers.size() - 1) + "]";
      return OutOfRange(which, numbers.back(), low, high);
    }
  }
  return std::optional<std::vector<double>>(std::move(numbers));
}

Result<std::vector<double>> Config::Limits(const std::string& key) {
  const Json* value = Use(key);
  std::vector<double> limits;
  if (!value) return limits;
  if (!value->is_array()) return Wrong(key, "a list of numbers");
  for (const Json& item : *value) {
    const bool infinite = item.is_object() && item.size() == 1 && item.contains("__float__") &&
                          item["__float__"] == "Infinity";
    if (!infinite && !item.is_number()) return Wrong(key, "a list of numbers");
    limits.push_back(infinite ? std::numeric_limits<double>::infinity() : item.get<double>());
  }
  return limits;
}

Result<std::optional<Config>> Config::Object(const std::string& key) {
  const Json* value = Use(key);
  if (!value) return std::optional<Config>();
  if (!value->is_object()) return Wrong(key, "an object");
  return std::optional<Config>(Config(*value, what_ + " " + key));
}

Result<std::vector<uint32_t>> Config::Tokens(const std::string& key) {
  const Json* value = Use(key);
  std::vector<uint32_t> tokens;
  if (!value) return tokens;
  const auto add = [&](const Json& item) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > INT32_MAX) return false;
    tokens.push_back(item.get<uint32_t>());
    return true;
  };
  bool good = true;
  if (value->is_array()) {
    for (const Json& item : *value) good = good && add(item);
  } else {
    good = add(*value);
  }
  if (!good) return Wrong(key, "a token id or a list of them");
  return tokens;
}

Result<double> Config::NeedNumber(const std::string& key, double low, double high) {
  HR_ASSIGN_OR_RETURN(const std::optional<double> number, Number(key, low, high));
  if (number) return *number;
  return Status::Make(StatusCode::kCorrupt, "%s lacks \"%s\"", what_.c_str(), key.c_str());
}

Result<uint32_t> Config::NeedCount(const std::string& key, uint32_t low, uint32_t high) {
  HR_ASSIGN_OR_RETURN(const std::optional<uint32_t> count, Count(key, low, high));
  if (count) return *count;
  return Status::Make(StatusCode::kCorrupt, "%s lacks \"%s\"", what_.c_str(), key.c_str());
}

Status Config::RefuseUnused() const {
  if (!json_.is_object()) {
    return Status::Make(StatusCode::kCorrupt, "%s is no object", what_.c_str());
  }
  for (const auto& [key, value] : json_.items()) {
    if (value.is_null() || used_.count(key)) continue;
    const std::string text =
        value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
    return Status::Make(StatusCode::kUnsupported,
                        "%s: \"%s\" (%s) may change the result and is not understood",
                        what_.c_str(), Printable(key).c_str(), Printable(text).c_str());
  }
  return {};
}

}  // namespace headroom::convert
