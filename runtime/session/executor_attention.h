// What the files of the executor's mix steps share.
#pragma once

#include <limits>

#include "attention/softmax_mix.h"
#include "base/math.h"
#include "session/executor.h"

namespace headroom::session {

inline constexpr float kNoSink = -std::numeric_limits<float>::infinity();

// One mix step: how it is cut, and where its results go.
struct Executor::MixTasks {
  const BoundAttention* layer = nullptr;
  size_t index = 0;
  float* output = nullptr;  // [rows, H * Dv]
  uint32_t position = 0;    // of row 0
  uint32_t rows = 0;
  uint32_t tile_tokens = 0;  // prefill
  uint32_t tiles = 0;
  uint32_t splits = 0;  // decode: of the longest view
  float* partials = nullptr;

  // Room for a record; those of views that keep less of a value are shorter.
  uint32_t record_floats() const { return attention::PartialFloats(layer->spec->value_width()); }
  uint32_t output_width() const { return layer->spec->query_heads * layer->spec->value_width(); }
};

// Where queries of a view are gathered.
struct Executor::QueryScratch {
  float* query = nullptr;
  int32_t* positions = nullptr;
  float *angles = nullptr, *turn = nullptr;  // of a position, and from another to it
};

// Query heads [slot_begin, slot_end) of BoundAttention::view_heads, all of one view, of the step's
// rows [begin, end). `relative`: turned on to the position that they have among the rows kept.
struct Executor::QueryRange {
  uint32_t view, slot_begin, slot_end, begin, end;
  bool relative;
  bool expanded;  // as they meet keys made of a latent, not the latent
};

// A worker's scratch, cut up.
struct Executor::WorkerScratch : Executor::QueryScratch {
  WorkerScratch(std::byte* base, const model::AttentionSpec& spec, uint32_t queries,
                uint32_t record_floats) {
    auto take = [&base](uint64_t bytes) {
      std::byte* piece = base;
      base += RoundUp(bytes, 64);
      return piece;
    };
    query = reinterpret_cast<float*>(take(uint64_t{queries} * spec.key_width() * sizeof(float)));
    positions = reinterpret_cast<int32_t*>(take(queries * sizeof(int32_t)));
    angles = reinterpret_cast<float*>(take(spec.query.rope.dims * sizeof(float)));
    turn = reinterpret_cast<float*>(take(spec.query.rope.dims * sizeof(float)));
    partials = reinterpret_cast<float*>(
        take(store::kMostSegments * uint64_t{queries} * record_floats * sizeof(float)));
    kernel = base;
  }
  float* partials;  // [parts, queries] records
  std::byte* kernel;
};

}  // namespace headroom::session
