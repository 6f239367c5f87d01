// headroom-draw as a user meets it: what it writes, and how it refuses.
#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include <sys/wait.h>

#include "tools/example/pictures/draw.h"

namespace headroom::pictures {
namespace {

namespace fs = std::filesystem;

struct ScratchFolder {
  fs::path path;
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "headroom-draw-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~ScratchFolder() { fs::remove_all(path); }
};

// The exit status; `arguments` are words that a shell leaves alone.
int Draw(const fs::path& folder, const std::string& arguments) {
  const char* build = std::getenv("HEADROOM_BUILD_DIR");
  REQUIRE(build != nullptr);
  const std::string program = std::string(build) + "/bin/headroom-draw";
  const std::string quiet = " >/dev/null 2>" + (folder / "errors").string();
  const int status =
      std::system((program + " " + (folder / "out").string() + " " + arguments + quiet).c_str());
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

std::string Read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string PixelsOf(uint64_t seed, Split split) {
  const auto picture = DrawPicture(seed, split, nullptr);
  return {picture.begin(), picture.end()};
}

TEST_CASE("pictures are written with their labels in the file names", "[example][draw]") {
  const ScratchFolder folder;
  REQUIRE(Draw(folder.path, "--count 3 --seed 30 --split held-out") == 0);
  const fs::path out = folder.path / "out";
  const std::string head = "P6\n128 128\n255\n";
  CHECK(Read(out / "30_0.ppm") == head + PixelsOf(30, Split::kHeldOut));
  CHECK(Read(out / "31_1.ppm") == head + PixelsOf(31, Split::kHeldOut));
  CHECK(Read(out / "0_2.ppm") == head + PixelsOf(32, Split::kHeldOut));
  CHECK(std::distance(fs::directory_iterator(out), fs::directory_iterator()) == 4);
  std::istringstream labels(Read(out / "labels.txt"));
  std::string name;
  for (uint32_t label = 0; label < kLabelCount; ++label) {
    REQUIRE(std::getline(labels, name));
    CHECK(name == LabelName(label));
  }
  CHECK(!std::getline(labels, name));
}

TEST_CASE("a raw file holds all pixels, then a byte for each label", "[example][draw]") {
  const ScratchFolder folder;
  REQUIRE(Draw(folder.path, "--count 2 --seed 31 --raw some.raw") == 0);
  CHECK(Read(folder.path / "out" / "some.raw") ==
        PixelsOf(31, Split::kTrain) + PixelsOf(32, Split::kTrain) + std::string("\x1f\x00", 2));
}

TEST_CASE("what cannot be drawn or written is refused", "[example][draw]") {
  const ScratchFolder folder;
  CHECK(Draw(folder.path, "--split neither") != 0);
  CHECK(Draw(folder.path, "--count many") != 0);
  CHECK(Draw(folder.path, "--count 1 --raw no/such/folder.raw") == 1);
  const std::string said = Read(folder.path / "errors");
  CHECK(said.find("no/such/folder.raw: cannot be written") != std::string::npos);
}

}  // namespace
}  // namespace headroom::pictures
