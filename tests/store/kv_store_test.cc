#include "store/kv_store.h"

#include <cstring>
#include <set>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "attention/softmax_mix.h"
#include "backends/xnnpack/kernels.h"

namespace headroom::store {
namespace {

constexpr uint32_t kHeads = 2, kKeyWidth = 5, kValueWidth = 3;

// A store with memory of its own, and rows whose content names layer, head and position.
struct Fixture {
  explicit Fixture(std::vector<LayerSpec> specs) {
    uint64_t bytes = 0;
    for (const auto& spec : specs) bytes += LayerBytes(spec);
    memory.resize(bytes / 64 + 1);
    store = KvStore(std::move(specs), {memory[0].bytes, bytes});
  }
  static float Mark(size_t layer, uint32_t head, uint32_t position, uint32_t column) {
    return static_cast<float>(position) + 0.25f * static_cast<float>(head) +
           0.5f * static_cast<float>(layer) + static_cast<float>(column) / 64;
  }
  void Append(uint32_t position, uint32_t count) {
    store.BeginAppend(position, count);
    for (size_t layer = 0; layer < store.layer_count(); ++layer) {
      for (uint32_t head = 0; head < store.layer(layer).lanes(); ++head) {
        for (uint32_t p = position; p < position + count; ++p) {
          float key[kKeyWidth], value[kValueWidth];
          for (uint32_t c = 0; c < kKeyWidth; ++c) key[c] = Mark(layer, head, p, c);
          for (uint32_t c = 0; c < kValueWidth; ++c) value[c] = -Mark(layer, head, p, c);
          const RowPlace place = store.Place(layer, head, p);
          Encode(key, kKeyWidth, place.key);
          Encode(value, kValueWidth, place.value);
        }
      }
    }
  }
  static void Encode(const float* row, uint32_t width, const RowSlot& slot) {
    attention::PortableEncodeRow(slot.codec)(row, width, slot.data, slot.meta);
  }
  static std::vector<float> Decode(const RowArray& rows, uint32_t row) {
    std::vector<float> out(rows.width);
    const uint64_t meta = RowMetaBytes(rows.codec, rows.width) / sizeof(uint16_t);
    attention::DecodeRow(rows.codec, rows.data + row * RowDataBytes(rows.codec, rows.width),
                         rows.meta + row * meta, rows.width, out.data());
    return out;
  }
  // Checks every visible row against its mark and returns the positions found.
  std::set<uint32_t> Check(size_t layer, uint32_t tokens, float tolerance = 0.0f) {
    std::set<uint32_t> found;
    for (uint32_t head = 0; head < store.layer(layer).lanes(); ++head) {
      LaneView segments[kMostSegments];
      const uint32_t count = store.View(layer, {head, head, head}, tokens, segments);
      for (uint32_t i = 0; i < count; ++i) {
        const LaneView& view = segments[i];
        for (uint32_t row = 0; row < view.rows; ++row) {
          const int32_t position = view.positions == nullptr
                                       ? view.first_position + static_cast<int32_t>(row)
                                       : view.positions[row];
          if (position < 0) continue;
          const std::vector<float> key = Decode(view.keys, row), value = Decode(view.values, row);
          for (uint32_t c = 0; c < kKeyWidth; ++c) {
            const float want = Mark(layer, head, static_cast<uint32_t>(position), c);
            REQUIRE(std::abs(key[c] - want) <= tolerance);
            if (c < kValueWidth) REQUIRE(std::abs(value[c] + want) <= tolerance);
          }
          found.insert(static_cast<uint32_t>(position));
        }
      }
    }
    return found;
  }
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> memory;
  KvStore store;
};

std::set<uint32_t> Range(uint32_t begin, uint32_t end) {
  std::set<uint32_t> range;
  for (uint32_t p = begin; p < end; ++p) range.insert(p);
  return range;
}

LaneSpec Lane(RowCodec codec, uint32_t left = kUnlimited, uint32_t sinks = 0) {
  LaneSpec lane;
  lane.key = {codec, kKeyWidth};
  lane.value = {codec, kValueWidth};
  lane.left = left;
  lane.sinks = sinks;
  return lane;
}
LayerSpec Layer(const LaneSpec& lane) { return {{{kHeads, lane}}, -1}; }
LayerSpec Dense(uint32_t context, RowCodec codec = RowCodec::kF32) {
  return Layer(PlanLane(Lane(codec), context, 4));
}
LayerSpec Ring(uint32_t left, uint32_t sinks, uint32_t context, uint32_t chunk) {
  return Layer(PlanLane(Lane(RowCodec::kF32, left, sinks), context, chunk));
}

TEST_CASE("a window becomes a ring only when that is smaller", "[store]") {
  CHECK(Ring(20, 0, 1000, 5).lane(0).ring);
  CHECK(Ring(20, 0, 1000, 5).lane(0).capacity == 32);  // roundup(20 + 5, 16)
  CHECK(Ring(20, 3, 1000, 5).lane(0).capacity == 35);
  CHECK_FALSE(Ring(20, 0, 32, 5).lane(0).ring);
  CHECK(Ring(20, 0, 32, 5).lane(0).capacity == 32);
  CHECK_FALSE(Dense(100).lane(0).ring);
}

TEST_CASE("bytes follow the formula of the codecs", "[store]") {
  // 128 rows of 5 and 3 values: f32 2560 + 1536; int8 640 + 384 + 2 x 512 of scales and minima.
  CHECK(LayerBytes(Dense(128)) == kHeads * (2560 + 1536));
  CHECK(LayerBytes(Dense(128, RowCodec::kI8Token)) == kHeads * (640 + 384 + 2 * 512));
  CHECK(LayerBytesPerToken(Dense(128, RowCodec::kF16)) == kHeads * (10 + 6));
  CHECK(LayerBytesPerToken(Ring(20, 0, 1000, 5)) == 0);
  // A layer that reads the rows of another has none, and reads as much.
  const LayerSpec layers[] = {Dense(128), Ring(20, 0, 1000, 5), {{}, 0}};
  CHECK(ReadBytes(layers) == 2 * LayerBytes(layers[0]) + LayerBytes(layers[1]));
}

TEST_CASE("a ring keeps sinks and every row a chunk's window needs after it wraps",
          "[store][window]") {
  constexpr uint32_t kLeft = 20, kSinks = 3, kChunk = 5;
  Fixture f({Ring(kLeft, kSinks, 1000, kChunk), Dense(200)});
  for (uint32_t position = 0; position < 150; position += kChunk) {
    f.Append(position, kChunk);
    const auto kept = f.Check(0, position + kChunk);
    for (uint32_t p = 0; p < std::min(position + kChunk, kSinks); ++p) REQUIRE(kept.count(p) == 1);
    // The first query of the chunk still sees its whole window.
    for (uint32_t p = position > kLeft ? position - kLeft : 0; p < position + kChunk; ++p) {
      REQUIRE(kept.count(p) == 1);
    }
    REQUIRE(f.Check(1, position + kChunk) == Range(0, position + kChunk));
  }
}

TEST_CASE("rewinding a ring works while the window is there and is refused after",
          "[store][window]") {
  Fixture f({Ring(20, 2, 1000, 5)});  // 32 rows in the ring
  f.Append(0, 100);
  CHECK(f.store.CanRewind(100, 100 - 12 + 2));
  CHECK_FALSE(f.store.CanRewind(100, 80));
  CHECK(f.store.CanRewind(100, 0));
  f.store.Rewind(100, 95);
  const auto kept = f.Check(0, 95);
  CHECK(*kept.rbegin() == 94);
  f.Append(95, 5);
  CHECK(*f.Check(0, 100).rbegin() == 99);
}

TEST_CASE("spans carry a state into stores of other capacities", "[store]") {
  Fixture from({Ring(20, 2, 1000, 5), Dense(300)});
  // Same model, another plan: the window's layer is dense here.
  Fixture to({Ring(20, 2, 110, 96), Dense(110)});
  REQUIRE_FALSE(to.store.layer(0).lane(0).ring);
  constexpr uint32_t kTokens = 103;
  from.Append(0, kTokens);
  std::vector<std::byte> file;
  from.store.ForEachSpan(
      kTokens,
      [](void* context, std::span<std::byte> bytes) {
        auto& file = *static_cast<std::vector<std::byte>*>(context);
        file.insert(file.end(), bytes.begin(), bytes.end());
        return true;
      },
      &file);
  REQUIRE(file.size() == from.store.SpanBytes(kTokens));
  REQUIRE(file.size() == to.store.SpanBytes(kTokens));
  const std::byte* in = file.data();
  to.store.ForEachSpan(
      kTokens,
      [](void* context, std::span<std::byte> bytes) {
        const std::byte*& in = *static_cast<const std::byte**>(context);
        std::memcpy(bytes.data(), in, bytes.size());
        in += bytes.size();
        return true;
      },
      &in);
  to.store.AdoptSpans(kTokens);
  CHECK(to.Check(1, kTokens) == Range(0, kTokens));
  // Only the window came along, so going back behind it must be refused.
  CHECK_FALSE(to.store.CanRewind(kTokens, kTokens - 1));
  CHECK(to.store.CanRewind(kTokens, 0));
}

TEST_CASE("a copy sees what the original saw, and neither sees the other's changes", "[store]") {
  const std::vector<LayerSpec> specs = {Ring(20, 2, 1000, 5), Dense(300)};
  Fixture a(specs), b(specs);
  a.Append(0, 90);
  b.store.CopyFrom(a.store, 90);
  CHECK(b.Check(0, 90) == a.Check(0, 90));
  CHECK(b.Check(1, 90) == Range(0, 90));
  a.Append(90, 5);
  CHECK(*b.Check(0, 90).rbegin() == 89);
}

TEST_CASE("a lane that would take more bytes cannot be shrunk", "[store]") {
  auto layer = [](uint32_t width, RowCodec codec, uint32_t context) {
    LaneSpec lane = Lane(codec);
    lane.key.width = lane.value.width = width;
    return LaneGroup{1, PlanLane(lane, context, 4)};
  };
  CHECK(CanShrink(layer(64, RowCodec::kF16, 100), layer(64, RowCodec::kI8Token, 100)));
  CHECK(CanShrink(layer(64, RowCodec::kF16, 100), layer(64, RowCodec::kF16, 80)));
  CHECK(CanShrink(layer(4, RowCodec::kF16, 128), layer(4, RowCodec::kI8Token, 128)));  // as many
  CHECK_FALSE(CanShrink(layer(3, RowCodec::kF16, 128), layer(3, RowCodec::kI8Token, 128)));
  CHECK(CanShrink(layer(3, RowCodec::kF16, 128), layer(3, RowCodec::kI8Token, 64)));
  // Four rows of eight values fill one line of 64 bytes, but scales take lines of their own.
  CHECK_FALSE(CanShrink(layer(8, RowCodec::kF16, 4), layer(8, RowCodec::kI8Token, 4)));
}

TEST_CASE("shrinking keeps every row, in fewer bytes", "[store]") {
  const RowCodec from = GENERATE_COPY(RowCodec::kF32, RowCodec::kF16);
  const RowCodec to = GENERATE_COPY(RowCodec::kF16, RowCodec::kI8Token);
  auto specs = [](RowCodec codec, uint32_t context) {
    const LayerSpec ring = Layer(PlanLane(Lane(codec, 20, 2), 1000, 5));
    return std::vector<LayerSpec>{Dense(context, codec), ring, Dense(context, codec)};
  };
  if (!CanShrink(specs(from, 300)[1].groups[0], specs(to, 112)[1].groups[0]))
    return;  // f16 rows of 3 to int8: longer
  Fixture f(specs(from, 300));
  f.Append(0, 100);
  std::vector<std::byte> scratch(ShrinkScratchBytes(specs(from, 300)));
  const xnnpack::Kernels kernels = xnnpack::PortableKernels();
  const RowRecoder recoder{attention::DecodeRow, kernels.encode_row};
  // Marks reach 100.7: f16 steps there are 1/16, int8 steps of a row's range (4/64) are far finer.
  f.store.ShrinkTo(specs(to, 112), 100, recoder, scratch);
  CHECK(f.Check(0, 100, 0.07f) == Range(0, 100));
  CHECK(f.Check(2, 100, 0.07f) == Range(0, 100));
  CHECK(*f.Check(1, 100, 0.07f).rbegin() == 99);
  f.Append(100, 5);
  CHECK(f.Check(0, 105, 0.07f) == Range(0, 105));
}

}  // namespace
}  // namespace headroom::store
