// What the converter says of a golden case that was changed.
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <string>

#include "convert/convert.h"
#include "tests/convert/fixture.h"

namespace headroom::test {

// The refusal of a golden case whose config.json was changed.
inline Status Refusal(const std::string& name, const std::string& from, const std::string& to) {
  TempFolder folder;
  std::filesystem::copy(GoldenFolder(name), folder.path());
  const std::string config = folder / "config.json";
  std::filesystem::permissions(config, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  WriteText(config, Replaced(ReadText(config), from, to));
  convert::Options options;
  options.source = folder.path();
  options.out = folder / "model.hrm";
  options.weights = convert::WeightFormat::kF32;
  const auto summary = convert::Convert(options);
  REQUIRE_FALSE(summary.ok());
  CHECK_FALSE(std::filesystem::exists(options.out));
  return summary.status();
}

inline bool Says(const Status& status, const std::string& part) {
  UNSCOPED_INFO(status.message());
  return std::string(status.message()).find(part) != std::string::npos;
}

}  // namespace headroom::test
