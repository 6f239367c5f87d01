// The projection of an attention plan: which rows are made of the input, what is cached of them,
// and which head reads which.
#include <algorithm>
#include <cmath>

#include "model/load.h"

namespace headroom::model {
namespace {

Status LoadRope(const LoadContext& context, const Where& where, int32_t index, uint32_t head_width,
                RopeSpec* out) {
  *out = {};
  if (index == kNone) return {};
  HR_RETURN_IF_ERROR(CheckIndex(where, "rope", index, Count(context.graph.ropes())));
  const fb::Rope& rope = *context.graph.ropes()->Get(static_cast<uint32_t>(index));
  HR_RETURN_IF_ERROR(CheckKnown(where, "rope layout", rope.layout()));
  if (rope.dims() == 0 || rope.dims() % 2 != 0) {
    return Corrupt(where, "rope %d rotates %u dimensions, not an even number", index, rope.dims());
  }
  if (uint64_t{rope.offset()} + rope.dims() > head_width) {
    return Corrupt(where, "rope %d rotates dimensions %u + %u of a head of %u", index,
                   rope.offset(), rope.dims(), head_width);
  }
  if (rope.per_head()) return Unsupported(where, "rope %d with frequencies per head", index);
  if (rope.axes() != 1) return Unsupported(where, "rope %d over %u axes", index, rope.axes());
  if (rope.pair_index() != kNone) return Unsupported(where, "rope %d with a pair table", index);
  if (!std::isfinite(rope.attention_factor()) || rope.attention_factor() <= 0.0f) {
    return Corrupt(where, "rope %d attention factor %g is not positive", index,
                   static_cast<double>(rope.attention_factor()));
  }
  HR_RETURN_IF_ERROR(CheckVector(context, where, "inverse frequencies", rope.inverse_frequencies(),
                                 rope.dims() / 2));
  *out = {rope.dims(), rope.offset(),
          rope.layout() == fb::RopeLayout::HalfSplit ? RopeLayout::kHalfSplit
                                                     : RopeLayout::kInterleaved,
          rope.inverse_frequencies(), rope.attention_factor()};
  return {};
}

Status CheckHeadCounts(const Where& where, const fb::Projection& projection) {
  if (projection.query_heads() == 0 || projection.query_heads() > kMaxHeads) {
    return Corrupt(where, "%u query heads, not 1..%u", projection.query_heads(), kMaxHeads);
  }
  if (projection.kv_heads() == 0 || projection.kv_heads() > kMaxHeads) {
    return Corrupt(where, "%u KV heads, not 1..%u", projection.kv_heads(), kMaxHeads);
  }
  return {};
}

Status CheckStreamShapes(const Where& where, const fb::Projection& projection) {
  for (uint32_t i = 0; i < Count(projection.streams()); ++i) {
    const fb::Stream& stream = *projection.streams()->Get(i);
    HR_RETURN_IF_ERROR(CheckKnown(where, "rope time", stream.rope_time()));
    if (stream.width() == 0 || stream.width() > kMaxHeadWidth) {
      return Corrupt(where, "stream %u is %u wide, not 1..%u", i, stream.width(), kMaxHeadWidth);
    }
    if (stream.heads() == 0 || stream.heads() > kMaxHeads) {
      return Corrupt(where, "stream %u has %u heads, not 1..%u", i, stream.heads(), kMaxHeads);
    }
    if (stream.alias_of() != kNone) {
      HR_RETURN_IF_ERROR(
          CheckIndex(where, "aliased stream", stream.alias_of(), projection.streams()->size()));
    }
  }
  const uint32_t streams = Count(projection.streams());
  for (uint32_t i = 0; i < Count(projection.scores()); ++i) {
    const fb::ScoreSegment& score = *projection.scores()->Get(i);
    HR_RETURN_IF_ERROR(CheckIndex(where, "score stream", score.stream(), streams));
    const uint64_t end = uint64_t{score.stream_offset()} + score.width();
    const uint32_t width = projection.streams()->Get(score.stream())->width();
    if (score.width() == 0 || end > width) {
      return Corrupt(where, "score segment %u takes %u + %u of a stream of %u", i,
                     score.stream_offset(), score.width(), width);
    }
  }
  return {};
}

Status CheckRows(const Where& where, const char* what, const WeightRef& weight, uint64_t rows) {
  if (weight.rows == rows) return {};
  return Corrupt(where, "%s has %u rows, its heads take %llu", what, weight.rows, Number(rows));
}

// Columns of the matrix a Weight names, for the parts whose input width the graph will check.
uint64_t ColumnsOf(const LoadContext& context, const fb::Weight* weight) {
  const auto& tensors = context.model.tensors;
  if (weight == nullptr || weight->tensor() < 0 ||
      static_cast<size_t>(weight->tensor()) >= tensors.size()) {
    return 0;
  }
  return tensors[static_cast<size_t>(weight->tensor())].columns();
}

// ---- Streams

// The streams of a projection by what they are for; absent ones are null.
struct Streams {
  const fb::Stream *key = nullptr, *tail = nullptr, *value = nullptr;
};

// The named features of a stream that later builds will execute.
Status CheckStream(const Where& where, const fb::Stream& stream) {
  if (stream.alias_of() != kNone) return Unsupported(where, "a stream that aliases another");
  if (stream.input_value() != kNone) return Unsupported(where, "cross attention");
  if (stream.rope_time() != fb::RopeTime::AtWrite) return Unsupported(where, "rotation at read");
  if (stream.hadamard() != 0) return Unsupported(where, "Hadamard-rotated streams");
  if (Count(stream.ranks()) != 0) return Unsupported(where, "ranks of a stream (roles have them)");
  if (stream.channel_scales() != kNone) return Unsupported(where, "static scales per channel");
  return {};
}

Status CheckValues(const Where& where, const fb::Projection& projection, const Streams& streams) {
  const fb::Stream& value = *(streams.value == nullptr ? streams.key : streams.value);
  if (streams.value != nullptr && value.basis() != kNone)
    return Unsupported(where, "a basis of values (the weights can hold it)");
  const bool whole = projection.value_width() == value.width() || streams.value == nullptr;
  if (projection.value_width() == 0 || projection.value_width() > value.width()) {
    return Corrupt(where, "values of %u numbers from a stream of %u", projection.value_width(),
                   value.width());
  }
  if (projection.value_offset() != 0 || !whole) {
    return Unsupported(where, "scores or values from a part of a stream");
  }
  if (value.rope() != kNone) return Unsupported(where, "rotated values");
  if (streams.value != nullptr && value.norm() != nullptr)
    return Unsupported(where, "a norm on values");
  return {};
}

// Finds them: one or two score segments over whole streams, values of a stream of their own or of
// the first segment's.
Status FindStreams(const Where& where, const fb::Projection& projection, Streams* out) {
  const uint32_t count = Count(projection.streams()), scores = Count(projection.scores());
  if (count == 0) return Unsupported(where, "no streams of its own");
  if (scores != 1 && scores != 2) return Unsupported(where, "%u score segments", scores);
  if (projection.post_output() != kNone)
    return Unsupported(where, "a matrix behind the values (absorbed)");
  HR_RETURN_IF_ERROR(CheckIndex(where, "value stream", projection.value_stream(), count));
  for (uint32_t i = 0; i < scores; ++i) {
    const fb::ScoreSegment& score = *projection.scores()->Get(i);
    const fb::Stream* stream = projection.streams()->Get(score.stream());
    if (score.pre_query() != kNone)
      return Unsupported(where, "a matrix before the scores (absorbed)");
    if (score.stream_offset() != 0 || score.width() != stream->width())
      return Unsupported(where, "scores or values from a part of a stream");
    (i == 0 ? out->key : out->tail) = stream;
  }
  if (out->tail == out->key) return Unsupported(where, "two score segments of one stream");
  const fb::Stream* value = projection.streams()->Get(projection.value_stream());
  if (out->tail != nullptr && (out->tail->basis() != kNone || out->tail->ordered()))
    return Unsupported(where, "a basis of keys in two parts or that are values too");
  if (value == out->tail) return Unsupported(where, "values that are the rotated keys");
  if (value != out->key) out->value = value;
  const uint32_t used = scores + (out->value != nullptr ? 1 : 0);
  if (used != count) return Unsupported(where, "%u streams, %u are read", count, used);
  for (const fb::Stream* stream : *projection.streams()) {
    HR_RETURN_IF_ERROR(CheckStream(where, *stream));
  }
  return CheckValues(where, projection, *out);
}

void Measure(const fb::Stream* stream, StreamSpec* out) {
  if (stream == nullptr) return;
  out->heads = stream->heads();
  out->width = stream->width();
  out->ordered = stream->ordered();
}

// ---- Bases

// That U (U^T x) is x for a vector without symmetries, which for no other matrix than an orthogonal
// one is so by chance.
bool IsOrthogonal(const float* basis, uint32_t width) {
  float x[kMaxBasisWidth], y[kMaxBasisWidth] = {};
  uint32_t bits = 1;
  for (uint32_t i = 0; i < width; ++i) {
    bits = bits * 1664525u + 1013904223u;
    x[i] = 0.5f + static_cast<float>(bits >> 8) / static_cast<float>(1u << 24);
    if (bits >> 31) x[i] = -x[i];
  }
  for (uint32_t i = 0; i < width; ++i) {
    for (uint32_t j = 0; j < width; ++j) y[j] += basis[uint64_t{i} * width + j] * x[i];
  }
  double error = 0.0;
  for (uint32_t i = 0; i < width; ++i) {
    double back = 0.0;
    for (uint32_t j = 0; j < width; ++j) back += double{basis[uint64_t{i} * width + j]} * y[j];
    error += (back - x[i]) * (back - x[i]);
  }
  return error <= 1e-9 * width;
}

Status LoadBasis(const LoadContext& context, const Where& where, const fb::Stream& key,
                 const Streams& streams, StreamSpec* out) {
  if (key.basis() == kNone && !key.ordered()) return {};
  if (streams.tail != nullptr || streams.value == nullptr) {
    return Unsupported(where, "a basis of keys in two parts or that are values too");
  }
  if (key.basis() == kNone) return {};
  HR_RETURN_IF_ERROR(CheckIndex(where, "basis", key.basis(), context.model.tensors.size()));
  const TensorView& basis = context.model.tensors[static_cast<size_t>(key.basis())];
  const uint64_t rows = uint64_t{out->heads} * out->width;
  if (out->width > kMaxBasisWidth) {
    return Unsupported(where, "a basis of %u numbers > %u", out->width, kMaxBasisWidth);
  }
  if (basis.dtype != DType::kF32 || basis.rank != 2 || basis.rows() != rows ||
      basis.columns() != out->width) {
    return Corrupt(where, "basis is %s [%u, %u] of rank %u, not f32 [%llu, %u]",
                   DTypeName(basis.dtype), basis.rows(), basis.columns(), basis.rank, Number(rows),
                   out->width);
  }
  for (uint32_t head = 0; head < out->heads; ++head) {
    if (IsOrthogonal(basis.f32() + uint64_t{head} * out->width * out->width, out->width)) continue;
    return Corrupt(where, "the basis of head %u is not orthogonal", head);
  }
  out->basis = key.basis();
  out->ordered = true;
  return {};
}

struct StreamNames {
  const char *weight, *norm;
};

Status LoadStream(LoadContext& context, const Where& where, const StreamNames& names,
                  const fb::Stream* stream, uint64_t columns, StreamSpec* out) {
  if (stream == nullptr) return {};
  HR_RETURN_IF_ERROR(
      LoadWeight(context, where, names.weight, stream->weight(), columns, &out->weight));
  HR_RETURN_IF_ERROR(
      CheckRows(where, names.weight, out->weight, uint64_t{out->heads} * out->width));
  HR_RETURN_IF_ERROR(
      LoadNorm(context, where, names.norm, stream->norm(), out->width, out->heads, &out->norm));
  return LoadRope(context, where, stream->rope(), out->width, &out->rope);
}

// ---- Heads

// For each query head a head of `heads`; absent: neighbours in equal groups.
Status LoadMap(LoadContext& context, const Where& where, const char* what,
               const flatbuffers::Vector<uint16_t>* map, uint32_t query_heads, uint32_t heads,
               std::vector<uint16_t>* out) {
  if (Count(map) != 0 && map->size() != query_heads) {
    return Corrupt(where, "%s for %u heads, there are %u", what, map->size(), query_heads);
  }
  if (Count(map) == 0 && query_heads % heads != 0) {
    return Corrupt(where, "%u query heads over %u KV heads without a map", query_heads, heads);
  }
  HR_RETURN_IF_ERROR(context.Charge(query_heads, sizeof(uint16_t), "head map entries"));
  for (uint32_t h = 0; h < query_heads; ++h) {
    out->push_back(Count(map) != 0 ? map->Get(h)
                                   : static_cast<uint16_t>(h / (query_heads / heads)));
    if (out->back() >= heads) {
      return Corrupt(where, "%s names KV head %u of %u", what, out->back(), heads);
    }
  }
  return {};
}

// Heads of a stream that has one are shared by all.
uint16_t HeadOf(const StreamSpec& stream, uint16_t mapped) {
  return stream.heads <= 1 ? uint16_t{0} : mapped;
}

// KV heads that belong together by their numbers are views in that order, also where no query head
// reads one; other combinations are views in order of the query heads that first read them.
Status MakeViews(LoadContext& context, const std::vector<uint16_t>& keys,
                 const std::vector<uint16_t>& values, AttentionSpec* out) {
  const uint32_t key_heads = std::max(out->key.heads, out->tail.heads);
  const bool plain = keys == values || !out->value.present();
  const auto view = [out](uint16_t key, uint16_t value) -> ViewHeads {
    return {HeadOf(out->key, key), HeadOf(out->tail, key), HeadOf(out->value, value)};
  };
  HR_RETURN_IF_ERROR(
      context.Charge(plain ? key_heads : out->query_heads, sizeof(ViewHeads), "KV heads"));
  for (uint32_t g = 0; plain && g < key_heads; ++g) {
    out->views.push_back(view(static_cast<uint16_t>(g), static_cast<uint16_t>(g)));
  }
  for (uint32_t h = 0; h < out->query_heads; ++h) {
    const ViewHeads wanted = view(keys[h], values[h]);
    const auto found = std::find(out->views.begin(), out->views.end(), wanted);
    out->head_map.push_back(static_cast<uint16_t>(found - out->views.begin()));
    if (found == out->views.end()) out->views.push_back(wanted);
  }
  return {};
}

Status LoadViews(LoadContext& context, const Where& where, const fb::Projection& projection,
                 AttentionSpec* out) {
  const uint32_t key_heads = std::max(out->key.heads, out->tail.heads);
  if (std::min(out->key.heads, std::max(out->tail.heads, 1u)) != 1 &&
      out->key.heads != out->tail.heads) {
    return Unsupported(where, "keys of %u and of %u heads in two parts", out->key.heads,
                       out->tail.heads);
  }
  std::vector<uint16_t> keys, values;
  HR_RETURN_IF_ERROR(
      LoadMap(context, where, "key map", projection.key_map(), out->query_heads, key_heads, &keys));
  const bool own_map = Count(projection.value_map()) != 0;
  if (out->value.present() && (own_map || out->value.heads != key_heads)) {
    HR_RETURN_IF_ERROR(LoadMap(context, where, "value map", projection.value_map(),
                               out->query_heads, out->value.heads, &values));
  } else {
    values = keys;
  }
  HR_RETURN_IF_ERROR(MakeViews(context, keys, values, out));
  if (projection.kv_heads() == out->kv_heads()) return {};
  return Corrupt(where, "%u KV heads, the maps make %u", projection.kv_heads(), out->kv_heads());
}

// ---- Queries

Status LoadGated(LoadContext& context, const Where& where, const fb::Query& query, QuerySpec* out) {
  const uint64_t columns = out->weight.rows;
  HR_RETURN_IF_ERROR(LoadActivation(where, query.activation(), &out->activation));
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "query gate", query.gate(), columns, &out->gate));
  HR_RETURN_IF_ERROR(LoadWeight(context, where, "query up", query.up(), columns, &out->up));
  if (out->gate.rows != out->up.rows) {
    return Corrupt(where, "%u rows of the queries' gate, %u of their up", out->gate.rows,
                   out->up.rows);
  }
  return LoadWeight(context, where, "query down", query.down(), out->up.rows, &out->down);
}

