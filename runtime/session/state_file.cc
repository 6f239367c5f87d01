// Session files: header, tokens, the states of lanes that have one, the spans of rows in KvStore
// order, then the recurrent state, all little-endian. Checkpoints are not saved.
#include <algorithm>
#include <cstring>
#include <span>

#include <xxhash.h>

#include "base/platform.h"
#include "session/session.h"

namespace headroom::session {
namespace {

constexpr char kMagic[8] = {'H', 'R', 'S', 'E', 'S', 'S', 'N', '\0'};
constexpr uint32_t kLayoutVersion = 2;

struct Header {
  char magic[8];
  uint32_t layout_version;
  uint32_t lane_states;
  uint64_t model_digest;
  uint32_t tokens;
  uint32_t held;  // recurrent state: tokens that rows and state know of; otherwise 0
  uint64_t state_bytes;
  uint64_t checksum;         // XXH3-64 of everything after the header
  uint64_t form;             // how rows are kept: Session::FormDigest
  uint64_t header_checksum;  // XXH3-64 of the header before this field
};
static_assert(sizeof(Header) == 64);

uint64_t HeaderChecksum(const Header& header) {
  return XXH3_64bits(&header, offsetof(Header, header_checksum));
}

Header Describe(uint64_t digest, uint64_t form, uint32_t tokens, uint64_t state_bytes) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.layout_version = kLayoutVersion;
  header.form = form;
  header.model_digest = digest;
  header.tokens = tokens;
  header.state_bytes = state_bytes;
  return header;
}

Status CheckHeader(const Header& header, uint64_t file_bytes) {
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    return Status::Make(StatusCode::kCorrupt, "not a session file");
  }
  if (header.header_checksum != HeaderChecksum(header)) {
    return Status::Make(StatusCode::kCorrupt, "session file: header checksum differs");
  }
  if (header.layout_version != kLayoutVersion) {
    return Status::Make(StatusCode::kNewerFormat, "session file: layout version %u, this build %u",
                        header.layout_version, kLayoutVersion);
  }
  // Both terms are bounded by the file before they are added.
  if (header.tokens > file_bytes / sizeof(int32_t) || header.state_bytes > file_bytes ||
      sizeof(Header) + uint64_t{header.tokens} * sizeof(int32_t) +
              uint64_t{header.lane_states} * sizeof(store::LaneState) + header.state_bytes !=
          file_bytes) {
    return Status::Make(StatusCode::kCorrupt, "session file: %u tokens + %llu bytes != file %llu",
                        header.tokens, static_cast<unsigned long long>(header.state_bytes),
                        static_cast<unsigned long long>(file_bytes));
  }
  return {};
}

}  // namespace

// Of everything that says what lies in the spans and what becomes of it, but not of capacities
// (unless all rows of a ring are seen).
uint64_t Session::FormDigest() const {
  XXH3_state_t hash;
  XXH3_64bits_reset(&hash);
  auto add = [&](uint32_t value) { XXH3_64bits_update(&hash, &value, sizeof(value)); };
  for (const store::LayerSpec& layer : plan_.layers) {
    for (const store::LaneGroup& group : layer.groups) {
      const store::LaneSpec& lane = group.spec;
      add(group.lanes);
      for (const store::LaneArray& array : {lane.key, lane.tail, lane.value}) {
        add(static_cast<uint32_t>(array.codec));
        add(array.width);
      }
      for (const uint32_t value :
           {lane.exact_rows, uint32_t{lane.rotated}, uint32_t{lane.mean}, lane.sinks, lane.left,
            lane.vote.rows, lane.vote.observe, uint32_t{lane.vote.accumulate}, lane.vote.pool,
            uint32_t{lane.vote.pool_max}, lane.mean ? lane.capacity : 0u}) {
        add(value);
      }
      if (lane.relative) add(1);  // files of lanes that are not are older than the word
    }
  }
  for (const uint64_t floats : engine_->lowered().states) add(static_cast<uint32_t>(floats));
  return XXH3_64bits_digest(&hash);
}

