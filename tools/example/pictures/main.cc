// headroom-draw: labelled pictures as files, for trying out and for training a classifier.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "example/pictures/draw.h"

namespace headroom::pictures {
namespace {

struct Options {
  std::filesystem::path folder;
  std::string raw;  // name of one file for all pictures, or empty
  uint32_t count = 32;
  Split split = Split::kTrain;
  uint64_t seed = 0;
};

class File {
 public:
  explicit File(const std::filesystem::path& path) : path_(path), stream_(path, std::ios::binary) {}

  void Write(const void* bytes, size_t count) {
    stream_.write(static_cast<const char*>(bytes), static_cast<std::streamsize>(count));
  }
  void Write(const std::string& text) { Write(text.data(), text.size()); }
  void Close() {
    stream_.close();
    if (!stream_) throw std::runtime_error(path_.string() + ": cannot be written");
  }

 private:
  std::filesystem::path path_;
  std::ofstream stream_;
};

void WriteLabels(const Options& options) {
  File file(options.folder / "labels.txt");
  for (uint32_t label = 0; label < kLabelCount; ++label) {
    file.Write(std::string(LabelName(label)) + "\n");
  }
  file.Close();
}

void WritePictures(const Options& options) {
  for (uint32_t i = 0; i < options.count; ++i) {
    uint32_t label = 0;
    const std::vector<uint8_t> pixels = DrawPicture(options.seed + i, options.split, &label);
    File file(options.folder / (std::to_string(label) + "_" + std::to_string(i) + ".ppm"));
    const std::string side = std::to_string(kSide);
    file.Write("P6\n" + side + " " + side + "\n255\n");
    file.Write(pixels.data(), pixels.size());
    file.Close();
  }
}

// The pictures one after the other, then a byte for the label of each.
void WriteRaw(const Options& options) {
  File file(options.folder / options.raw);
  std::string labels;
  for (uint32_t i = 0; i < options.count; ++i) {
    uint32_t label = 0;
    const std::vector<uint8_t> pixels = DrawPicture(options.seed + i, options.split, &label);
    file.Write(pixels.data(), pixels.size());
    labels += static_cast<char>(label);
  }
  file.Write(labels);
  file.Close();
}

Options* Declare(CLI::App& app) {
  static Options options;
  app.add_option("DIR", options.folder, "folder to write to; made if it is not there")->required();
  app.add_option("--count", options.count, "pictures; labels take turns")->capture_default_str();
  app.add_option("--seed", options.seed, "of the first picture; the others follow")
      ->capture_default_str();
  app.add_option("--split", options.split, "train or held-out")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, Split>{{"train", Split::kTrain}, {"held-out", Split::kHeldOut}}));
  app.add_option("--raw", options.raw, "write DIR/NAME, all pixels then all labels, instead")
      ->option_text("NAME");
  return &options;
}

int Run(int argc, char** argv) {
  CLI::App app(
      "Draws labelled pictures of 128 x 128 pixels: DIR/<label>_<number>.ppm and DIR/labels.txt.\n"
      "The same arguments give the same bytes on every machine.");
  const Options* options = Declare(app);
  CLI11_PARSE(app, argc, argv);
  std::filesystem::create_directories(options->folder);
  WriteLabels(*options);
  options->raw.empty() ? WritePictures(*options) : WriteRaw(*options);
  return 0;
}

}  // namespace
}  // namespace headroom::pictures

int main(int argc, char** argv) {
  try {
    return headroom::pictures::Run(argc, argv);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "headroom-draw: %s\n", failure.what());
    return 1;
  }
}
