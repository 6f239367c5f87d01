// A folder for cache files that goes away with the object, and what tests do to the files in it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/log.h"

namespace headroom::test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/headroom-dense-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TemporaryFolder() {
    std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
    std::filesystem::remove_all(path_);
  }
  const std::filesystem::path& path() const { return path_; }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      found.push_back(entry.path());
    }
    return found;
  }

 private:
  std::filesystem::path path_;
};

struct LogLines {
  std::vector<std::string> lines;
  Log log() {
    return {[](void* user_data, int32_t, const char* message) {
              static_cast<LogLines*>(user_data)->lines.push_back(message);
            },
            this};
  }
};

inline std::vector<char> ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A new file under the same name, as any honest writer would make; the old one may be mapped.
inline void WriteAll(const std::filesystem::path& path, const std::vector<char>& bytes) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace headroom::test