// The matrices that make queries; *rows: of the last.
Status LoadQueryWeights(LoadContext& context, const Where& where, const fb::Query& query,
                        QuerySpec* out, uint64_t* columns, uint32_t* rows) {
  const bool low_rank = query.kind() == fb::QueryKind::LowRank;
  const fb::Weight* first = low_rank ? query.down() : query.weight();
  *columns = ColumnsOf(context, first);
  out->kind = low_rank ? QueryKind::kLowRank : QueryKind::kDense;
  if (low_rank) {
    HR_RETURN_IF_ERROR(LoadWeight(context, where, "query down", first, *columns, &out->down));
    HR_RETURN_IF_ERROR(LoadNorm(context, where, "low-rank query norm", query.down_norm(),
                                out->down.rows, 0, &out->down_norm));
  }
  const uint64_t inner = low_rank ? out->down.rows : *columns;
  HR_RETURN_IF_ERROR(
      LoadWeight(context, where, "query weight", query.weight(), inner, &out->weight));
  if (query.kind() == fb::QueryKind::Gated) {
    out->kind = QueryKind::kGated;
    HR_RETURN_IF_ERROR(LoadGated(context, where, query, out));
  }
  *rows = out->kind == QueryKind::kGated ? out->down.rows : out->weight.rows;
  return {};
}

