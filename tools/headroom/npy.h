// Writes float32 matrices as NumPy .npy files (format 1.0), row by row.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace headroom::cli {

class NpyWriter {
 public:
  // Creates `path` and writes the header of a [rows, columns] matrix. Throws Failure.
  NpyWriter(const std::string& path, uint64_t rows, uint64_t columns);
  ~NpyWriter();
  NpyWriter(const NpyWriter&) = delete;
  NpyWriter& operator=(const NpyWriter&) = delete;

  void WriteRows(const float* values, uint64_t rows);
  // Must be called at the end: reports what buffering hid. Without it the file is removed.
  void Close();

 private:
  void Write(const void* data, size_t bytes);

  std::string path_;
  uint64_t columns_;
  std::FILE* file_ = nullptr;
};

}  // namespace headroom::cli
