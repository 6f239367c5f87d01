// Times our own kernels. Attention decode is measured in turn with a stream read of memory, which
// bounds it, so that a busy machine slows both alike. Work on one thread is timed by its processor
// time, so that a neighbour who takes the core does not count (he still counts in the caches, and
// for two threads). Linear attention of one token reads and writes the states of 24 layers in turn,
// that of more tokens those of 4. Reports medians and best values; judges nothing.
//
//   kernel_bench [--json] [--resident] [--rows N] [--only 'decode gqa int8 x1'] [--seconds S]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "backends/xnnpack/kernels.h"
#include "base/math.h"
#include "support/guarded_memory.h"

namespace headroom {
namespace {

using attention::MixSpec;
using test::GuardedMemory;
using Clock = std::chrono::steady_clock;

// Lanes of one layer. A latent has its rotary key in a tail of f16 and its values in its keys.
struct Shape {
  const char* name;
  uint32_t lanes, group, key_width, tail_width, value_width;
  bool latent() const { return tail_width > 0; }
  uint32_t query_width() const { return key_width + tail_width; }
  uint64_t RowBytes(RowCodec codec) const {
    const auto bytes = [](RowCodec c, uint32_t w) {
      return RowDataBytes(c, w) + RowMetaBytes(c, w);
    };
    return bytes(codec, key_width) + bytes(RowCodec::kF16, tail_width) +
           (latent() ? 0 : bytes(codec, value_width));
  }
};
constexpr Shape kGrouped = {"gqa", 8, 4, 64, 0, 64};     // Llama-3.2-1B: 32 query heads
constexpr Shape kLatent = {"mla", 1, 16, 512, 64, 512};  // DeepSeek-V2-Lite: 16 query heads
constexpr RowCodec kCodecs[kRowCodecs] = {RowCodec::kF32, RowCodec::kF16, RowCodec::kI8Token,
                                          RowCodec::kBlock8, RowCodec::kBlock4};

// Processor time of this thread, or the clock on the wall where several threads work.
class Timer {
 public:
  explicit Timer(bool wall = false) : wall_(wall), start_(Now()) {}
  double Seconds() const { return Now() - start_; }

 private:
  double Now() const {
    timespec now;
    clock_gettime(wall_ ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  bool wall_;
  double start_;
};

volatile uint64_t g_sink;  // keeps the compiler from dropping what is only read

struct Samples {
  std::vector<double> seconds;
  double Quantile(double q) {
    std::sort(seconds.begin(), seconds.end());
    return seconds[static_cast<size_t>(q * static_cast<double>(seconds.size() - 1))];
  }
};

// Sum of a buffer far larger than any cache, GB/s.
double ReadStream(const std::vector<uint64_t>& buffer, size_t begin, size_t end, bool wall) {
  const Timer timer(wall);
  uint64_t sums[8] = {};
  for (size_t i = begin; i < end; i += 8) {
    for (size_t k = 0; k < 8; ++k) sums[k] += buffer[i + k];
  }
  g_sink = sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
  return static_cast<double>((end - begin) * sizeof(uint64_t)) / timer.Seconds() / 1e9;
}

// One lane of random rows.
struct Lane {
  GuardedMemory memory[3], meta[3];
  LaneView view;

  Lane(const xnnpack::Kernels& kernels, const Shape& shape, RowCodec codec, uint32_t rows,
       uint32_t seed) {
    std::mt19937 random(seed);
    view.rows = rows;
    view.keys = Fill(kernels, 0, codec, shape.key_width, random);
    if (shape.latent()) {
      view.key_tail = Fill(kernels, 1, RowCodec::kF16, shape.tail_width, random);
      view.values = {RowCodec::kF32, shape.value_width, nullptr, nullptr};
    } else {
      view.values = Fill(kernels, 2, codec, shape.value_width, random);
    }
  }

  RowArray Fill(const xnnpack::Kernels& kernels, int array, RowCodec codec, uint32_t width,
                std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<float> row(width);
    const uint64_t bytes = RowDataBytes(codec, width), meta_bytes = RowMetaBytes(codec, width);
    memory[array] = GuardedMemory(view.rows * bytes, 64);
    meta[array] = GuardedMemory(view.rows * meta_bytes + 64, 64);
    for (uint32_t r = 0; r < view.rows; ++r) {
      for (float& x : row) x = normal(random);
      kernels.encode_row[static_cast<int>(codec)](row.data(), width,
                                                  memory[array].data() + r * bytes,
                                                  meta[array].as<uint16_t>() + r * meta_bytes / 2);
    }
    return {codec, width, memory[array].data(), meta[array].as<uint16_t>()};
  }
};

// The buffers of one worker for calls of `queries` queries.
struct Caller {
  uint32_t width;
  std::vector<float> q, partials;
  std::vector<int32_t> positions;
  GuardedMemory scratch;

  Caller(const Shape& shape, uint32_t queries)
      : width(shape.query_width()),
        q(queries * width),
        partials(queries * attention::PartialFloats(shape.value_width)),
        positions(queries),
        scratch(attention::MixScratchBytes(queries, width, shape.value_width), 64) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (float& x : q) x = normal(random);
  }

  void Run(const xnnpack::Kernels& kernels, const LaneView& lane, uint32_t row_end) {
    MixSpec spec;
    spec.scale = 1.0f / std::sqrt(static_cast<float>(width));
    kernels.mix(lane, spec, q.data(), width, positions.data(),
                static_cast<uint32_t>(positions.size()), 0, row_end, partials.data(),
                scratch.data());
  }
};

// Two threads that start together and are waited for; the second spins, as a thread pool does.
class Pair {
 public:
  Pair() : helper_([this] { Loop(); }) {}
  ~Pair() {
    stop_ = true;
    helper_.join();
  }
  template <typename Fn>
  void Run(uint32_t threads, const Fn& half) {
    if (threads == 1) {
      half(0);
      half(1);
      return;
    }
    task_ = [&half] { half(1); };
    const uint64_t ticket = ++started_;
    half(0);
    while (finished_ != ticket) std::this_thread::yield();
  }

