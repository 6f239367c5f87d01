#include "session/image_golden.h"

#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "convert/convert.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

constexpr uint32_t kColours = 3;

// The list of a checkpoint's tensors in the order they are made in, and their extents.
class ShvitTensors {
 public:
  struct Tensor {
    std::string name;
    std::vector<uint32_t> shape;
  };
  std::vector<Tensor> tensors;

  void Batch(const std::string& name, uint32_t width) {
    for (const char* part : {"weight", "bias", "running_mean", "running_var"}) {
      tensors.push_back({name + "." + part, {width}});
    }
  }
  void Conv(const std::string& name, uint32_t in, uint32_t out, uint32_t kernel) {
    tensors.push_back({name + ".c.weight", {out, in, kernel, kernel}});
    Batch(name + ".bn", out);
  }
  void Feed(const std::string& name, uint32_t width) {
    Conv(name + ".m.pw1", width, 2 * width, 1);
    Conv(name + ".m.pw2", 2 * width, width, 1);
  }
  void Biased(const std::string& name, std::vector<uint32_t> shape) {
    tensors.push_back({name + ".bias", {shape[0]}});
    tensors.push_back({name + ".weight", std::move(shape)});
  }
  void Join(const std::string& name, uint32_t from, uint32_t to) {
    const uint32_t wide = 4 * from, inner = std::max(8u, (from + 4) / 8 * 8);
    Conv(name + ".0.m", 1, from, 3);
    Feed(name + ".1", from);
    Conv(name + ".2.conv1", from, wide, 1);
    Conv(name + ".2.conv2", 1, wide, 3);
    Biased(name + ".2.se.fc1", {inner, wide, 1, 1});
    Biased(name + ".2.se.fc2", {wide, inner, 1, 1});
    Conv(name + ".2.conv3", wide, to, 1);
    Conv(name + ".3.m", 1, to, 3);
    Feed(name + ".4", to);
  }
  void Block(const std::string& name, uint32_t width, uint32_t partial) {
    Conv(name + ".conv.m", 1, width, 3);
    if (partial != 0) {
      Biased(name + ".mixer.m.pre_norm", {partial});
      Conv(name + ".mixer.m.qkv", partial, 32 + partial, 1);
      Conv(name + ".mixer.m.proj.1", width, width, 1);
    }
    Feed(name + ".ffn", width);
  }
};

// Widths, depths and widths that attend of the paper's table 1.
struct Published {
  const char* name;
  uint32_t widths[3], depths[3], partial[3];
};
constexpr Published kPublished[] = {
    {"shvit_s1", {128, 224, 320}, {2, 4, 5}, {0, 48, 68}},
    {"shvit_s2", {128, 308, 448}, {2, 4, 5}, {0, 66, 96}},
    {"shvit_s3", {192, 352, 448}, {3, 5, 5}, {0, 75, 96}},
    {"shvit_s4", {224, 336, 448}, {4, 7, 6}, {0, 72, 96}},
};

ShvitTensors TensorsOf(const Published& model) {
  ShvitTensors out;
  uint32_t before = 3;
  for (int i = 0; i < 4; ++i) {
    const uint32_t width = model.widths[0] >> (3 - i);
    out.Conv("patch_embed." + std::to_string(2 * i), before, width, 3);
    before = width;
  }
  for (int stage = 0; stage < 3; ++stage) {
    const std::string name = "stages." + std::to_string(stage);
    const uint32_t width = model.widths[stage];
    if (before != width) out.Join(name + ".downsample", before, width);
    for (uint32_t block = 0; block < model.depths[stage]; ++block) {
      out.Block(name + ".blocks." + std::to_string(block), width, model.partial[stage]);
    }
    before = width;
  }
  out.Batch("head.bn", before);
  out.Biased("head.l", {1000, before});
  return out;
}

// make_vision_goldens.py, `spread`.
void Spread(const std::string& name, const std::vector<uint32_t>& shape, double* factor,
            double* addend) {
  const auto ends = [&](const char* end) { return name.ends_with(end); };
  *addend = 0.0;
  *factor = 0.5;
  if (ends("running_mean") || ends(".bias")) return;
  *factor = *addend = 1.0;
  if (ends("running_var")) return;
  if (shape.size() == 1) {
    const bool small = ends("pw2.bn.weight") || ends("proj.1.bn.weight") || ends("m.bn.weight");
    *factor = small ? 0.2 : 0.6;
    *addend = small ? 0.3 : 1.0;
    return;
  }
  const bool stem = name.find("patch_embed") != std::string::npos;
  const double gain = name.find(".se.") != std::string::npos ? 0.5 : stem ? 1.4 : 1.0;
  double columns = 1.0;
  for (size_t i = 1; i < shape.size(); ++i) columns *= shape[i];
  *factor = gain * std::sqrt(12.0 / columns);
  *addend = 0.0;
}

