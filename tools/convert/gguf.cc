#include "convert/gguf.h"

#include <cstdio>
#include <cstring>
#include <optional>

#include "base/math.h"
#include "convert/json_file.h"

namespace headroom::convert {
namespace {

constexpr uint32_t kDefaultAlignment = 32;
constexpr uint64_t kMaxKeyBytes = 65535;  // the format's
constexpr uint64_t kMaxNameBytes = 255;
constexpr uint32_t kMaxRank = 4;
constexpr uint32_t kMaxParts = 10'000;
// The least a key with a value, and a tensor's entry, can take.
constexpr uint64_t kLeastPairBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kLeastEntryBytes = 8 + 1 + 4 + 8 + 4 + 8;

std::string Number(uint64_t value) { return std::to_string(value); }

// Bytes of one element; 0 for texts and arrays, which say it themselves.
uint64_t FixedBytes(GgufType type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kBytes[static_cast<uint32_t>(type)];
}

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

class Parser {
 public:
  Parser(std::span<const std::byte> file, const std::string& what) : file_(file), what_(what) {}

  Result<GgufFile> Parse() {
    HR_ASSIGN_OR_RETURN(const Counts counts, Header());
    for (uint64_t i = 0; i < counts.pairs; ++i) HR_RETURN_IF_ERROR(Pair());
    HR_RETURN_IF_ERROR(ReadAlignment());
    for (uint64_t i = 0; i < counts.tensors; ++i) HR_RETURN_IF_ERROR(Entry());
    if (!pending_.empty()) HR_RETURN_IF_ERROR(PlaceTensors());
    HR_RETURN_IF_ERROR(CheckOverlap(out_.tensors, what_));
    return std::move(out_);
  }

 private:
  struct Counts {
    uint64_t tensors = 0, pairs = 0;
  };

  Status Corrupt(const std::string& fact) const {
    return Status::Make(StatusCode::kCorrupt, "%s: %s", what_.c_str(), fact.c_str());
  }
  Status Unsupported(const std::string& fact) const {
    return Status::Make(StatusCode::kUnsupported, "%s: %s", what_.c_str(), fact.c_str());
  }

  // ---- the bytes that remain

  uint64_t left() const { return file_.size() - at_; }

  Result<std::span<const std::byte>> Take(uint64_t bytes, const std::string& of) {
    if (bytes > left())
      return Corrupt(of + " of " + Number(bytes) + " bytes, " + Number(left()) + " remain");
    const auto taken = file_.subspan(at_, bytes);
    at_ += bytes;
    return taken;
  }

  template <typename T>
  Result<T> Scalar(const std::string& of) {
    HR_ASSIGN_OR_RETURN(const auto bytes, Take(sizeof(T), of));
    return Load<T>(bytes.data());
  }

