#include "headroom/bytes.h"

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace headroom::cli {
namespace {

[[noreturn]] void Reject(const std::string& text, const char* why) {
  throw std::invalid_argument("'" + text + "' is not a byte count: " + why +
                              " (write 64M, 1.5G, 300MiB or plain bytes)");
}

// Multiplier of a unit, 0 if there is no such unit.
double UnitBytes(const std::string& unit) {
  if (unit.empty() || unit == "b") return 1;
  const std::string letters = "kmgt";
  const size_t power = letters.find(unit[0]);
  if (power == std::string::npos) return 0;
  const std::string rest = unit.substr(1);
  if (rest.empty() || rest == "ib" || rest == "i") return std::pow(1024.0, power + 1.0);
  if (rest == "b") return std::pow(1000.0, power + 1.0);
  return 0;
}

}  // namespace

uint64_t ParseBytes(const std::string& text) {
  size_t digits = 0;
  while (digits < text.size() &&
         (std::isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '.')) {
    ++digits;
  }
  if (digits == 0) Reject(text, "it must begin with a digit");
  const std::string number = text.substr(0, digits);
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end);
  if (end != number.c_str() + number.size()) Reject(text, "the number has two points");
  std::string unit;
  for (size_t i = digits; i < text.size(); ++i) {
    if (text[i] != ' ')
      unit += static_cast<char>(std::tolower(static_cast<unsigned char>(text[i])));
  }
  const double multiplier = UnitBytes(unit);
  if (multiplier == 0) Reject(text, "unknown unit");
  const double bytes = value * multiplier;
  if (!(bytes < 9.0e18)) Reject(text, "too large");
  return static_cast<uint64_t>(bytes);
}

std::string FormatBytes(uint64_t bytes) {
  char text[32];
  if (bytes < 1024) {
    std::snprintf(text, sizeof(text), "%u B", static_cast<unsigned>(bytes));
    return text;
  }
  const char* units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  std::snprintf(text, sizeof(text), value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
  return text;
}

}  // namespace headroom::cli