 private:
  void Loop() {
    for (uint64_t seen = 0; !stop_;) {
      if (started_ == seen) {
        std::this_thread::yield();
        continue;
      }
      seen = started_;
      task_();
      finished_ = seen;
    }
  }
  std::function<void()> task_;
  std::atomic<uint64_t> started_{0}, finished_{0};
  std::atomic<bool> stop_{false};
  std::thread helper_;
};

struct Options {
  bool json = false;
  bool resident = false;  // rows stay in the caches: what computing alone takes
  uint32_t rows = 0;      // 0: 4096 and 16384
  double seconds = 0.5;
  std::string only;  // empty: everything; else the lines whose name contains it

  bool Skips(const char* kernel, const char* shape, RowCodec codec, uint32_t threads) const {
    const std::string name = std::string(kernel) + " " + shape + " " + RowCodecName(codec) + " x" +
                             std::to_string(threads);
    return name.find(only) == std::string::npos;
  }
};

void Print(const Options& options, const std::string& text, const std::string& json) {
  static bool first = true;
  if (options.json) std::printf("%s%s", first ? "" : ",\n", json.c_str());
  if (!options.json) std::printf("%s\n", text.c_str());
  first = false;
}

void BenchDecode(const Options& options, const xnnpack::Kernels& kernels, const Shape& shape,
                 RowCodec codec, uint32_t rows, uint32_t threads, Pair& pair,
                 const std::vector<uint64_t>& stream) {
  if (options.Skips("decode", shape.name, codec, threads)) return;
  const uint64_t layer_bytes = shape.lanes * rows * shape.RowBytes(codec);
  // Enough copies that each one has left the caches when its turn comes again.
  const uint32_t copies =
      options.resident ? 1 : static_cast<uint32_t>(CeilDiv(uint64_t{160} << 20, layer_bytes)) + 1;
  std::vector<Lane> lanes;
  for (uint32_t i = 0; i < copies * shape.lanes; ++i)
    lanes.emplace_back(kernels, shape, codec, rows, i % shape.lanes);
  std::vector<Caller> callers;
  for (int i = 0; i < 2; ++i) callers.emplace_back(shape, shape.group);
  for (Caller& caller : callers)
    caller.positions.assign(shape.group, static_cast<int32_t>(rows - 1));
  Samples mix;
  double best_stream = 0;
  const auto until = Clock::now() + std::chrono::duration<double>(options.seconds);
  for (uint32_t turn = 0; turn < 5 || Clock::now() < until; ++turn) {
    const Lane* at = &lanes[turn % (lanes.size() / shape.lanes) * shape.lanes];
    const Timer timer(threads > 1);
    pair.Run(threads, [&](uint32_t half) {
      for (uint32_t i = half * shape.lanes / 2; i < (half + 1) * shape.lanes / 2; ++i)
        callers[half].Run(kernels, at[i].view, rows);
    });
    mix.seconds.push_back(timer.Seconds());
    std::atomic<double> rates[2] = {0, 0};
    const size_t words = stream.size() / 2, part = words / 4 / 8 * 8;
    const auto read = [&](uint32_t half) {
      const size_t begin = half * words + turn % 4 * part;
      rates[half] = ReadStream(stream, begin, begin + part, threads > 1);
    };
    if (threads == 1) read(0);
    if (threads == 2) pair.Run(2, read);
    best_stream = std::max(best_stream, rates[0] + rates[1]);
  }
  const double bytes = static_cast<double>(layer_bytes);
  const double operations =
      2.0 * shape.lanes * shape.group * rows * (shape.query_width() + shape.value_width);
  const double median = mix.Quantile(0.5), best = mix.Quantile(0);
  char text[256], json[384];
  std::snprintf(text, sizeof(text),
                "%s decode  %-7s %6u rows %u thread%s  median %8.0f us  best %8.0f us  %6.1f GB/s  "
                "stream %6.1f GB/s  share %.2f  %6.1f GFLOP/s",
                shape.name, RowCodecName(codec), rows, threads, threads == 1 ? " " : "s",
                median * 1e6, best * 1e6, bytes / best / 1e9, best_stream,
                bytes / best / 1e9 / best_stream, operations / best / 1e9);
  std::snprintf(json, sizeof(json),
                "{\"kernel\":\"decode\",\"shape\":\"%s\",\"kv\":\"%s\",\"rows\":%u,\"threads\":%u,"
                "\"median_us\":%."
                "1f,\"best_us\":%.1f,"
                "\"gb_per_s\":%.2f,\"stream_gb_per_s\":%.2f,\"gflop_per_s\":%.1f}",
                shape.name, RowCodecName(codec), rows, threads, median * 1e6, best * 1e6,
                bytes / best / 1e9, best_stream, operations / best / 1e9);
  Print(options, text, json);
}

// The last 512 tokens of `rows` rows, in tiles of `queries` queries; one thread, one lane.
void BenchPrefill(const Options& options, const xnnpack::Kernels& kernels, const Shape& shape,
                  RowCodec codec, uint32_t rows, uint32_t queries) {
  if (options.Skips("prefill", shape.name, codec, 1)) return;
  const Lane lane(kernels, shape, codec, rows, 1);
  Caller caller(shape, queries);
  const uint32_t tokens = queries / shape.group, chunk = std::min(rows, 512u);
  Samples samples;
  double operations = 0;
  const auto until = Clock::now() + std::chrono::duration<double>(options.seconds);
  for (uint32_t turn = 0; turn < 3 || Clock::now() < until; ++turn) {
    operations = 0;
    const Timer timer;
    for (uint32_t token = rows - chunk; token + tokens <= rows; token += tokens) {
      for (uint32_t i = 0; i < queries; ++i) {
        caller.positions[i] = static_cast<int32_t>(token + i / shape.group);
        operations += 2.0 * (shape.query_width() + shape.value_width) * (caller.positions[i] + 1);
      }
      caller.Run(kernels, lane.view, token + tokens);
    }
    samples.seconds.push_back(timer.Seconds());
  }
  const double best = operations / samples.Quantile(0) / 1e9,
               median = operations / samples.Quantile(0.5) / 1e9;
  char text[256], json[256];
  std::snprintf(text, sizeof(text),
                "%s prefill %-7s %6u rows tile %3u  median %6.1f GFLOP/s  best %6.1f GFLOP/s",
                shape.name, RowCodecName(codec), rows, queries, median, best);
  std::snprintf(json, sizeof(json),
                "{\"kernel\":\"prefill\",\"shape\":\"%s\",\"kv\":\"%s\",\"rows\":%u,\"tile\":%u,"
                "\"median_gflop_per_s\":%.1f,"
                "\"best_gflop_per_s\":%.1f}",
                shape.name, RowCodecName(codec), rows, queries, median, best);
  Print(options, text, json);
}

// --- linear attention

struct LinearShape {
  const char* name;
  attention::Decay decay;
  attention::StateUpdate update;
  uint32_t heads, key_width, value_width;
  double operations;  // on each number of the state, a token
  uint64_t StateFloats() const { return uint64_t{heads} * key_width * value_width; }
};
constexpr LinearShape kLinearShapes[] = {
    {"wkv7", attention::Decay::kChannel, attention::StateUpdate::kRemoval, 32, 64, 64, 8},
    {"gla", attention::Decay::kChannel, attention::StateUpdate::kAdditive, 32, 64, 64, 4},
    {"gated_delta", attention::Decay::kHead, attention::StateUpdate::kDelta, 16, 128, 128, 8},
    {"lightning", attention::Decay::kHead, attention::StateUpdate::kAdditive, 16, 128, 128, 4},
    {"mamba1", attention::Decay::kElement, attention::StateUpdate::kAdditive, 1, 16, 5120, 5}};

// Floats that begin on a cache line, as the runtime's do.
class Rows {
 public:
  void Resize(size_t count) { memory_.resize(count + kLine), data_ = Aligned(); }
  float& operator[](size_t i) { return data_[i]; }
  std::span<float> all() { return {data_, memory_.size() - kLine}; }