  Result<std::string_view> Text(const std::string& of, uint64_t limit) {
    HR_ASSIGN_OR_RETURN(const uint64_t length, Scalar<uint64_t>("length of " + of));
    if (length > limit) return Corrupt(of + " of " + Number(length) + " bytes > " + Number(limit));
    HR_ASSIGN_OR_RETURN(const auto bytes, Take(length, of));
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  Result<uint64_t> Count(const std::string& of, uint64_t least_bytes) {
    HR_ASSIGN_OR_RETURN(const uint64_t count, Scalar<uint64_t>("number of " + of));
    if (count > left() / least_bytes)
      return Corrupt(Number(count) + " " + of + " in " + Number(left()) + " bytes");
    return count;
  }

  // ---- header

  Result<Counts> Header() {
    HR_ASSIGN_OR_RETURN(const auto magic, Take(4, "magic"));
    if (std::memcmp(magic.data(), "GGUF", 4) != 0) return Corrupt("does not begin with GGUF");
    HR_ASSIGN_OR_RETURN(const uint32_t version, Scalar<uint32_t>("version"));
    if (version == 1) return Unsupported("GGUF version 1; versions 2 and 3 are read");
    if (version != 0 && (version & 0xffff) == 0)
      return Unsupported("a big-endian GGUF file; little-endian ones are read");
    if (version != 2 && version != 3)
      return Unsupported("GGUF version " + Number(version) + "; versions 2 and 3 are read");
    HR_ASSIGN_OR_RETURN(const uint64_t tensors, Count("tensors", kLeastEntryBytes));
    HR_ASSIGN_OR_RETURN(const uint64_t pairs, Count("metadata keys", kLeastPairBytes));
    return Counts{tensors, pairs};
  }

  // ---- metadata

  Result<GgufType> Type(const std::string& of) {
    HR_ASSIGN_OR_RETURN(const uint32_t number, Scalar<uint32_t>("type of " + of));
    if (number > static_cast<uint32_t>(GgufType::kF64))
      return Unsupported(of + " has the unknown type " + Number(number));
    return static_cast<GgufType>(number);
  }

  Status Pair() {
    HR_ASSIGN_OR_RETURN(const std::string_view key, Text("a metadata key", kMaxKeyBytes));
    if (key.empty()) return Corrupt("a metadata key is empty");
    const std::string of = "\"" + Printable(key) + "\"";
    HR_ASSIGN_OR_RETURN(GgufType type, Type(of));
    const bool is_array = type == GgufType::kArray;
    uint64_t count = 1;
    if (is_array) {
      HR_ASSIGN_OR_RETURN(type, Type(of));
      if (type == GgufType::kArray) return Unsupported(of + " is an array of arrays");
      const uint64_t least = FixedBytes(type) != 0 ? FixedBytes(type) : sizeof(uint64_t);
      HR_ASSIGN_OR_RETURN(count, Count("elements of " + of, least));
    }
    HR_ASSIGN_OR_RETURN(const auto bytes, Elements(of, type, count));
    const GgufValue value(type, is_array, count, bytes);
    if (type == GgufType::kBool) {
      for (const std::byte b : bytes) {
        if (std::to_integer<int>(b) > 1)
          return Corrupt(of + " is " + Number(std::to_integer<uint64_t>(b)) +
                         ", not true or false");
      }
    }
    if (!out_.metadata.emplace(std::string(key), value).second)
      return Corrupt(of + " stands twice");
    return {};
  }

  Result<std::span<const std::byte>> Elements(const std::string& of, GgufType type,
                                              uint64_t count) {
    if (type != GgufType::kText) return Take(count * FixedBytes(type), of);  // cannot wrap: Count
    const uint64_t begin = at_;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t length = left() < 8 ? 0 : Load<uint64_t>(file_.data() + at_);
      if (left() < 8 || length > left() - 8) {
        return Corrupt(of + ": text " + Number(i) + " of " + Number(length) + " bytes, " +
                       Number(left()) + " remain");
      }
      at_ += 8 + length;
    }
    return file_.subspan(begin, at_ - begin);
  }

  Status ReadAlignment() {
    const GgufValue* value = out_.Find("general.alignment");
    if (!value) return {};
    const bool sound = !value->is_array() && value->type() == GgufType::kU32;
    const double alignment = sound ? value->Numbers()[0] : 0.0;
    alignment_ = static_cast<uint64_t>(alignment);
    if (alignment_ == 0 || (alignment_ & (alignment_ - 1)) != 0)
      return Corrupt("general.alignment " + Number(alignment_) + " is no power of two");
    return {};
  }

  // ---- tensors