// Blocks of `rows` rows each, as many as divide the query heads.
Status LoadHeadMatrix(const LoadContext& context, const Where& where, const char* what,
                      const fb::Weight* weight, uint64_t columns, uint64_t rows,
                      uint32_t query_heads, HeadMatrix* out) {
  if (weight == nullptr) return {};
  HR_RETURN_IF_ERROR(LoadWeight(context, where, what, weight, columns, &out->weight));
  if (out->weight.bias != kNone) return Unsupported(where, "%s with a bias", what);
  const uint64_t blocks = rows == 0 ? 0 : out->weight.rows / rows;
  if (blocks == 0 || out->weight.rows % rows != 0 || query_heads % blocks != 0) {
    return Corrupt(where, "%s of %u rows is no matrix of %llu rows for each of %u heads", what,
                   out->weight.rows, Number(rows), query_heads);
  }
  out->blocks = static_cast<uint32_t>(blocks);
  out->rows = static_cast<uint32_t>(rows);
  return {};
}

// How a head's query is cut for the two parts of keys, and what is done to it.
Status LoadQueryHeads(LoadContext& context, const Where& where, const fb::Projection& projection,
                      uint32_t rows, AttentionSpec* out) {
  const fb::Query& query = *projection.query();
  const fb::ScoreSegment& first = *projection.scores()->Get(0);
  const uint32_t tail = out->tail.width;
  const uint32_t least = first.query_matrix() == nullptr ? out->key_width() : tail + 1;
  out->query.width = rows / out->query_heads;
  if (first.query_matrix() == nullptr) {
    const char* what = out->query.kind == QueryKind::kGated ? "query down" : "query weight";
    const WeightRef& last =
        out->query.kind == QueryKind::kGated ? out->query.down : out->query.weight;
    HR_RETURN_IF_ERROR(CheckRows(where, what, last, uint64_t{out->query_heads} * least));
  }
  if (rows % out->query_heads != 0 || out->query.width < least ||
      out->query.width > kMaxHeadWidth) {
    return Corrupt(where, "%u rows of queries for %u heads", rows, out->query_heads);
  }
  const uint32_t part = out->query_part();
  if (first.query_offset() != 0 ||
      (out->tail.present() && projection.scores()->Get(1)->query_offset() != part)) {
    return Unsupported(where, "scores of another part of the query");
  }
  if (out->tail.present() && projection.scores()->Get(1)->query_matrix() != nullptr) {
    return Unsupported(where, "a matrix for the second part of the query");
  }
  HR_RETURN_IF_ERROR(LoadHeadMatrix(context, where, "query matrix", first.query_matrix(), part,
                                    out->key.width, out->query_heads, &out->query.matrix));
  HR_RETURN_IF_ERROR(LoadNorm(context, where, "query norm", query.norm(), out->query.width,
                              out->query_heads, &out->query.norm));
  out->query.factors = query.factors();
  if (out->query.factors != kNone) {
    HR_RETURN_IF_ERROR(
        CheckVector(context, where, "query factors", out->query.factors, out->query.width));
  }
  return LoadRope(context, where, query.rope(), out->query.width, &out->query.rope);
}

