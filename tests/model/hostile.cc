#include "model/hostile.h"

#include <catch2/catch_test_macros.hpp>
#include <string>

namespace headroom::test {

Status OpenStatus(std::span<const std::byte> file) {
  // A copy of exactly this size: a read behind the end is then visible to the address sanitizer.
  const AlignedBytes bytes(file);
  model::OpenOptions options;
  options.verify_checksums = true;
  return model::Model::OpenMemory(bytes.data(), bytes.size(), options).status();
}

void ExpectStatus(const char* what, const Status& status, StatusCode code, const char* fact) {
  INFO(what << ": " << StatusCodeName(status.code()) << ", " << status.message());
  CHECK(status.code() == code);
  CHECK(std::string(status.message()).find(fact) != std::string::npos);
}

void ExpectRefused(std::span<const Bend> bends, const AlignedBytes& made) {
  for (const Bend& bend : bends) {
    OpenedFile file(made);
    bend.change(file.graph);
    ExpectStatus(bend.what, OpenStatus(file.Assemble().span()), bend.code, bend.fact);
  }
}

}  // namespace headroom::test
