// config.json with a memory: every key that is asked for is noted, and what nobody asked for is
// refused by name unless it is known not to change mathematics.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "convert/json_file.h"

namespace headroom::convert {

class Config {
 public:
  Config(Json json, std::string what) : json_(std::move(json)), what_(std::move(what)) {}

  // A key with the value null counts as absent. A value of the wrong type is kCorrupt; out of [low,
  // high], kUnsupported; both name the key and the value.
  Result<std::optional<double>> Number(const std::string& key, double low, double high);
  Result<std::optional<uint32_t>> Count(const std::string& key, uint32_t low, uint32_t high);
  Result<std::optional<bool>> Bool(const std::string& key);
  Result<std::optional<std::string>> String(const std::string& key);
  Result<std::optional<std::vector<std::string>>> Strings(const std::string& key);
  Result<std::optional<std::vector<double>>> Numbers(const std::string& key, double low,
                                                     double high);
  // The object under a key as a Config of its own; its unknown keys are the caller's to refuse.
  Result<std::optional<Config>> Object(const std::string& key);
  // Whole number or list of them (eos_token_id).
  Result<std::vector<uint32_t>> Tokens(const std::string& key);

  // The same, present or kCorrupt ("config.json lacks ...").
  Result<double> NeedNumber(const std::string& key, double low, double high);
  Result<uint32_t> NeedCount(const std::string& key, uint32_t low, uint32_t high);

  // A list of numbers, each of which may be infinite: as Python's json writes it, which
  // json_file.h makes JSON, or as transformers does, {"__float__": "Infinity"}.
  Result<std::vector<double>> Limits(const std::string& key);

  bool Has(const std::string& key) const;
  // Whether the key is a list whose first text begins like this; does not count as asking for it.
  bool Names(const std::string& key, std::string_view beginning) const;
  // Whether the key is a text that begins like this; does not count as asking for it.
  bool Begins(const std::string& key, std::string_view beginning) const;
  bool IsText(const std::string& key) const { return Has(key) && json_[key].is_string(); }
  void Ignore(const std::string& key) { used_.insert(key); }
  void Set(const std::string& key, Json value) { json_[key] = std::move(value); }
  // kUnsupported, naming the first key with a value that was neither asked for nor ignored.
  Status RefuseUnused() const;
  const std::string& what() const { return what_; }

 private:
  const Json* Use(const std::string& key);
  Status Wrong(const std::string& key, const char* expected) const;
  Status OutOfRange(const std::string& which, double number, double low, double high) const;

  Json json_;
  std::string what_;
  std::set<std::string> used_;
};

}  // namespace headroom::convert