 private:
  static constexpr size_t kLine = 16;
  float* Aligned() {
    const auto at = reinterpret_cast<uintptr_t>(memory_.data()) / sizeof(float);
    return memory_.data() + (kLine - at % kLine) % kLine;
  }
  std::vector<float> memory_;
  float* data_ = nullptr;
};

// A layer of linear attention: inputs of all heads side by side in a token's row, as the runtime
// has them, and as many states as layers take turns.
class LinearLayer {
 public:
  LinearLayer(const LinearShape& shape, uint32_t tokens, uint32_t copies)
      : shape_(shape), tokens_(tokens) {
    state_.Resize(copies * shape.StateFloats());
    spec_.key_width = shape.key_width;
    spec_.value_width = shape.value_width;
    spec_.decay = shape.decay;
    spec_.update = shape.update;
    const uint32_t keys = shape.heads * shape.key_width, values = shape.heads * shape.value_width;
    const bool element = shape.decay == attention::Decay::kElement;
    const bool by_channel = shape.decay == attention::Decay::kChannel;
    const float unit = 1.0f / std::sqrt(static_cast<float>(shape.key_width));
    for (Rows* rows : {&query_, &key_, &removal_, &write_}) Fill(rows, keys, -unit, unit);
    Fill(&value_, values, -1.0f, 1.0f);
    Fill(&log_decay_, by_channel ? keys : shape.heads, -0.2f, -0.01f);
    Fill(&strength_, element ? values : shape.heads, 0.05f, 0.5f);
    Fill(&rate_, keys * shape.value_width / tokens + 1, -8.0f, -1.0f);
    out_.Resize(uint64_t{tokens} * values);
    block_ = std::min(shape.value_width, attention::kMostCallValues);
    for (int i = 0; i < 2; ++i) {
      scratch_[i] = GuardedMemory(attention::LinearMixScratchBytes(spec_), 64);
    }
  }