Status LoadOutput(LoadContext& context, const Where& where, const fb::Projection& projection,
                  AttentionSpec* out) {
  const uint64_t heads = out->query_heads;
  uint64_t columns = heads * out->value_width();
  if (projection.output() == nullptr) {
    if (projection.value_matrix() == nullptr) return {};
    return Unsupported(where, "a value matrix and no output weight");
  }
  if (projection.value_matrix() != nullptr) {
    columns = ColumnsOf(context, projection.output());
    if (columns % heads != 0 || columns / heads > kMaxHeadWidth) {
      return Corrupt(where, "output weight has %llu columns for %llu heads", Number(columns),
                     Number(heads));
    }
    HR_RETURN_IF_ERROR(LoadHeadMatrix(context, where, "value matrix", projection.value_matrix(),
                                      out->value_width(), columns / heads, out->query_heads,
                                      &out->value_matrix));
  }
  return LoadWeight(context, where, "output weight", projection.output(), columns, &out->output);
}

// What makes a head's keys of a latent, for those who would rather do that than absorb it.
Status LoadKeyMatrix(const LoadContext& context, const Where& where,
                     const fb::Projection& projection, AttentionSpec* out) {
  if (projection.key_matrix() == nullptr) return {};
  if (!out->query.matrix.present() || !out->value_matrix.present() || out->value.present() ||
      out->value.width != out->key.width) {
    return Unsupported(where, "a key matrix where keys and values are not all made of a latent");
  }
  HR_RETURN_IF_ERROR(LoadHeadMatrix(context, where, "key matrix", projection.key_matrix(),
                                    out->key.width, out->query_part(), out->query_heads,
                                    &out->key_matrix));
  if (out->key_matrix.blocks != out->query.matrix.blocks) {
    return Corrupt(where, "%u blocks of the key matrix beside %u of the query matrix",
                   out->key_matrix.blocks, out->query.matrix.blocks);
  }
  return {};
}

