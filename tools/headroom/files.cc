#include "headroom/files.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "headroom/api.h"

namespace headroom::cli {
namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Failure ErrnoFailure(const std::string& doing, int error) {
  return Failure(error == ENOENT ? HR_NOT_FOUND : HR_IO, doing + ": " + std::strerror(error));
}

// Like stat; false when nothing is there.
bool StatOf(const std::string& path, struct stat* facts) {
  if (stat(path.c_str(), facts) == 0) return true;
  if (errno == ENOENT) return false;
  throw ErrnoFailure("cannot write " + path, errno);
}

}  // namespace

std::string ReadWholeFile(const std::string& path, const std::string& what) {
  const bool from_stdin = path == "-";
  const std::string doing = "cannot read " + what + (from_stdin ? " from stdin" : " " + path);
  const std::unique_ptr<std::FILE, CloseFile> opened(from_stdin ? nullptr
                                                                : std::fopen(path.c_str(), "rb"));
  std::FILE* file = from_stdin ? stdin : opened.get();
  if (file == nullptr) throw ErrnoFailure(doing, errno);
  std::string text;
  char buffer[16384];
  while (const size_t bytes = std::fread(buffer, 1, sizeof(buffer), file)) {
    text.append(buffer, bytes);
  }
  if (std::ferror(file) != 0) throw ErrnoFailure(doing, errno);
  return text;
}

std::string RegularFilePlace(const std::string& path) {
  struct stat facts;
  if (!StatOf(path, &facts)) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    if (access(folder.c_str(), W_OK | X_OK) != 0) throw ErrnoFailure("cannot write " + path, errno);
    return path;
  }
  if (!S_ISREG(facts.st_mode)) {
    throw Failure(HR_IO, "cannot write " + path + ": it is not a regular file");
  }
  if (access(path.c_str(), W_OK) != 0) throw ErrnoFailure("cannot write " + path, errno);
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  return real ? real.get() : path;
}

OutFile::OutFile(const std::string& path) : path_(path) {
  struct stat facts;
  const bool exists = StatOf(path, &facts);
  if (exists && !S_ISREG(facts.st_mode)) {
    file_ = std::fopen(path.c_str(), "wb");
    if (file_ == nullptr) Fail("cannot open");
    return;
  }
  place_ = RegularFilePlace(path);
  std::string temporary = place_ + ".XXXXXX";
  const int fd = mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) Fail("cannot create");
  temporary_ = temporary;
  fchmod(fd, exists ? facts.st_mode & 07777 : 0644);
  file_ = fdopen(fd, "wb");
}

OutFile::~OutFile() {
  if (file_ != nullptr) std::fclose(file_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void OutFile::Write(const void* data, size_t bytes) {
  if (std::fwrite(data, 1, bytes, file_) != bytes) Fail("cannot write");
}

void OutFile::Commit() {
  std::FILE* file = file_;
  file_ = nullptr;
  if (std::fclose(file) != 0) Fail("cannot write");
  if (temporary_.empty()) return;
  if (std::rename(temporary_.c_str(), place_.c_str()) != 0) Fail("cannot write");
  temporary_.clear();
}

void OutFile::Fail(const std::string& doing) const {
  throw ErrnoFailure(doing + " " + path_, errno);
}

void WriteText(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  OutFile file(path);
  file.Write(text.data(), text.size());
  file.Commit();
}

TemporaryFile::~TemporaryFile() { unlink(path_.c_str()); }

std::string TemporaryFile::InTemporaryFolder() {
  const char* folder = std::getenv("TMPDIR");
  return Beside(std::string(folder == nullptr || *folder == 0 ? "/tmp" : folder) + "/headroom");
}

std::string TemporaryFile::Beside(const std::string& path) {
  std::string name = path + ".XXXXXX";
  const int fd = mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) throw ErrnoFailure("cannot create a file beside " + path, errno);
  close(fd);
  return name;
}

void HoldStandardStreams() {
  // Read-only: what is printed to a closed stdout is a failed write, as it should be.
  for (;;) {
    const int fd = open("/dev/null", O_RDONLY);
    if (fd > 2 || fd < 0) {
      if (fd > 2) close(fd);
      return;
    }
  }
}

}  // namespace headroom::cli
