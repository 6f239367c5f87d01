// Session files: header, tokens, then the state's spans in KvStore order, all little-endian.
#include <cstring>
#include <span>

#include <xxhash.h>

#include "base/platform.h"
#include "session/session.h"

namespace headroom::session {
namespace {

constexpr char kMagic[8] = {'H', 'R', 'S', 'E', 'S', 'S', 'N', '\0'};
constexpr uint32_t kLayoutVersion = 1;

struct Header {
  char magic[8];
  uint32_t layout_version;
  uint32_t codec;  // RowCodec
  uint64_t model_digest;
  uint64_t tokens;
  uint64_t state_bytes;
  uint64_t checksum;  // XXH3-64 of everything after the header
  uint64_t reserved;
  uint64_t header_checksum;  // XXH3-64 of the header before this field
};
static_assert(sizeof(Header) == 64);

uint64_t HeaderChecksum(const Header& header) {
  return XXH3_64bits(&header, offsetof(Header, header_checksum));
}

Header Describe(uint64_t digest, RowCodec codec, uint32_t tokens, uint64_t state_bytes) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.layout_version = kLayoutVersion;
  header.codec = static_cast<uint32_t>(codec);
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
      sizeof(Header) + header.tokens * sizeof(int32_t) + header.state_bytes != file_bytes) {
    return Status::Make(StatusCode::kCorrupt, "session file: %llu tokens + %llu bytes != file %llu",
                        static_cast<unsigned long long>(header.tokens),
                        static_cast<unsigned long long>(header.state_bytes),
                        static_cast<unsigned long long>(file_bytes));
  }
  return {};
}

}  // namespace

Status Session::Save(const char* path) const {
  const uint64_t state_bytes = store_.SpanBytes(position_);
  const uint64_t token_bytes = position_ * sizeof(int32_t);
  HR_ASSIGN_OR_RETURN(
      auto file, platform::FileBuilder::Create(path, sizeof(Header) + token_bytes + state_bytes));
  std::byte* out = file.data() + sizeof(Header);
  std::memcpy(out, tokens_, token_bytes);
  out += token_bytes;
  store_.ForEachSpan(
      position_,
      [](void* context, std::span<std::byte> bytes) {
        std::byte*& out = *static_cast<std::byte**>(context);
        std::memcpy(out, bytes.data(), bytes.size());
        out += bytes.size();
        return true;
      },
      &out);
  Header header = Describe(engine_->model().digest, plan_.codec, position_, state_bytes);
  header.checksum = XXH3_64bits(file.data() + sizeof(Header), token_bytes + state_bytes);
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
  if (header.codec != static_cast<uint32_t>(plan_.codec)) {
    return Status::Make(StatusCode::kMismatch, "session file: cache codec %u, this session %s",
                        header.codec, RowCodecName(plan_.codec));
  }
  if (header.tokens > plan_.context) {
    return Status::Make(StatusCode::kContextFull, "session file: %llu tokens > context %u",
                        static_cast<unsigned long long>(header.tokens), plan_.context);
  }
  const auto count = static_cast<uint32_t>(header.tokens);
  if (header.state_bytes != store_.SpanBytes(count)) {
    return Status::Make(StatusCode::kMismatch,
                        "session file: %llu state bytes, this model has %llu",
                        static_cast<unsigned long long>(header.state_bytes),
                        static_cast<unsigned long long>(store_.SpanBytes(count)));
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
  // Everything agrees: from here on nothing can fail.
  std::memcpy(tokens_, tokens.data(), tokens.size_bytes());
  const std::byte* in = body + tokens.size_bytes();
  store_.ForEachSpan(
      count,
      [](void* context, std::span<std::byte> bytes) {
        const std::byte*& in = *static_cast<const std::byte**>(context);
        std::memcpy(bytes.data(), in, bytes.size());
        in += bytes.size();
        return true;
      },
      &in);
  store_.AdoptSpans(count);
  position_ = count;
  has_logits_ = false;
  return {};
}

}  // namespace headroom::session
