// Packed weights: sizes known beforehand, the cache file found, built, damaged, refused and raced
// for.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "backends/xnnpack/dense_packing.h"
#include "support/cache_folder.h"
#include "support/dense_tester.h"

namespace headroom::test {
namespace {

namespace fs = std::filesystem;
using xnnpack::DenseOptions;
using xnnpack::DenseSet;

// A small model: every weight type, biases, a row range.
class SmallModel {
 public:
  explicit SmallModel(uint32_t seed = 1) {
    const DenseCase cases[] = {
        {DType::kF32, 0, 70, 100, 0, 70, 1, true, seed},
        {DType::kF32, 0, 5, 64, 0, 5, 1, false, seed},
        {DType::kF16, 0, 40, 128, 0, 40, 1, true, seed},
        {DType::kI8, 0, 300, 129, 0, 300, 1, true, seed},
        {DType::kI4, 0, 257, 130, 0, 257, 1, false, seed},
        {DType::kI4, 32, 1100, 256, 7, 900, 1, true, seed},
        {DType::kI4, 64, 33, 256, 0, 33, 1, false, seed},
        {DType::kI4, 128, 64, 256, 0, 64, 1, true, seed},
    };
    for (const DenseCase& c : cases) data.emplace_back(c);
    for (const DenseData& d : data) layers.push_back(d.Layer());
  }
  std::vector<DenseData> data;
  std::vector<DenseWeights> layers;
};

// All outputs of all layers for some fixed inputs.
std::vector<float> Outputs(DenseSet& set, const std::vector<DenseWeights>& layers) {
  constexpr uint32_t kTokens = 3;
  auto pool = xnnpack::ThreadPool::Create(1).Take();
  std::vector<float> all;
  for (size_t i = 0; i < layers.size(); ++i) {
    DenseCase c;
    c.columns = layers[i].weight.columns();
    c.tokens = kTokens;
    GuardedMemory x(DenseSet::InputBytes(xnnpack::InputKind::kF32, kTokens, c.columns), 64);
    FillActivations(c, x.as<float>());
    GuardedMemory input(DenseSet::InputBytes(set.input_kind(i), kTokens, c.columns), 64);
    const bool direct = set.input_kind(i) == xnnpack::InputKind::kF32;
    set.ConvertInput(set.input_kind(i), x.as<float>(), kTokens, c.columns, input.data(), *pool);
    std::vector<float> out(size_t{kTokens} * layers[i].rows);
    REQUIRE(set.Run(i, direct ? x.data() : input.data(), kTokens, out.data(), *pool).ok());
    all.insert(all.end(), out.begin(), out.end());
  }
  return all;
}

std::unique_ptr<DenseSet> Make(const SmallModel& model, const DenseOptions& options) {
  auto set = DenseSet::Create(model.layers, options);
  INFO(set.status().message());
  REQUIRE(set.ok());
  return set.Take();
}

uint64_t Sum(const std::vector<uint64_t>& values) {
  uint64_t sum = 0;
  for (const uint64_t value : values) sum += value;
  return sum;
}

TEST_CASE("packed sizes are told without reading a weight, a scale or a bias", "[dense][cache]") {
  SmallModel model;
  for (DenseData& data : model.data) {
    data.weights().Forbid();
    data.scales().Forbid();
    data.bias().Forbid();
  }
  const auto sizes = DenseSet::PackedBytes(model.layers);
  REQUIRE(sizes.ok());
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const uint64_t bytes = sizes.value()[i];
    const TensorView& tensor = model.layers[i].weight;
    CHECK(bytes % 64 == 0);
    if (tensor.dtype == DType::kF16) {
      CHECK(bytes == 0);
      continue;
    }
    const uint64_t raw =
        uint64_t{model.layers[i].rows} * tensor.columns() * DTypeBits(tensor.dtype) / 8;
    CHECK(bytes >= raw);
    CHECK(bytes <= 2 * raw + 64 * 300);
  }
}

TEST_CASE("private memory takes exactly the bytes that were told", "[dense][cache]") {
  const SmallModel model;
  const auto sizes = DenseSet::PackedBytes(model.layers);
  REQUIRE(sizes.ok());
  struct Lender {
    uint64_t lent = 0, returned = 0;
    int calls = 0;
  } lender;
  DenseOptions options;
  options.hooks.user_data = &lender;
  options.hooks.allocate = [](void* user_data, size_t bytes, size_t alignment) -> void* {
    auto* self = static_cast<Lender*>(user_data);
    self->lent += bytes;
    ++self->calls;
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  };
  options.hooks.release = [](void* user_data, void* memory, size_t bytes) {
    static_cast<Lender*>(user_data)->returned += bytes;
    std::free(memory);
  };
  {
    const auto set = Make(model, options);
    CHECK(lender.calls == 1);
    CHECK(lender.lent == Sum(sizes.value()));
    CHECK(set->packed().bytes == Sum(sizes.value()));
    CHECK(set->packed().private_bytes == Sum(sizes.value()));
    CHECK(set->packed().mapped_bytes == 0);
    CHECK(!set->packed().mapped);
    CHECK(set->packed().built);
  }
  CHECK(lender.returned == lender.lent);

  options.hooks.allocate = [](void*, size_t, size_t) -> void* { return nullptr; };
  CHECK(DenseSet::Create(model.layers, options).status().code() == StatusCode::kOutOfMemory);
}

TEST_CASE("packing in pieces gives the bytes of packing at once", "[dense][cache]") {
  // Rows just around the piece's edges, in a matrix wide enough to need several pieces.
  REQUIRE(xnnpack::InitializeXnnpack().ok());
  for (const DType dtype : {DType::kF32, DType::kI8, DType::kI4}) {
    for (const uint32_t block : {0u, 32u}) {
      if (block != 0 && dtype != DType::kI4) continue;
      for (const uint32_t extra : {0u, 1u, 127u, 128u}) {
        const uint32_t columns = dtype == DType::kF32  ? 8192
                                 : dtype == DType::kI8 ? 8192 * 2 + 4
                                                       : 8192 * 4;
        const DenseData data({dtype, block, 256 + extra, columns, 0, 256 + extra, 1, true, 2});
        const DenseWeights layer = data.Layer();
        const xnnpack::LayerSlice slice = xnnpack::SliceOf(layer).Take();
        const uint64_t bytes = xnnpack::MeasureLayer(slice, "x").Take();
        GuardedMemory whole(bytes, 64), pieces(bytes, 64);
        {
          // The whole layer's weights again, with room behind for XNNPACK's reads past the end.
          std::vector<std::byte> roomy(slice.RowBytes() * slice.rows + 64);
          std::memcpy(roomy.data(), slice.weights, roomy.size() - 64);
          xnnpack::LayerSlice copy = slice;
          copy.weights = roomy.data();
          xnnpack::PackingProvider provider;
          provider.PackInto({whole.data(), bytes});
          xnn_operator_t op = nullptr;
          REQUIRE(xnnpack::CreateOperator(copy, provider.callbacks(), &op) == xnn_status_success);
          xnn_delete_operator(op);
        }
        int count = 0;
        const auto done = [](void* context, const xnnpack::PackedPiece&) {
          ++*static_cast<int*>(context);
          return Status();
        };
        REQUIRE(xnnpack::PackLayer(slice, "x", {pieces.data(), bytes}, done, &count).ok());
        INFO(DTypeName(dtype) << " block " << block << " rows " << slice.rows);
        CHECK(std::memcmp(whole.data(), pieces.data(), bytes) == 0);
        CHECK(count > 1);
      }
    }
  }
}

TEST_CASE("a found cache file gives bit for bit the results of the first start", "[dense][cache]") {
  const SmallModel model;
  const TemporaryFolder folder;
  DenseOptions options;
  const auto in_memory = Outputs(*Make(model, options), model.layers);
  options.cache_directory = folder.path() / "made" / "for us";
  options.model_digest = 0x1234;

  const auto cold = Make(model, options);
  CHECK(cold->packed().mapped);
  CHECK(cold->packed().built);
  CHECK(Outputs(*cold, model.layers) == in_memory);

  const auto warm = Make(model, options);
  CHECK(warm->packed().mapped);
  CHECK(!warm->packed().built);
  CHECK(warm->packed().private_bytes == 0);
  CHECK(Outputs(*warm, model.layers) == in_memory);

  const auto sizes = DenseSet::PackedBytes(model.layers);
  REQUIRE(sizes.ok());
  CHECK(warm->packed().bytes == Sum(sizes.value()));
  CHECK(warm->packed().mapped_bytes == DenseSet::CacheFileBytes(sizes.value()));
  REQUIRE(fs::exists(options.cache_directory));
  int files = 0;
  for (const auto& entry : fs::directory_iterator(options.cache_directory)) {
    CHECK(entry.file_size() == warm->packed().mapped_bytes);
    ++files;
  }
  CHECK(files == 1);
}

TEST_CASE("a warm start reads no weights of the model", "[dense][cache]") {
  SmallModel model;
  const TemporaryFolder folder;
  DenseOptions options;
  options.cache_directory = folder.path();
  const auto cold = Outputs(*Make(model, options), model.layers);
  for (size_t i = 0; i < model.data.size(); ++i) {
    if (model.layers[i].weight.dtype == DType::kF16) continue;  // read in place, by contract
    model.data[i].weights().Forbid();
    model.data[i].bias().Forbid();
  }
  CHECK(Outputs(*Make(model, options), model.layers) == cold);
}

TEST_CASE("damage anywhere in a cache file is noticed and the file rebuilt", "[dense][cache]") {
  const SmallModel model;
  const TemporaryFolder folder;
  LogLines log;
  DenseOptions options;
  options.cache_directory = folder.path();
  options.log = log.log();
  const auto right = Outputs(*Make(model, options), model.layers);
  REQUIRE(folder.files().size() == 1);
  const fs::path path = folder.files()[0];
  const std::vector<char> intact = ReadAll(path);
  CHECK(log.lines.empty());

  const auto rebuilt_after = [&](const std::vector<char>& damaged) {
    WriteAll(path, damaged);
    log.lines.clear();
    const auto set = Make(model, options);
    const bool rebuilt = set->packed().built && set->packed().mapped && log.lines.size() == 1;
    return rebuilt && Outputs(*set, model.layers) == right && ReadAll(path) == intact;
  };

  // A flipped bit in the header, the index, the first and the last layer, and some between.
  const size_t payload = xnnpack::DenseSet::CacheFileBytes(std::vector<uint64_t>(8, 64)) - 8 * 64;
  for (const size_t place :
       {size_t{0}, size_t{8}, size_t{17}, size_t{100}, size_t{130}, size_t{140}, payload,
        payload + 12345, intact.size() / 2, intact.size() - 1}) {
    std::vector<char> damaged = intact;
    damaged[place] ^= 0x10;
    INFO("byte " << place << " of " << intact.size());
    CHECK(rebuilt_after(damaged));
  }
  for (const size_t length : {size_t{0}, size_t{1}, size_t{64}, size_t{4096}, intact.size() - 1}) {
    INFO("truncated to " << length);
    CHECK(rebuilt_after({intact.begin(), intact.begin() + static_cast<std::ptrdiff_t>(length)}));
  }
  std::vector<char> longer = intact;
  longer.push_back(0);
  CHECK(rebuilt_after(longer));
  CHECK(rebuilt_after(std::vector<char>(intact.size(), 0)));

  // Without the content check the index is still checked.
  options.verify_content = false;
  std::vector<char> damaged = intact;
  damaged[140] ^= 1;
  CHECK(rebuilt_after(damaged));
}

TEST_CASE("another model's cache file is not taken for ours", "[dense][cache]") {
  const SmallModel ours(1), theirs(2);
  const TemporaryFolder folder;
  DenseOptions options;
  options.cache_directory = folder.path();
  options.model_digest = 2;
  Make(theirs, options);
  const std::vector<char> foreign = ReadAll(folder.files()[0]);
  fs::remove(folder.files()[0]);
  options.model_digest = 1;
  const auto right = Outputs(*Make(ours, options), ours.layers);
  // Even under our file's very name.
  WriteAll(folder.files()[0], foreign);
  const auto set = Make(ours, options);
  CHECK(set->packed().built);
  CHECK(Outputs(*set, ours.layers) == right);
}

TEST_CASE("the same model with other layers has another cache file", "[dense][cache]") {
  SmallModel model;
  const TemporaryFolder folder;
  DenseOptions options;
  options.cache_directory = folder.path();
  Make(model, options);
  model.layers[5].row_begin = 8;
  const auto set = Make(model, options);
  CHECK(set->packed().built);
  CHECK(folder.files().size() == 2);
}

TEST_CASE("without a writable folder the weights go to private memory, with a word about it",
          "[dense][cache]") {
  const SmallModel model;
  const TemporaryFolder folder;
  LogLines log;
  DenseOptions options;
  options.log = log.log();
  const auto right = Outputs(*Make(model, options), model.layers);
  // A file where a folder should be: no user, not even root, can make a folder there.
  std::ofstream(folder.path() / "file") << "x";
  for (const fs::path& bad : {folder.path() / "file", folder.path() / "file" / "below"}) {
    log.lines.clear();
    options.cache_directory = bad;
    const auto set = Make(model, options);
    CHECK(!set->packed().mapped);
    CHECK(set->packed().private_bytes == set->packed().bytes);
    CHECK(Outputs(*set, model.layers) == right);
    REQUIRE(log.lines.size() >= 1);
    CHECK(log.lines.back().find("private memory") != std::string::npos);
  }
}

TEST_CASE("a cancelled start leaves no file behind", "[dense][cache]") {
  const SmallModel model;
  const TemporaryFolder folder;
  struct Counter {
    int calls = 0, allowed = 0;
    float last = 0;
    bool rising = true;
  } counter;
  DenseOptions options;
  options.cache_directory = folder.path();
  options.progress_user_data = &counter;
  options.progress = [](void* user_data, float fraction) {
    auto* self = static_cast<Counter*>(user_data);
    self->rising = self->rising && fraction >= self->last;
    self->last = fraction;
    return ++self->calls <= self->allowed;
  };
  for (const int allowed : {0, 1, 3}) {
    counter = {0, allowed, 0, true};
    const auto set = DenseSet::Create(model.layers, options);
    REQUIRE(!set.ok());
    CHECK(set.status().code() == StatusCode::kCancelled);
    CHECK(counter.calls == allowed + 1);
    CHECK(folder.files().empty());
  }
  counter = {0, 1000, 0, true};
  Make(model, options);
  CHECK(counter.rising);
  CHECK(counter.last == 1.0f);
  CHECK(folder.files().size() == 1);
  // A found file can be cancelled too, and stays.
  counter = {0, 2, 0, true};
  CHECK(DenseSet::Create(model.layers, options).status().code() == StatusCode::kCancelled);
  CHECK(folder.files().size() == 1);
}

TEST_CASE("a bad scale met while packing leaves no file behind", "[dense][cache]") {
  SmallModel model;
  const TemporaryFolder folder;
  model.data[3].scales().as<float>()[299] = 0.0f;
  DenseOptions options;
  options.cache_directory = folder.path();
  CHECK(DenseSet::Create(model.layers, options).status().code() == StatusCode::kCorrupt);
  CHECK(folder.files().empty());
}

TEST_CASE("processes that start together all end up with right weights", "[dense][cache]") {
  const SmallModel model;
  const TemporaryFolder folder;
  DenseOptions options;
  const auto right = Outputs(*Make(model, options), model.layers);
  options.cache_directory = folder.path();
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      bool good = true;
      for (int round = 0; round < 3 && good; ++round) {
        auto set = DenseSet::Create(model.layers, options);
        good = set.ok() && set.value()->packed().mapped &&
               Outputs(*set.value(), model.layers) == right;
      }
      _exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  CHECK(folder.files().size() == 1);
}

TEST_CASE("layers that are read in place need no cache file", "[dense][cache]") {
  const DenseData data({DType::kF16, 0, 16, 32, 0, 16, 1});
  const DenseWeights layer = data.Layer();
  const TemporaryFolder folder;
  DenseOptions options;
  options.cache_directory = folder.path();
  auto set = DenseSet::Create({&layer, 1}, options);
  REQUIRE(set.ok());
  CHECK(folder.files().empty());
  CHECK(set.value()->packed().bytes == 0);
  CHECK(DenseSet::CacheFileBytes(std::vector<uint64_t>{0}) == 0);
}

TEST_CASE("the packing digest follows the weight types, not their order", "[dense][cache]") {
  REQUIRE(xnnpack::InitializeXnnpack().ok());
  const auto digest = [](std::vector<std::pair<DType, uint32_t>> formats) {
    std::vector<xnnpack::LayerSlice> slices;
    for (const auto& [dtype, block] : formats) {
      const DenseData data({dtype, block, 4, 128, 0, 4, 1});
      slices.push_back(xnnpack::SliceOf(data.Layer()).Take());
    }
    return xnnpack::PackingDigest(slices).Take();
  };
  const auto both = digest({{DType::kI8, 0}, {DType::kI4, 32}});
  CHECK(both == digest({{DType::kI4, 32}, {DType::kI8, 0}, {DType::kI4, 32}, {DType::kF16, 0}}));
  CHECK(both != digest({{DType::kI8, 0}}));
  CHECK(both != digest({{DType::kI8, 0}, {DType::kI4, 64}}));
}

}  // namespace
}  // namespace headroom::test
