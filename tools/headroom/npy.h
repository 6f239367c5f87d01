// Writes float32 matrices as NumPy .npy files (format 1.0), row by row.
#pragma once

#include <cstdint>
#include <string>

#include "headroom/files.h"

namespace headroom::cli {

class NpyWriter {
 public:
  // Writes the header of a [rows, columns] matrix. Throws Failure.
  NpyWriter(const std::string& path, uint64_t rows, uint64_t columns);

  void WriteRows(const float* values, uint64_t rows);
  // Must be called at the end: until then nothing is at `path` that was not there before.
  void Close() { file_.Commit(); }

 private:
  OutFile file_;
  uint64_t columns_;
};

}  // namespace headroom::cli
