#include "convert/gguf_keys.h"

#include <algorithm>
#include <cmath>

namespace headroom::convert {

std::string GgufKeys::Quoted(std::string_view key) const {
  return "\"" + prefix_ + std::string(key) + "\"";
}

Status GgufKeys::Corrupt(const std::string& fact) const {
  return Status::Make(StatusCode::kCorrupt, "%s: %s", what_.c_str(), fact.c_str());
}

Status GgufKeys::Refuse(std::string_view key, const std::string& why) const {
  return RefuseName(prefix_ + std::string(key), why);
}

Status GgufKeys::RefuseName(std::string_view name, const std::string& why) const {
  return Status::Make(StatusCode::kUnsupported, "%s: \"%s\" %s", what_.c_str(),
                      Printable(name).c_str(), why.c_str());
}

const GgufValue* GgufKeys::Find(std::string_view key) {
  Ignore(key);
  return gguf_.Find(used_.back());
}

Result<GgufKeys::Number> GgufKeys::Read(std::string_view key) {
  const GgufValue* value = Find(key);
  if (!value) return Number();
  if (!value->is_number() || value->count() == 0 || value->count() > kMaxGgufLayers)
    return Corrupt(Quoted(key) + " is no number");
  const std::vector<double> numbers = value->Numbers();
  for (const double number : numbers) {
    if (!std::isfinite(number)) return Corrupt(Quoted(key) + " is not finite");
    if (number != numbers[0]) return Refuse(key, "differs between layers");
  }
  return Number(numbers[0]);
}

Result<double> GgufKeys::Need(std::string_view key) {
  HR_ASSIGN_OR_RETURN(const Number number, Read(key));
  if (number) return *number;
  return Corrupt("lacks " + Quoted(key));
}

Result<double> GgufKeys::NeedCount(std::string_view key, double low, double high) {
  HR_ASSIGN_OR_RETURN(const double number, Need(key));
  if (number >= low && number <= high && number == std::floor(number)) return number;
  return Refuse(key, "is " + ToJson(number).dump() + ", must be " + ToJson(low).dump() + " to " +
                         ToJson(high).dump());
}

Result<std::optional<bool>> GgufKeys::ReadFlag(std::string_view key) {
  const GgufValue* value = Find(key);
  if (!value) return std::optional<bool>();
  if (value->is_array() || value->type() != GgufType::kBool)
    return Corrupt(Quoted(key) + " is neither true nor false");
  return std::optional<bool>(value->Numbers()[0] != 0.0);
}

Result<std::optional<std::string>> GgufKeys::ReadText(std::string_view key) {
  const GgufValue* value = Find(key);
  if (!value) return std::optional<std::string>();
  if (value->is_array() || value->type() != GgufType::kText)
    return Corrupt(Quoted(key) + " is no text");
  return std::optional<std::string>(value->Texts()[0]);
}

Result<uint64_t> GgufKeys::ReadVocabulary() {
  const auto embedding = gguf_.tensors.find("token_embd.weight");
  if (embedding == gguf_.tensors.end()) return Corrupt("lacks tensor \"token_embd.weight\"");
  const uint64_t rows = embedding->second.shape[0];
  HR_ASSIGN_OR_RETURN(const Number stated, Read("vocab_size"));
  if (!stated || *stated == static_cast<double>(rows)) return rows;
  return Corrupt(Quoted("vocab_size") + " is not the " + std::to_string(rows) +
                 " rows of token_embd.weight");
}

Status GgufKeys::RefuseUnused() const {
  for (const auto& [key, value] : gguf_.metadata) {
    if (!key.starts_with(prefix_) || std::find(used_.begin(), used_.end(), key) != used_.end())
      continue;
    return RefuseName(key, "may change the result and is not understood");
  }
  return {};
}

}  // namespace headroom::convert
