// Writes the files that are committed: schema/golden/v1_tiny.hrm and the seeds of the model fuzzer.
//   make_model_files <golden-folder> <corpus-folder>
// Run by hand when a new format version is released or a seed is added; never overwrite an older
// golden file.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "fuzz/model_mutator.h"
#include "model/container.h"
#include "model/image_model.h"
#include "model/tiny_model.h"

namespace {

using namespace headroom;

void Write(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

std::span<const std::byte> GraphOf(const test::AlignedBytes& file) {
  const model::Header header = model::ReadHeader(file.span()).value();
  return file.span().subspan(header.graph_offset, header.graph_bytes);
}

// Structured mutants, so that replays without a fuzzer reach the refusals too.
void WriteMutants(const std::filesystem::path& corpus, const char* name,
                  std::span<const std::byte> from, uint32_t count) {
  for (uint32_t seed = 0; seed < count; ++seed) {
    std::vector<uint8_t> graph(from.size() + 4096);
    std::memcpy(graph.data(), from.data(), from.size());
    const size_t bytes =
        fuzz::MutateGraph(std::span(graph).first(from.size()), graph.size(), 2 * seed);
    if (bytes != 0)
      Write(corpus / (name + std::to_string(seed)), std::as_bytes(std::span(graph)).first(bytes));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: make_model_files GOLDEN CORPUS\n"), 2;
  const std::filesystem::path golden = argv[1], corpus = argv[2];
  std::filesystem::create_directories(golden);
  std::filesystem::create_directories(corpus);
  if (const auto path = golden / "v1_tiny.hrm"; !std::filesystem::exists(path))
    Write(path, test::TinyFile().span());
  Write(corpus / "graph_tiny", GraphOf(test::TinyFile()));
  convert::ModelDescription plain = test::TinyDescription();
  plain.tokenizer = {};
  Write(corpus / "graph_no_tokenizer", GraphOf(test::WriteToMemory(plain)));
  Write(corpus / "file_header_only", test::TinyFile().span().first(64));
  Write(corpus / "file_graph_only",
        test::TinyFile().span().first(64 + GraphOf(test::TinyFile()).size()));
  Write(corpus / "eight_bytes", test::TinyFile().span().subspan(8, 8));
  const test::AlignedBytes images = test::WriteToMemory(test::ImageModel());
  Write(corpus / "graph_images", GraphOf(images));
  WriteMutants(corpus, "mutant_", GraphOf(test::TinyFile()), 24);
  WriteMutants(corpus, "image_mutant_", GraphOf(images), 12);
  return 0;
}
