#include "session/golden.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "convert/convert.h"

namespace headroom::test {
namespace {

namespace fs = std::filesystem;

struct ScratchFolder {
  fs::path path;
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "headroom-test-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~ScratchFolder() { fs::remove_all(path); }
};

fs::path GoldenFolder() {
  const char* source = std::getenv("HEADROOM_SOURCE_DIR");
  if (source == nullptr) throw std::runtime_error("HEADROOM_SOURCE_DIR is not set");
  return fs::path(source) / "tests" / "golden";
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

// Float32 C-order .npy; the shape is known from the tokens.
std::vector<float> ReadNpy(const fs::path& path) {
  const std::string file = ReadFile(path);
  if (file.compare(1, 5, "NUMPY") != 0) throw std::runtime_error("not npy: " + path.string());
  const size_t header = 10 + static_cast<uint8_t>(file[8]) + 256u * static_cast<uint8_t>(file[9]);
  std::vector<float> values((file.size() - header) / sizeof(float));
  std::memcpy(values.data(), file.data() + header, values.size() * sizeof(float));
  return values;
}

template <typename T>
T OrThrow(Result<T> result, const std::string& what) {
  if (!result.ok()) throw std::runtime_error(what + ": " + result.status().message());
  return result.Take();
}

Golden Load(const std::string& name, const std::string& weights) {
  const fs::path folder = GoldenFolder() / name;
  Golden golden;
  golden.name = name;
  golden.tokens =
      nlohmann::json::parse(ReadFile(folder / "tokens.json")).get<std::vector<int32_t>>();
  golden.logits = ReadNpy(folder / "logits.npy");
  golden.vocabulary = static_cast<uint32_t>(golden.logits.size() / golden.tokens.size());

  convert::Options options;
  const fs::path gguf = folder / "model.gguf";
  options.source = (fs::exists(gguf) ? gguf : folder).string();
  const size_t slash = weights.find('/');
  const std::string type = weights.substr(0, slash);
  if (slash != std::string::npos) {
    options.block = static_cast<uint32_t>(std::stoul(weights.substr(slash + 1)));
  }
  std::string leaf = name + "-" + weights + ".hrm";
  std::replace(leaf.begin(), leaf.end(), '/', '-');
  options.out = ScratchPath(leaf);
  options.weights = OrThrow(convert::ParseWeightFormat(type), type);
  const convert::Summary summary = OrThrow(convert::Convert(options), "convert " + name);
  golden.layers = summary.layers;
  golden.hidden = summary.channels;
  auto model = OrThrow(model::Model::OpenPath(options.out.c_str(), {}), "open " + name);
  session::EngineOptions engine;
  engine.weights_are_mapped = true;
  golden.engine = OrThrow(session::Engine::Create(std::move(model), engine), "lower " + name);
  return golden;
}

}  // namespace

float Golden::LargestLogit() const {
  float largest = 0.0f;
  for (float logit : logits) largest = std::max(largest, std::abs(logit));
  return largest;
}

float Golden::Allowance() const {
  const float roundings =
      10.0f * static_cast<float>(layers) * std::sqrt(static_cast<float>(hidden));
  return roundings * std::numeric_limits<float>::epsilon() * LargestLogit();
}

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(GoldenFolder())) {
    if (fs::exists(entry.path() / "logits.npy")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

const Golden& LoadGolden(const std::string& name, const std::string& weights) {
  static std::map<std::string, Golden> cache;
  const std::string key = name + "/" + weights;
  if (auto found = cache.find(key); found != cache.end()) return found->second;
  return cache.emplace(key, Load(name, weights)).first->second;
}

std::string ScratchPath(const std::string& leaf) {
  static ScratchFolder folder;
  return (folder.path / leaf).string();
}

plan::Limits TestLimits(uint32_t context, uint32_t chunk, plan::CodecChoice codec,
                        uint32_t threads) {
  plan::Limits limits;
  limits.context = context;
  limits.chunk = chunk;
  limits.codec = codec;
  limits.threads = threads;
  return limits;
}

std::unique_ptr<session::Session> MakeSession(const Golden& golden, const plan::Limits& limits) {
  return OrThrow(session::Session::Create(golden.engine, limits), "session on " + golden.name);
}

float LargestDifference(const float* a, const float* b, size_t count) {
  float largest = 0.0f;
  for (size_t i = 0; i < count; ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!std::isfinite(difference)) return std::numeric_limits<float>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

}  // namespace headroom::test
