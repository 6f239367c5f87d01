// The GGUF container, versions 2 and 3: metadata by key, a table of tensors, their bytes.
//
// Nothing is copied: values and tensors point into the file, and everything that says where
// something lies or how much there is of it was checked against the bytes that are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/platform.h"
#include "base/status.h"
#include "convert/source_tensor.h"

namespace headroom::convert {

// The numbers are the format's.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kText = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// A value, or an array of values of one type. Readers ask for what they expect: a value of another
// type gives nothing.
class GgufValue {
 public:
  GgufValue(GgufType type, bool is_array, uint64_t count, std::span<const std::byte> bytes)
      : type_(type), is_array_(is_array), count_(count), bytes_(bytes) {}

  GgufType type() const { return type_; }  // of the elements of an array
  bool is_array() const { return is_array_; }
  bool is_number() const { return type_ != GgufType::kText && type_ != GgufType::kBool; }
  uint64_t count() const { return count_; }  // 1 unless an array

  // Numbers and texts take more memory than in the file: ask for count() first.
  //
  // Whole numbers beyond 2^53 lose their last bits; none of the format's keys has such.
  std::vector<double> Numbers() const;          // numbers and bools (0, 1); empty for texts
  std::vector<std::string_view> Texts() const;  // empty for anything but texts
  std::span<const std::byte> bytes() const { return bytes_; }  // the elements as they are there

 private:
  GgufType type_;
  bool is_array_;
  uint64_t count_;
  std::span<const std::byte> bytes_;  // the elements as they are in the file
};

struct GgufFile {
  std::map<std::string, GgufValue, std::less<>> metadata;
  TensorIndex tensors;  // shapes are rows first, the other way round than in the file

  // nullptr: the key is not there.
  const GgufValue* Find(std::string_view key) const;
};

// Errors: kCorrupt (what lies, in words), kUnsupported (version, byte order, a type, each by its
// name or number). `what` names the file.
Result<GgufFile> ParseGguf(std::span<const std::byte> file, const std::string& what);

struct OpenedGguf {
  GgufFile gguf;  // metadata of the first file, tensors of all
  std::vector<platform::FileMapping> files;
};

// The file, and where it is the first of a split model (name-00001-of-00003.gguf) the others beside
// it.
Result<OpenedGguf> OpenGguf(const std::string& path);

}  // namespace headroom::convert