  uint32_t tasks() const { return shape_.heads * (shape_.value_width / block_); }

  void Run(const xnnpack::Kernels& kernels, uint32_t copy, uint32_t half, uint32_t task) {
    const uint32_t blocks = shape_.value_width / block_;
    const uint32_t head = task / blocks, column = task % blocks * block_;
    const uint32_t keys = shape_.heads * shape_.key_width, key = head * shape_.key_width;
    const uint32_t values = shape_.heads * shape_.value_width;
    const uint32_t value = head * shape_.value_width + column;
    attention::LinearMixCall call;
    call.tokens = tokens_;
    call.values = block_;
    call.query = {&query_[key], keys};
    call.key = {&key_[key], keys};
    call.removal = {&removal_[key], keys};
    call.write = {&write_[key], keys};
    call.value = {&value_[value], values};
    const bool element = shape_.decay == attention::Decay::kElement;
    const bool by_channel = shape_.decay == attention::Decay::kChannel;
    call.log_decay = {&log_decay_[by_channel ? key : head], by_channel ? keys : shape_.heads};
    call.strength = {&strength_[element ? value : head], element ? values : shape_.heads};
    call.rate = &rate_[element ? value : 0];
    call.rate_stride = values;
    call.state = &state_[copy * shape_.StateFloats() +
                         uint64_t{head} * shape_.key_width * shape_.value_width + column];
    call.state_stride = shape_.value_width;
    call.out = &out_[value];
    call.out_stride = values;
    kernels.linear_mix(spec_, call, scratch_[half].data());
  }

