#include "headroom/npy.h"

#include <bit>
#include <cerrno>
#include <cstring>

#include "headroom/api.h"

namespace headroom::cli {

NpyWriter::NpyWriter(const std::string& path, uint64_t rows, uint64_t columns)
    : path_(path), columns_(columns), file_(std::fopen(path.c_str(), "wb")) {
  static_assert(std::endian::native == std::endian::little, "the header below says '<f4'");
  if (file_ == nullptr) {
    throw Failure(HR_IO, "cannot create " + path + ": " + std::strerror(errno));
  }
  // Magic, version 1.0, length of the text, the text; padded so that the data begins at a multiple
  // of 64.
  std::string text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) +
                     ", " + std::to_string(columns) + "), }";
  constexpr size_t kPrefixBytes = 10;
  text.append((64 - (kPrefixBytes + text.size() + 1) % 64) % 64, ' ');
  text += '\n';
  const char prefix[kPrefixBytes] = {'\x93',
                                     'N',
                                     'U',
                                     'M',
                                     'P',
                                     'Y',
                                     1,
                                     0,
                                     static_cast<char>(text.size() & 255),
                                     static_cast<char>(text.size() >> 8)};
  Write(prefix, sizeof(prefix));
  Write(text.data(), text.size());
}

NpyWriter::~NpyWriter() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  std::remove(path_.c_str());
}

void NpyWriter::WriteRows(const float* values, uint64_t rows) {
  Write(values, rows * columns_ * sizeof(float));
}

void NpyWriter::Close() {
  std::FILE* file = file_;
  file_ = nullptr;
  if (std::fclose(file) != 0) {
    std::remove(path_.c_str());
    throw Failure(HR_IO, "cannot write " + path_ + ": " + std::strerror(errno));
  }
}

void NpyWriter::Write(const void* data, size_t bytes) {
  if (std::fwrite(data, 1, bytes, file_) != bytes) {
    throw Failure(HR_IO, "cannot write " + path_ + ": " + std::strerror(errno));
  }
}

}  // namespace headroom::cli
