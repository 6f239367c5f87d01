// Runs a fuzz target over stored inputs without a fuzzer: in every build, with any compiler.
//   <program> file-or-folder...
// Each input is read into a buffer of exactly its size, so that the address sanitizer sees a read
// beyond its end.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes);

namespace {

int Replay(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    std::fprintf(stderr, "cannot read %s\n", file.c_str());
    return -1;
  }
  std::vector<char> content{std::istreambuf_iterator<char>(stream),
                            std::istreambuf_iterator<char>()};
  content.shrink_to_fit();
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(content.data()), content.size());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  int inputs = 0;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      const int ran = Replay(argv[i]);
      if (ran < 0) return 1;
      inputs += ran;
      continue;
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      const int ran = Replay(entry.path());
      if (ran < 0) return 1;
      inputs += ran;
    }
  }
  std::printf("%d inputs\n", inputs);
  return inputs > 0 ? 0 : 1;  // a replay that ran nothing has shown nothing
}
