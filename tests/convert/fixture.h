// Folders and checkpoints for converter tests.
#pragma once

#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace headroom::test {

inline std::string GoldenFolder(const std::string& name) {
  const char* root = std::getenv("HEADROOM_SOURCE_DIR");
  return std::string(root ? root : ".") + "/tests/golden/" + name;
}

// Gone with everything in it when the test ends.
class TempFolder {
 public:
  TempFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "headroom-XXXXXX").string();
    REQUIRE(mkdtemp(path.data()));
    path_ = path;
  }
  TempFolder(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  REQUIRE(file.good());
}

// `text` with the first `from` replaced; the test is void when it is not there.
inline std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// The container around a JSON header and data.
inline std::string Safetensors(const std::string& header, const std::string& data) {
  const uint64_t bytes = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &bytes, 8);
  return file + header + data;
}

}  // namespace headroom::test
