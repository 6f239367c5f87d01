#include "convert/safetensors.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/math.h"
#include "convert/json_file.h"

namespace headroom::convert {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kMaxIndexBytes = 100'000'000;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxShards = 10'000;

// A tensor's name and file for messages.
struct Where {
  const std::string& file;
  std::string tensor;
  Status Corrupt(const std::string& fact) const {
    return Status::Make(StatusCode::kCorrupt, "%s: tensor \"%s\": %s", file.c_str(),
                        Printable(tensor).c_str(), fact.c_str());
  }
};

bool IsCount(const Json& value) { return value.is_number_unsigned(); }

Result<SourceTensor> ParseEntry(const Json& json, std::span<const std::byte> data,
                                const Where& where) {
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() ||
      !json.contains("shape") || !json["shape"].is_array() || !json.contains("data_offsets") ||
      !json["data_offsets"].is_array() || json["data_offsets"].size() != 2) {
    return where.Corrupt("needs dtype, shape and two data_offsets");
  }
  SourceTensor entry;
  const std::string name = json["dtype"].get<std::string>();
  entry.type = FindSafetensorsType(name);
  if (!entry.type) {
    return Status::Make(StatusCode::kUnsupported, "%s: tensor \"%s\" has unknown type \"%s\"",
                        where.file.c_str(), Printable(where.tensor).c_str(),
                        Printable(name).c_str());
  }
  uint64_t bytes = entry.type->block_bytes;
  if (json["shape"].size() > kMaxRank) {
    return where.Corrupt("rank " + std::to_string(json["shape"].size()) + " > 8");
  }
  for (const Json& extent : json["shape"]) {
    if (!IsCount(extent)) return where.Corrupt("an extent is not a whole number >= 0");
    entry.shape.push_back(extent.get<uint64_t>());
    if (!CheckedMul(bytes, entry.shape.back(), &bytes)) return where.Corrupt("shape overflows");
  }
  const Json& offsets = json["data_offsets"];
  if (!IsCount(offsets[0]) || !IsCount(offsets[1])) {
    return where.Corrupt("an offset is not a whole number >= 0");
  }
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  if (begin > end || end > data.size()) {
    return where.Corrupt("bytes " + std::to_string(begin) + ".." + std::to_string(end) + " of " +
                         std::to_string(data.size()));
  }
  if (end - begin != bytes) {
    return where.Corrupt("shape needs " + std::to_string(bytes) + " bytes, offsets give " +
                         std::to_string(end - begin));
  }
  entry.data = data.data() + begin;
  entry.bytes = bytes;
  return entry;
}

// Files of the checkpoint in a folder, and the file each tensor must come from (empty: not said).
struct Layout {
  std::vector<std::string> files;
  std::map<std::string, std::string> places;
};

Result<Layout> ReadIndex(const std::string& path) {
  Layout layout;
  HR_ASSIGN_OR_RETURN(const Json json, ReadJsonFile(path, kMaxIndexBytes));
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    return Status::Make(StatusCode::kCorrupt, "%s: lacks weight_map", path.c_str());
  }
  std::set<std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : std::string();
    // A shard lies beside its index; a path that leads elsewhere is not followed.
    if (name.empty() || name.find('/') != std::string::npos || name[0] == '.') {
      return Status::Make(StatusCode::kCorrupt, "%s: \"%s\" is said to be in \"%s\"", path.c_str(),
                          Printable(tensor).c_str(), Printable(name).c_str());
    }
    files.insert(name);
    layout.places[tensor] = name;
  }
  layout.files.assign(files.begin(), files.end());
  return layout;
}