  Status Entry() {
    HR_ASSIGN_OR_RETURN(const std::string_view raw, Text("a tensor's name", kMaxNameBytes));
    const std::string name(raw);
    const std::string of = "tensor \"" + Printable(name) + "\"";
    if (name.empty()) return Corrupt("a tensor's name is empty");
    HR_ASSIGN_OR_RETURN(const uint32_t rank, Scalar<uint32_t>("rank of " + of));
    if (rank == 0 || rank > kMaxRank)
      return Corrupt(of + " has rank " + Number(rank) + ", must be 1 to " + Number(kMaxRank));
    SourceTensor tensor;
    tensor.shape.resize(rank);
    for (uint32_t i = rank; i-- > 0;) {
      HR_ASSIGN_OR_RETURN(tensor.shape[i], Scalar<uint64_t>("extents of " + of));
      if (tensor.shape[i] == 0) return Corrupt(of + " has an extent of 0");
    }
    HR_ASSIGN_OR_RETURN(const uint32_t type, Scalar<uint32_t>("type of " + of));
    tensor.type = FindGgmlType(type);
    if (!tensor.type) return Unsupported(of + " has the unknown type " + Number(type));
    HR_RETURN_IF_ERROR(SetBytes(of, tensor));
    HR_ASSIGN_OR_RETURN(const uint64_t offset, Scalar<uint64_t>("offset of " + of));
    if (offset % alignment_ != 0)
      return Corrupt(of + " at " + Number(offset) + ", no multiple of " + Number(alignment_));
    const auto [entry, is_new] = out_.tensors.emplace(name, std::move(tensor));
    if (!is_new) return Corrupt(of + " stands twice");
    pending_.emplace_back(&*entry, offset);
    return {};
  }

  Status SetBytes(const std::string& of, SourceTensor& tensor) const {
    const uint64_t columns = tensor.shape.back();
    if (columns % tensor.type->block != 0) {
      return Corrupt(of + ": rows of " + Number(columns) + " are not whole blocks of " +
                     Number(tensor.type->block) + " (" + std::string(tensor.type->name) + ")");
    }
    uint64_t bytes = columns / tensor.type->block;
    bool fits = CheckedMul(bytes, tensor.type->block_bytes, &bytes);
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) {
      fits = fits && CheckedMul(bytes, tensor.shape[i], &bytes);
    }
    // Elements are counted in 64 bits elsewhere; no type has more of them than 8 a byte.
    if (!fits || bytes > UINT64_MAX / 8) return Corrupt(of + ": its shape overflows");
    tensor.bytes = bytes;
    return {};
  }

  // Once the table's end is known: the data begins behind it, at the next multiple.
  Status PlaceTensors() {
    uint64_t begin = 0;
    if (!CheckedAdd(at_, alignment_ - 1, &begin)) return Corrupt("the data begins nowhere");
    begin = begin / alignment_ * alignment_;
    for (const auto& [entry, offset] : pending_) {
      SourceTensor& tensor = entry->second;
      uint64_t first = 0, end = 0;
      const bool inside = CheckedAdd(begin, offset, &first) &&
                          CheckedAdd(first, tensor.bytes, &end) && end <= file_.size();
      if (!inside) {
        return Corrupt("tensor \"" + Printable(entry->first) + "\" of " + Number(tensor.bytes) +
                       " bytes at " + Number(offset) + " of the data ends behind the file's " +
                       Number(file_.size()) + " bytes");
      }
      tensor.data = file_.data() + first;
    }
    return {};
  }