// Rows of an earlier attention: its streams, without weights of their own.
Status BorrowStreams(const Where& where, const fb::Projection& projection,
                     const AttentionSpec& source, AttentionSpec* out) {
  if (source.source_attention != kNone) {
    return Unsupported(where, "rows of an attention that has none of its own");
  }
  if (Count(projection.streams()) != 0) {
    return Corrupt(where, "%u streams beside those of another attention",
                   Count(projection.streams()));
  }
  const uint32_t scores = source.tail.present() ? 2 : 1;
  if (Count(projection.scores()) != scores) {
    return Corrupt(where, "%u score segments, the shared keys have %u", Count(projection.scores()),
                   scores);
  }
  if (projection.value_width() != source.value_width()) {
    return Corrupt(where, "values of %u numbers, the shared ones have %u", projection.value_width(),
                   source.value_width());
  }
  for (uint32_t i = 0; i < scores; ++i) {
    const fb::ScoreSegment& score = *projection.scores()->Get(i);
    const uint32_t width = i == 0 ? source.key.width : source.tail.width;
    if (score.stream() == i && score.stream_offset() == 0 && score.width() == width &&
        score.pre_query() == kNone) {
      continue;
    }
    return Corrupt(where, "score segment %u is not the shared stream's %u numbers", i, width);
  }
  for (const auto& [from, to] :
       {std::pair(&source.key, &out->key), std::pair(&source.tail, &out->tail),
        std::pair(&source.value, &out->value)}) {
    to->heads = from->heads;
    to->width = from->width;
    to->basis = from->basis;
    to->ordered = from->ordered;
  }
  return {};
}

