#include "headroom/npy.h"

#include <bit>

namespace headroom::cli {

NpyWriter::NpyWriter(const std::string& path, uint64_t rows, uint64_t columns)
    : file_(path), columns_(columns) {
  static_assert(std::endian::native == std::endian::little, "the header below says '<f4'");
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
  file_.Write(prefix, sizeof(prefix));
  file_.Write(text.data(), text.size());
}

void NpyWriter::WriteRows(const float* values, uint64_t rows) {
  file_.Write(values, rows * columns_ * sizeof(float));
}

}  // namespace headroom::cli
