#include "base/platform.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <unistd.h>

#include <sys/stat.h>

#include <catch2/catch_test_macros.hpp>

namespace headroom::platform {
namespace {

namespace fs = std::filesystem;

struct ScratchFolder {
  fs::path path;
  ScratchFolder() {
    std::string name = (fs::temp_directory_path() / "headroom-platform-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~ScratchFolder() { fs::remove_all(path); }
  std::string File(const char* name) const { return (path / name).string(); }
};

void Write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST_CASE("a mapping shows a file, and a window of it at any offset", "[base][platform]") {
  ScratchFolder folder;
  const std::string path = folder.File("data");
  std::string text(10000, 'a');
  text[5000] = 'z';
  Write(path, text);
  const auto whole = FileMapping::OpenPath(path.c_str());
  REQUIRE(whole.ok());
  CHECK(whole.value().bytes() == text.size());
  const int fd = open(path.c_str(), O_RDONLY);
  const auto window = FileMapping::OpenFd(fd, 5000, 10);
  REQUIRE(window.ok());
  CHECK(static_cast<char>(window.value().data()[0]) == 'z');
  CHECK(FileMapping::OpenFd(fd, 5000, 0).value().bytes() == 5000);
  CHECK(FileMapping::OpenFd(fd, 9999, 2).status().code() == StatusCode::kInvalidArgument);
  CHECK(FileMapping::OpenFd(fd, 10000, 0).status().code() == StatusCode::kInvalidArgument);
  CHECK(FileMapping::OpenFd(fd, ~0ull, 2).status().code() == StatusCode::kInvalidArgument);
  close(fd);
}

TEST_CASE("what cannot be mapped is refused by name", "[base][platform]") {
  ScratchFolder folder;
  CHECK(FileMapping::OpenPath(folder.File("none").c_str()).status().code() ==
        StatusCode::kNotFound);
  CHECK(FileMapping::OpenPath(folder.path.c_str()).status().code() == StatusCode::kIo);
  Write(folder.File("empty"), "");
  CHECK(FileMapping::OpenPath(folder.File("empty").c_str()).status().code() ==
        StatusCode::kCorrupt);
  CHECK(FileMapping::OpenPath("/dev/null").status().code() == StatusCode::kIo);
  CHECK_FALSE(FileMapping::OpenFd(-1, 0, 0).ok());
}

TEST_CASE("a built file appears whole or not at all", "[base][platform]") {
  ScratchFolder folder;
  const std::string path = folder.File("built");
  {
    auto builder = FileBuilder::Create(path.c_str(), 8192).Take();
    std::memset(builder.data(), 1, 8192);
    CHECK_FALSE(fs::exists(path));
  }
  CHECK(fs::is_empty(folder.path));  // dropped: not even the temporary name is left
  auto builder = FileBuilder::Create(path.c_str(), 8192).Take();
  std::memset(builder.data(), 2, 8192);
  CHECK(builder.Flush(0, 4096).ok());
  CHECK(builder.data()[0] == std::byte{2});  // released pages come back from the file
  CHECK(builder.Commit().ok());
  const auto mapping = FileMapping::OpenPath(path.c_str());
  CHECK(mapping.value().data()[8191] == std::byte{2});
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 1);
  const std::string pipe = folder.File("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(FileBuilder::Create(pipe.c_str(), 1).status().code() == StatusCode::kIo);
  CHECK(FileMapping::OpenPath(pipe.c_str()).status().code() == StatusCode::kIo);  // no waiting
  CHECK(FileBuilder::Create(folder.File("no/such/folder").c_str(), 1).status().code() ==
        StatusCode::kIo);
}

TEST_CASE("a built file has the rights that the process gives to new files", "[base][platform]") {
  ScratchFolder folder;
  for (const auto& [mask, mode] : {std::pair(077, 0600), std::pair(027, 0640)}) {
    const std::string path = folder.File(mask == 077 ? "own" : "group");
    const mode_t before = umask(static_cast<mode_t>(mask));
    CHECK(FileBuilder::Create(path.c_str(), 8).value().Commit().ok());
    umask(before);
    CHECK(static_cast<int>(fs::status(path).permissions()) == mode);
  }
}

TEST_CASE("a file that cannot be built is named as it was asked for", "[base][platform]") {
  ScratchFolder folder;
  const std::string path = folder.File("no/such/file");
  const auto builder = FileBuilder::Create(path.c_str(), 8);
  CHECK(std::string(builder.status().message()).find(path + ": ") != std::string::npos);
}

TEST_CASE("directories are made with their parents", "[base][platform]") {
  ScratchFolder folder;
  const std::string deep = folder.File("a/b/c");
  CHECK(MakeDirectories(deep.c_str()).ok());
  CHECK(fs::is_directory(deep));
  CHECK(MakeDirectories(deep.c_str()).ok());
  Write(folder.File("file"), "x");
  CHECK_FALSE(MakeDirectories(folder.File("file/d").c_str()).ok());
}

TEST_CASE("the clock goes forward, cores and memory are known", "[base][platform]") {
  const uint64_t before = NowNs();
  CHECK(NowNs() >= before);
  CHECK(FastCoreCount() >= 1);
  CHECK(FastCoreCount() <= static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_ONLN)));
  CHECK(ReadProcessMemory().resident_bytes > 0);
  CHECK_FALSE(DeviceDescription().empty());
}

}  // namespace
}  // namespace headroom::platform