Status Session::Save(const char* path) const {
  const auto recurrent = states_.present();
  const uint64_t span_bytes = store_.SpanBytes(held_);
  const uint64_t state_bytes = span_bytes + recurrent.size();
  const uint64_t token_bytes = position_ * sizeof(int32_t);
  const auto states = store_.states();
  HR_ASSIGN_OR_RETURN(auto file,
                      platform::FileBuilder::Create(
                          path, sizeof(Header) + token_bytes + states.size_bytes() + state_bytes));
  std::byte* out = file.data() + sizeof(Header);
  std::memcpy(out, tokens_, token_bytes);
  out += token_bytes;
  out = std::ranges::copy(std::as_bytes(states), out).out;
  store_.ForEachSpan(
      held_,
      [](void* context, std::span<std::byte> bytes) {
        std::byte*& out = *static_cast<std::byte**>(context);
        std::memcpy(out, bytes.data(), bytes.size());
        out += bytes.size();
        return true;
      },
      &out);
  std::ranges::copy(recurrent, out);
  Header header = Describe(engine_->model().digest, FormDigest(), position_, state_bytes);
  header.lane_states = static_cast<uint32_t>(states.size());
  if (!states_.empty()) header.held = held_;
  header.checksum =
      XXH3_64bits(file.data() + sizeof(Header), token_bytes + states.size_bytes() + state_bytes);
  header.header_checksum = HeaderChecksum(header);
  std::memcpy(file.data(), &header, sizeof(header));
  return file.Commit();
}

Status Session::Restore(const char* path) {
  HR_ASSIGN_OR_RETURN(const auto file, platform::FileMapping::OpenPath(path));
  Header header;
  if (file.bytes() < sizeof(header)) {
    return Status::Make(StatusCode::kCorrupt, "session file: %llu bytes < header %zu",
                        static_cast<unsigned long long>(file.bytes()), sizeof(header));
  }
  std::memcpy(&header, file.data(), sizeof(header));
  HR_RETURN_IF_ERROR(CheckHeader(header, file.bytes()));
  if (header.model_digest != engine_->model().digest) {
    return Status::Make(StatusCode::kMismatch,
                        "session file of another model (%016llx, not %016llx)",
                        static_cast<unsigned long long>(header.model_digest),
                        static_cast<unsigned long long>(engine_->model().digest));
  }
  if (header.form != FormDigest() || header.lane_states != store_.states().size()) {
    return Status::Make(StatusCode::kMismatch,
                        "session file: its rows are kept in another way than this session's, "
                        "cache %.60s",
                        plan_.profile.c_str());
  }
  if (header.tokens > plan_.context) {
    return Status::Make(StatusCode::kContextFull, "session file: %u tokens > context %u",
                        header.tokens, plan_.context);
  }
  const uint32_t count = header.tokens, held = states_.empty() ? count : header.held;
  if (held > count) {
    return Status::Make(StatusCode::kCorrupt, "session file: state of %u tokens > %u tokens", held,
                        count);
  }
  const std::byte* body = file.data() + sizeof(header);
  if (XXH3_64bits(body, file.bytes() - sizeof(header)) != header.checksum) {
    return Status::Make(StatusCode::kCorrupt, "session file: checksum differs");
  }
  const std::span<const int32_t> tokens(reinterpret_cast<const int32_t*>(body), count);
  for (int32_t token : tokens) {
    if (token < 0 || token >= static_cast<int64_t>(engine_->model().metadata.vocabulary)) {
      return Status::Make(StatusCode::kCorrupt, "session file: token %d, vocabulary %u", token,
                          engine_->model().metadata.vocabulary);
    }
  }
  const std::byte* in = body + tokens.size_bytes();
  const std::span<const store::LaneState> states(reinterpret_cast<const store::LaneState*>(in),
                                                 header.lane_states);
  in += states.size_bytes();
  if (const Status fits = store_.SetStates(states, held); !fits.ok()) {
    return Status::Make(fits.code(), "session file: %.150s", fits.message());
  }
  const uint64_t bytes = store_.SpanBytes(held) + states_.present().size();
  if (header.state_bytes != bytes) {
    store_.TakeBackStates();
    return Status::Make(StatusCode::kMismatch,
                        "session file: %llu state bytes, this model has %llu",
                        static_cast<unsigned long long>(header.state_bytes),
                        static_cast<unsigned long long>(bytes));
  }
  // Everything agrees: from here on nothing can fail.
  std::memcpy(tokens_, tokens.data(), tokens.size_bytes());
  store_.ForEachSpan(
      held,
      [](void* context, std::span<std::byte> bytes) {
        const std::byte*& in = *static_cast<const std::byte**>(context);
        std::memcpy(bytes.data(), in, bytes.size());
        in += bytes.size();
        return true;
      },
      &in);
  store_.AdoptSpans(held);
  states_.Adopt({in, states_.present().size()}, held);
  position_ = count;
  held_ = held;
  has_logits_ = false;
  return {};
}

}  // namespace headroom::session
