// The keys that a GGUF file has for its architecture, with a memory: what nobody asked for is
// refused by name.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "convert/gguf.h"
#include "convert/json_file.h"

namespace headroom::convert {

inline constexpr uint64_t kMaxGgufLayers = 4096;  // in a list of values by layer

class GgufKeys {
 public:
  using Number = std::optional<double>;

  // `what` names the file; both outlive this.
  GgufKeys(const GgufFile& gguf, const std::string& what, std::string_view architecture)
      : gguf_(gguf), what_(what), prefix_(std::string(architecture) + ".") {}

  // Keys are given without the architecture. A value of another type is kCorrupt.
  const GgufValue* Find(std::string_view key);  // nullptr: not there
  // A number, or a list of equal ones: some writers give a number for every layer.
  Result<Number> Read(std::string_view key);
  Result<double> Need(std::string_view key);
  Result<double> NeedCount(std::string_view key, double low, double high);
  Result<std::optional<bool>> ReadFlag(std::string_view key);
  Result<std::optional<std::string>> ReadText(std::string_view key);

  // The rows of the embedding; kCorrupt where vocab_size says otherwise.
  Result<uint64_t> ReadVocabulary();

  void Ignore(std::string_view key) { used_.push_back(prefix_ + std::string(key)); }
  // kUnsupported: the first key of the architecture that nobody asked for.
  Status RefuseUnused() const;

  std::string Quoted(std::string_view key) const;  // in full
  Status Corrupt(const std::string& fact) const;
  // kUnsupported: the key, or whatever else has this name, and why.
  Status Refuse(std::string_view key, const std::string& why) const;
  Status RefuseName(std::string_view name, const std::string& why) const;

 private:
  const GgufFile& gguf_;
  const std::string& what_;
  std::string prefix_;
  std::vector<std::string> used_;
};

}  // namespace headroom::convert