  const std::span<const std::byte> file_;
  const std::string& what_;
  uint64_t at_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  GgufFile out_;
  std::vector<std::pair<TensorIndex::value_type*, uint64_t>> pending_;  // offsets in the data
};

// ---- split files

Result<GgufFile> Map(const std::string& path, std::vector<platform::FileMapping>& files) {
  HR_ASSIGN_OR_RETURN(platform::FileMapping file, platform::FileMapping::OpenPath(path.c_str()));
  HR_ASSIGN_OR_RETURN(GgufFile gguf,
                      ParseGguf({file.data(), static_cast<size_t>(file.bytes())}, path));
  files.push_back(std::move(file));
  return gguf;
}

// `otherwise` where the key is not there; -1 for what is no whole number in 0 .. 2^31.
int64_t WholeNumber(const GgufFile& gguf, std::string_view key, int64_t otherwise) {
  const GgufValue* value = gguf.Find(key);
  if (!value) return otherwise;
  if (value->is_array() || !value->is_number()) return -1;
  const double number = value->Numbers()[0];
  return number >= 0 && number <= INT32_MAX ? static_cast<int64_t>(number) : -1;
}

// "-00001-of-00003.gguf"
std::string PartEnding(int64_t part, int64_t parts) {
  char text[40];
  std::snprintf(text, sizeof(text), "-%05lld-of-%05lld.gguf", static_cast<long long>(part + 1),
                static_cast<long long>(parts));
  return text;
}

Status AddParts(const std::string& path, int64_t parts, OpenedGguf& out) {
  const auto corrupt = [&](const std::string& fact) {
    return Status::Make(StatusCode::kCorrupt, "%s: %s", path.c_str(), fact.c_str());
  };
  const std::string first = PartEnding(0, parts);
  if (WholeNumber(out.gguf, "split.no", 0) != 0 || !path.ends_with(first)) {
    return Status::Make(StatusCode::kInvalidArgument,
                        "%s: one of %lld files of a model; give the one that ends with %s",
                        path.c_str(), static_cast<long long>(parts), first.c_str());
  }
  const std::string stem = path.substr(0, path.size() - first.size());
  for (int64_t part = 1; part < parts; ++part) {
    const std::string name = stem + PartEnding(part, parts);
    HR_ASSIGN_OR_RETURN(GgufFile gguf, Map(name, out.files));
    if (WholeNumber(gguf, "split.no", -1) != part || WholeNumber(gguf, "split.count", -1) != parts)
      return corrupt(name + " is not part " + std::to_string(part + 1) + " of it");
    for (auto& [tensor, entry] : gguf.tensors) {
      if (!out.gguf.tensors.emplace(tensor, std::move(entry)).second)
        return corrupt("tensor \"" + Printable(tensor) + "\" is in two files");
    }
  }
  const int64_t stated = WholeNumber(out.gguf, "split.tensors.count", -1);
  if (stated != static_cast<int64_t>(out.gguf.tensors.size())) {
    return corrupt("split.tensors.count " + std::to_string(stated) + ", the files hold " +
                   Number(out.gguf.tensors.size()));
  }
  return {};
}

template <typename T>
std::vector<double> Widen(std::span<const std::byte> bytes) {
  std::vector<double> numbers;
  numbers.reserve(bytes.size() / sizeof(T));
  for (size_t at = 0; at < bytes.size(); at += sizeof(T)) {
    numbers.push_back(static_cast<double>(Load<T>(bytes.data() + at)));
  }
  return numbers;
}

}  // namespace

std::vector<double> GgufValue::Numbers() const {
  using Function = std::vector<double> (*)(std::span<const std::byte>);
  constexpr Function kWiden[] = {Widen<uint8_t>,  Widen<int8_t>,  Widen<uint16_t>, Widen<int16_t>,
                                 Widen<uint32_t>, Widen<int32_t>, Widen<float>,    Widen<uint8_t>,
                                 nullptr,         nullptr,        Widen<uint64_t>, Widen<int64_t>,
                                 Widen<double>};
  const Function widen = kWiden[static_cast<uint32_t>(type_)];
  return widen ? widen(bytes_) : std::vector<double>();
}

std::vector<std::string_view> GgufValue::Texts() const {
  std::vector<std::string_view> texts;
  if (type_ != GgufType::kText) return texts;
  texts.reserve(count_);
  for (size_t at = 0; at < bytes_.size();) {
    const uint64_t length = Load<uint64_t>(bytes_.data() + at);
    texts.emplace_back(reinterpret_cast<const char*>(bytes_.data()) + at + 8, length);
    at += 8 + length;
  }
  return texts;
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

Result<GgufFile> ParseGguf(std::span<const std::byte> file, const std::string& what) {
  return Parser(file, what).Parse();
}

Result<OpenedGguf> OpenGguf(const std::string& path) {
  OpenedGguf out;
  HR_ASSIGN_OR_RETURN(out.gguf, Map(path, out.files));
  const int64_t parts = WholeNumber(out.gguf, "split.count", 1);
  if (parts < 0 || parts > kMaxParts) {
    return Status::Make(StatusCode::kCorrupt, "%s: split.count is not 0 to %u", path.c_str(),
                        kMaxParts);
  }
  if (parts > 1) HR_RETURN_IF_ERROR(AddParts(path, parts, out));
  return out;
}

}  // namespace headroom::convert