Result<Layout> FindFiles(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    return Status::Make(StatusCode::kNotFound, "%s: is not a folder", folder.c_str());
  }
  const std::string index = folder + "/model.safetensors.index.json";
  if (std::filesystem::exists(index, error)) return ReadIndex(index);
  Layout layout;
  if (std::filesystem::exists(folder + "/model.safetensors", error)) {
    layout.files.push_back("model.safetensors");
    return layout;
  }
  for (const auto& item : std::filesystem::directory_iterator(folder, error)) {
    if (item.path().extension() == ".safetensors") {
      layout.files.push_back(item.path().filename().string());
    }
  }
  std::sort(layout.files.begin(), layout.files.end());
  return layout;
}

bool HoldsPickles(const std::string& folder) {
  std::error_code error;
  for (const auto& item : std::filesystem::directory_iterator(folder, error)) {
    const std::string ending = item.path().extension().string();
    if (ending == ".bin" || ending == ".pt" || ending == ".pth") return true;
  }
  return false;
}

}  // namespace

Result<TensorIndex> ParseSafetensors(std::span<const std::byte> file, const std::string& what) {
  if (file.size() < 8) {
    return Status::Make(StatusCode::kCorrupt, "%s: %zu bytes < 8", what.c_str(), file.size());
  }
  uint64_t header_bytes = 0;
  for (int i = 0; i < 8; ++i)
    header_bytes |= uint64_t{std::to_integer<uint8_t>(file[i])} << (8 * i);
  const uint64_t limit = std::min<uint64_t>(file.size() - 8, kMaxHeaderBytes);
  if (header_bytes > limit) {
    return Status::Make(StatusCode::kCorrupt, "%s: header of %llu bytes > %llu", what.c_str(),
                        static_cast<unsigned long long>(header_bytes),
                        static_cast<unsigned long long>(limit));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
  HR_ASSIGN_OR_RETURN(const Json header, ParseJson(text, what + " header"));
  if (!header.is_object()) {
    return Status::Make(StatusCode::kCorrupt, "%s: header is no object", what.c_str());
  }
  TensorIndex index;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    HR_ASSIGN_OR_RETURN(index[name],
                        ParseEntry(value, file.subspan(8 + header_bytes), {what, name}));
  }
  HR_RETURN_IF_ERROR(CheckOverlap(index, what));
  return index;
}

Result<Checkpoint> Checkpoint::Open(const std::string& folder) {
  HR_ASSIGN_OR_RETURN(const Layout layout, FindFiles(folder));
  if (layout.files.empty() && HoldsPickles(folder)) {
    return Status::Make(StatusCode::kUnsupported,
                        "%s: holds its weights in *.bin or *.pt, pickle files, which are not read; "
                        "*.safetensors are",
                        folder.c_str());
  }
  if (layout.files.empty() || layout.files.size() > kMaxShards) {
    return Status::Make(StatusCode::kNotFound, "%s: %zu safetensors files", folder.c_str(),
                        layout.files.size());
  }
  std::vector<platform::FileMapping> files;
  TensorIndex tensors;
  for (const std::string& name : layout.files) {
    const std::string path = folder + "/" + name;
    if (!Exists(path)) {
      return Status::Make(StatusCode::kCorrupt,
                          "%s: lacks %s, which model.safetensors.index.json names", folder.c_str(),
                          Printable(name).c_str());
    }
    HR_ASSIGN_OR_RETURN(platform::FileMapping file, platform::FileMapping::OpenPath(path.c_str()));
    HR_ASSIGN_OR_RETURN(TensorIndex index,
                        ParseSafetensors({file.data(), static_cast<size_t>(file.bytes())}, path));
    for (auto& [tensor, entry] : index) {
      const auto place = layout.places.find(tensor);
      if (place != layout.places.end() && place->second != name) continue;  // the index decides
      if (!tensors.emplace(tensor, std::move(entry)).second) {
        return Where{path, tensor}.Corrupt("is also in another file");
      }
    }
    files.push_back(std::move(file));
  }
  for (const auto& [tensor, file] : layout.places) {
    if (!tensors.count(tensor)) return Where{folder + "/" + file, tensor}.Corrupt("is missing");
  }
  return Checkpoint(std::move(files), std::move(tensors));
}

}  // namespace headroom::convert