std::vector<float> NumbersOf(const ShvitTensors::Tensor& tensor) {
  uint64_t count = 1;
  for (const uint32_t extent : tensor.shape) count *= extent;
  double factor = 0.0, addend = 0.0;
  Spread(tensor.name, tensor.shape, &factor, &addend);
  const uint32_t seed = NumberSeed(tensor.name);
  std::vector<float> out(count);
  for (uint64_t i = 0; i < count; ++i) {
    const double product = NumberAt(seed, i) * factor;  // rounded by itself, as there
    out[i] = static_cast<float>(product + addend);
  }
  return out;
}

}  // namespace

uint32_t NumberSeed(std::string_view name) {
  uint32_t seed = 0x811c9dc5u;
  for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 0x01000193u;
  return seed;
}

double NumberAt(uint32_t seed, uint64_t i) {
  auto z = static_cast<uint32_t>(i + seed);
  z = (z ^ z >> 16) * 0x85ebca6bu;
  z = (z ^ z >> 13) * 0xc2b2ae35u;
  z ^= z >> 16;
  return static_cast<double>(z >> 8) * 0x1p-24 - 0.5;
}

std::string VisionFolder(const std::string& leaf) {
  const char* root = std::getenv("HEADROOM_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/vision/" + leaf;
}

convert::Json ReadExpected(const std::string& path) {
  auto json = convert::ReadJsonFile(path, 1u << 20);
  INFO(json.status().message());
  REQUIRE(json.ok());
  return json.Take();
}

std::shared_ptr<session::Engine> OpenVision(const std::string& source, const std::string& weights) {
  static int number = 0;
  convert::Options options;
  const bool random = source.starts_with("random ");
  (random ? options.preset : options.source) = random ? source.substr(7) : source;
  options.out = ScratchPath("vision-" + std::to_string(number++) + ".hrm");
  options.weights = convert::ParseWeightFormat(weights).value();
  const auto summary = convert::Convert(options);
  INFO(source << ": " << summary.status().message());
  REQUIRE(summary.ok());
  auto model = model::Model::OpenPath(options.out.c_str(), {});
  INFO(model.status().message());
  REQUIRE(model.ok());
  std::filesystem::remove(options.out);  // stays mapped
  auto engine = session::Engine::Create(model.Take(), {});
  INFO(engine.status().message());
  REQUIRE(engine.ok());
  return engine.Take();
}

std::unique_ptr<session::ImageSession> StartImages(std::shared_ptr<session::Engine> engine,
                                                   plan::ImageSize size) {
  plan::ImageLimits limits;
  limits.size = size;
  auto session = session::ImageSession::Create(std::move(engine), limits);
  INFO(session.status().message());
  REQUIRE(session.ok());
  return session.Take();
}

void RunPicture(session::ImageSession& session, uint32_t index) {
  const plan::ImageSize size = session.plan().size;
  const uint32_t seed = NumberSeed("picture");
  float* input = session.input(index);
  for (uint64_t i = 0; i < uint64_t{size.height} * size.width * kColours; ++i) {
    input[i] = static_cast<float>(4.0 * NumberAt(seed, i));
  }
  const Status status = session.Run(index + 1);
  INFO(status.message());
  REQUIRE(status.ok());
}

void WritePublishedShvit(const std::string& folder, const std::string& architecture) {
  const Published* model = nullptr;
  for (const Published& known : kPublished) {
    if (known.name == architecture) model = &known;
  }
  REQUIRE(model);
  const ShvitTensors list = TensorsOf(*model);
  convert::Json header = convert::Json::object();
  uint64_t at = 0;
  for (const ShvitTensors::Tensor& tensor : list.tensors) {
    uint64_t bytes = 4;
    for (const uint32_t extent : tensor.shape) bytes *= extent;
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << convert::Json{{"architecture", architecture}}.dump();
  std::ofstream file(folder + "/model.safetensors", std::ios::binary);
  const std::string text = header.dump();
  const uint64_t length = text.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << text;
  for (const ShvitTensors::Tensor& tensor : list.tensors) {
    const std::vector<float> numbers = NumbersOf(tensor);
    file.write(reinterpret_cast<const char*>(numbers.data()),
               static_cast<std::streamsize>(4 * numbers.size()));
  }
  REQUIRE(file.good());
}

}  // namespace headroom::test