 private:
  void Fill(Rows* rows, uint32_t width, float low, float high) {
    std::uniform_real_distribution<float> uniform(low, high);
    rows->Resize(uint64_t{tokens_} * width);
    for (float& x : rows->all()) x = uniform(random_);
  }

  const LinearShape& shape_;
  uint32_t tokens_, block_ = 0;
  std::mt19937 random_{3};
  attention::LinearMixSpec spec_;
  Rows state_, query_, key_, removal_, write_, value_, log_decay_, strength_, rate_, out_;
  GuardedMemory scratch_[2];
};

void BenchLinear(const Options& options, const xnnpack::Kernels& kernels, const LinearShape& shape,
                 uint32_t tokens, uint32_t threads, Pair& pair,
                 const std::vector<uint64_t>& stream) {
  const std::string name = std::string("linear ") + shape.name + " " + std::to_string(tokens) +
                           " x" + std::to_string(threads);
  if (name.find(options.only) == std::string::npos) return;
  const uint32_t copies = options.resident ? 1 : tokens == 1 ? 24 : 4;
  LinearLayer layer(shape, tokens, copies);
  Samples samples;
  double best_stream = 0;
  const auto until = Clock::now() + std::chrono::duration<double>(options.seconds);
  for (uint32_t turn = 0; turn < 5 || Clock::now() < until; ++turn) {
    const Timer timer(threads > 1);
    for (uint32_t copy = 0; copy < copies; ++copy) {
      pair.Run(threads, [&](uint32_t half) {
        const uint32_t tasks = layer.tasks();
        for (uint32_t i = half * tasks / 2; i < (half + 1) * tasks / 2; ++i) {
          layer.Run(kernels, copy, half, i);
        }
      });
    }
    samples.seconds.push_back(timer.Seconds() / copies);
    const size_t part = size_t{1} << 20;
    if (tokens == 1) best_stream = std::max(best_stream, ReadStream(stream, 0, part, threads > 1));
  }
  const double median = samples.Quantile(0.5), best = samples.Quantile(0);
  const double moved = 2.0 * sizeof(float) * static_cast<double>(shape.StateFloats());
  const double rate = shape.operations * static_cast<double>(shape.StateFloats()) * tokens / best;
  char text[256], json[256], share[64] = "";
  if (tokens == 1) {
    std::snprintf(share, sizeof(share), "  %6.1f GB/s of state, share of stream %.2f",
                  moved / best / 1e9, moved / best / 1e9 / best_stream);
  }
  std::snprintf(text, sizeof(text),
                "linear %-11s %4u tokens %u thread%s  median %8.1f us  best %8.1f us  %6.1f "
                "GFLOP/s%s",
                shape.name, tokens, threads, threads == 1 ? " " : "s", median * 1e6, best * 1e6,
                rate / 1e9, share);
  std::snprintf(json, sizeof(json),
                "{\"kernel\":\"linear\",\"shape\":\"%s\",\"tokens\":%u,\"threads\":%u,"
                "\"median_us\":%.1f,\"best_us\":%.1f,\"gflop_per_s\":%.1f}",
                shape.name, tokens, threads, median * 1e6, best * 1e6, rate / 1e9);
  Print(options, text, json);
}

// Nanoseconds per element of the row-wise kernels on a row that stays in the cache.
void BenchPointwise(const Options& options, const xnnpack::Kernels& kernels) {
  constexpr uint32_t kRow = 2048;
  std::vector<float> x(kRow, 0.5f), y(kRow, 0.25f), out(kRow);
  const auto& p = kernels.pointwise;
  const auto time = [&](const char* stem, const auto& call) {
    Samples samples;
    for (int turn = 0; turn < 50; ++turn) {
      const Timer timer;
      for (int i = 0; i < 20; ++i) call();
      samples.seconds.push_back(timer.Seconds() / 20);
    }
    char text[128], json[128];
    std::snprintf(text, sizeof(text), "row of %u  %-10s %7.2f us", kRow, stem,
                  samples.Quantile(0) * 1e6);
    std::snprintf(json, sizeof(json), "{\"kernel\":\"%s\",\"width\":%u,\"best_us\":%.3f}", stem,
                  kRow, samples.Quantile(0) * 1e6);
    Print(options, text, json);
  };
  time("softplus", [&] { p.activation[7](x.data(), nullptr, out.data(), kRow); });
  time("exp", [&] { p.activation[8](x.data(), nullptr, out.data(), kRow); });
  time("multiply_add", [&] { p.multiply_add(x.data(), y.data(), y.data(), out.data(), kRow); });
  time("head_product",
       [&] { p.head_product(x.data(), y.data(), y.data(), out.data(), kRow / 64, 64); });
  const float* const taps[] = {x.data(), y.data(), x.data(), y.data()};
  const std::vector<float> tap_weights(4 * kRow, 0.1f);
  time("convolve_4", [&] { p.convolve(taps, 4, tap_weights.data(), nullptr, out.data(), kRow); });
  time("rms_norm",
       [&] { p.rms_norm(x.data(), kRow, out.data(), kRow, 1, kRow, y.data(), nullptr, 1e-5f); });
  time("layer_norm",
       [&] { p.layer_norm(x.data(), kRow, out.data(), kRow, 1, kRow, y.data(), y.data(), 1e-5f); });
  time("rope", [&] { p.rope(out.data(), kRow, ops::RopeLayout::kHalfSplit, y.data()); });
  time("silu", [&] { p.activation[0](x.data(), y.data(), out.data(), kRow); });
  time("gelu_erf", [&] { p.activation[1](x.data(), y.data(), out.data(), kRow); });
  time("gelu_tanh", [&] { p.activation[2](x.data(), y.data(), out.data(), kRow); });
  time("add", [&] { p.add(x.data(), y.data(), out.data(), kRow); });
  time("softcap", [&] { p.softcap(x.data(), 30.0f, out.data(), kRow); });
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      options.json = true;
    } else if (std::strcmp(argv[i], "--resident") == 0) {
      options.resident = true;
    } else if (std::strcmp(argv[i], "--rows") == 0 && i + 1 < argc) {
      options.rows = static_cast<uint32_t>(std::strtoul(argv[++i], nullptr, 10));
    } else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
      options.only = argv[++i];
    } else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
      options.seconds = std::strtod(argv[++i], nullptr);
    } else {
      std::fprintf(stderr,
                   "usage: kernel_bench [--json] [--resident] [--rows N] [--only TEXT] [--seconds "
                   "S per line]\n");
      return 2;
    }
  }
  const xnnpack::Kernels& kernels = xnnpack::BestKernels();
  if (options.json)
    std::printf("{\"isa\":\"%s\",\"codes\":\"%s\",\"results\":[\n", kernels.isa,
                kernels.code_products);
  if (!options.json)
    std::printf(
        "%s, codes as %s; gqa: 32 query heads on 8 lanes of width 64; mla: 16 heads on a latent of "
        "512 + 64\n",
        kernels.isa, kernels.code_products);
  const std::vector<uint64_t> stream(size_t{32} << 20, 1);  // 256 MiB
  const std::vector<uint32_t> all_rows =
      options.rows > 0 ? std::vector<uint32_t>{options.rows} : std::vector<uint32_t>{4096, 16384};
  {
    Pair pair;
    for (const uint32_t rows : all_rows) {
      for (const RowCodec codec : kCodecs) {
        for (const uint32_t threads : {1u, 2u})
          BenchDecode(options, kernels, kGrouped, codec, rows, threads, pair, stream);
        BenchDecode(options, kernels, kLatent, codec, rows, 1, pair, stream);
      }
    }
    for (const LinearShape& shape : kLinearShapes) {
      for (const uint32_t tokens : {1u, 128u, 512u}) {
        for (const uint32_t threads : {1u, 2u}) {
          BenchLinear(options, kernels, shape, tokens, threads, pair, stream);
        }
      }
    }
  }
  for (const RowCodec codec : kCodecs) {
    for (const uint32_t queries : {16u, 64u, 256u}) {
      BenchPrefill(options, kernels, kGrouped, codec, all_rows[0], queries);
      BenchPrefill(options, kernels, kLatent, codec, all_rows[0], queries);
    }
  }
  if (options.only.empty()) BenchPointwise(options, kernels);
  if (options.json) std::printf("\n]}\n");
  return 0;
}

}  // namespace
}  // namespace headroom

int main(int argc, char** argv) { return headroom::Main(argc, argv); }