Status CheckQueryKind(const Where& where, const fb::Query& query) {
  HR_RETURN_IF_ERROR(CheckKnown(where, "query kind", query.kind()));
  if (query.kind() == fb::QueryKind::None) return Corrupt(where, "the query has no kind");
  if (query.kind() != fb::QueryKind::Augmented) return {};
  return Unsupported(where, "%s queries", fb::EnumNameQueryKind(query.kind()));
}

}  // namespace

Status LoadProjection(LoadContext& context, const Where& where, const fb::Projection* projection,
                      const AttentionSpec* source, AttentionSpec* out) {
  if (projection == nullptr) return Corrupt(where, "no projection");
  if (projection->query() == nullptr) return Corrupt(where, "no query");
  const fb::Query& query = *projection->query();
  HR_RETURN_IF_ERROR(CheckQueryKind(where, query));
  HR_RETURN_IF_ERROR(CheckHeadCounts(where, *projection));
  Streams streams;
  if (source != nullptr) {
    HR_RETURN_IF_ERROR(BorrowStreams(where, *projection, *source, out));
  } else {
    HR_RETURN_IF_ERROR(CheckStreamShapes(where, *projection));
    HR_RETURN_IF_ERROR(FindStreams(where, *projection, &streams));
  }
  out->query_heads = projection->query_heads();
  Measure(streams.key, &out->key);
  Measure(streams.tail, &out->tail);
  Measure(streams.value, &out->value);
  out->value.width = projection->value_width();
  HR_RETURN_IF_ERROR(LoadViews(context, where, *projection, out));
  uint64_t columns = 0;
  uint32_t query_rows = 0;
  HR_RETURN_IF_ERROR(LoadQueryWeights(context, where, query, &out->query, &columns, &query_rows));
  HR_RETURN_IF_ERROR(
      LoadStream(context, where, {"key weight", "key norm"}, streams.key, columns, &out->key));
  HR_RETURN_IF_ERROR(LoadStream(context, where, {"key tail weight", "key tail norm"}, streams.tail,
                                columns, &out->tail));
  HR_RETURN_IF_ERROR(LoadStream(context, where, {"value weight", "value norm"}, streams.value,
                                columns, &out->value));
  if (streams.key != nullptr) {
    HR_RETURN_IF_ERROR(LoadBasis(context, where, *streams.key, streams, &out->key));
  }
  HR_RETURN_IF_ERROR(LoadQueryHeads(context, where, *projection, query_rows, out));
  if (out->key.basis != kNone && out->query.matrix.present()) {
    return Unsupported(where, "a query matrix before keys in a basis");
  }
  HR_RETURN_IF_ERROR(LoadOutput(context, where, *projection, out));
  return LoadKeyMatrix(context, where, *projection, out);
}

}  // namespace headroom::model
