// Byte counts as people write and read them.
#pragma once

#include <cstdint>
#include <string>

namespace headroom::cli {

// "4096", "64M", "1.5G", "300MiB", "64MB". K, M, G, T and KiB ... are powers of 1024; KB, MB ...
// powers of 1000. Throws std::invalid_argument saying what is wrong with `text`.
uint64_t ParseBytes(const std::string& text);

// "12.3 MiB"; exact for less than a KiB ("512 B").
std::string FormatBytes(uint64_t bytes);

}  // namespace headroom::cli
