// Reading and writing whole files so that a failure is said and destroys nothing.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>

namespace headroom::cli {

// All bytes of the file `path`; "-" is stdin. Throws Failure; `what` names the file's job in its
// text ("the prompt file").
std::string ReadWholeFile(const std::string& path, const std::string& what);

// Where a result named `path` goes: the file behind symbolic links. Throws Failure when a file is
// there that is no regular one, or may not be written.
std::string RegularFilePlace(const std::string& path);

// A result file. A regular one appears, or replaces what was there, only in Commit: until then the
// bytes lie in a temporary file beside it, which goes when the work fails. Pipes and devices are
// written directly and never removed. All throw Failure.
class OutFile {
 public:
  explicit OutFile(const std::string& path);
  ~OutFile();
  OutFile(const OutFile&) = delete;
  OutFile& operator=(const OutFile&) = delete;

  void Write(const void* data, size_t bytes);
  void Commit();

 private:
  [[noreturn]] void Fail(const std::string& doing) const;

  std::string path_;       // as the user named it
  std::string place_;      // what Commit renames to
  std::string temporary_;  // empty: written directly, or committed
  std::FILE* file_ = nullptr;
};

// The whole of a result file at once; an empty path: nowhere. Throws Failure.
void WriteText(const std::string& path, const std::string& text);

// A file of ours that goes when the work is done, however it ends.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {}
  // An empty one with a name nobody has, in the folder for such or in that of `path`. Both throw
  // Failure.
  static std::string InTemporaryFolder();
  static std::string Beside(const std::string& path);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Opens stdin, stdout and stderr where the caller closed them, so that no file of ours takes their
// numbers and a result is never printed into a model.
void HoldStandardStreams();

}  // namespace headroom::cli
