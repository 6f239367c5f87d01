#include "text/charsmap.h"

#include <utf8proc.h>

#include <cstring>

#include "text/utf8.h"

namespace headroom::text {
namespace {

constexpr size_t kUnitBytes = 4;
constexpr size_t kMaxClusterBytes = 5;

// Fields of a unit (darts-clone).
bool HasValue(uint32_t unit) { return unit >> 8 & 1; }
uint32_t Value(uint32_t unit) { return unit & 0x7fffffff; }
uint32_t Label(uint32_t unit) { return unit & 0x800000ff; }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

utf8proc_int32_t CodeAt(std::string_view text) {
  utf8proc_int32_t code = 0;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &code);
  return code;
}

// Bytes of the extended grapheme cluster that begins `text`, which is valid.
size_t ClusterBytes(std::string_view text) {
  utf8proc_int32_t state = 0;
  size_t at = ScanUtf8(text).bytes;
  utf8proc_int32_t before = CodeAt(text);
  while (at < text.size()) {
    const utf8proc_int32_t code = CodeAt(text.substr(at));
    if (utf8proc_grapheme_break_stateful(before, code, &state)) break;
    before = code;
    at += ScanUtf8(text.substr(at)).bytes;
  }
  return at;
}

}  // namespace

Status Charsmap::Build(std::string_view table) {
  uint32_t bytes = 0;  // of the double array; little-endian, as all machines we run on
  if (table.size() >= kUnitBytes) std::memcpy(&bytes, table.data(), kUnitBytes);
  const size_t rest = table.size() < kUnitBytes ? 0 : table.size() - kUnitBytes;
  if (bytes == 0 || bytes % kUnitBytes != 0 || bytes >= rest || table.back() != '\0') {
    return Status::Make(StatusCode::kCorrupt,
                        "tokenizer: a charsmap of %zu bytes with a double array of %u",
                        table.size(), bytes);
  }
  units_ = table.substr(kUnitBytes, bytes);
  pool_ = table.substr(kUnitBytes + bytes);
  return {};
}

// Zero beyond the end: no label, no value.
uint32_t Charsmap::Unit(size_t place) const {
  uint32_t unit = 0;
  if (place < units_.size() / kUnitBytes)
    std::memcpy(&unit, units_.data() + place * kUnitBytes, kUnitBytes);
  return unit;
}

Charsmap::Found Charsmap::Find(std::string_view text, bool longest) const {
  Found found;
  size_t place = Offset(Unit(0));
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const uint32_t unit = Unit(place ^ byte);
    if (byte == 0 || Label(unit) != byte) break;
    place ^= byte ^ Offset(unit);
    const size_t value = Value(Unit(place));
    if (!HasValue(unit) || value >= pool_.size()) continue;
    found = {i + 1, std::string_view(pool_.data() + value)};  // ends within the pool
    if (!longest) break;
  }
  return found;
}

size_t Charsmap::ApplyLongest(std::string_view text, std::string& out) const {
  const Found found = Find(text, true);
  const size_t bytes = found.bytes > 0 ? found.bytes : ScanUtf8(text).bytes;
  out.append(found.bytes > 0 ? found.becomes : text.substr(0, bytes));
  return bytes;
}

void Charsmap::ApplyCluster(std::string_view cluster, std::string& out) const {
  if (cluster.size() <= kMaxClusterBytes) {
    if (const Found found = Find(cluster, false); found.bytes > 0) {
      out.append(found.becomes);
      return;
    }
  }
  while (!cluster.empty()) {
    const std::string_view character = cluster.substr(0, ScanUtf8(cluster).bytes);
    const Found found = Find(character, false);
    out.append(found.bytes > 0 ? found.becomes : character);
    cluster.remove_prefix(character.size());
  }
}

void Charsmap::Apply(std::string_view text, bool graphemes, size_t limit, std::string& out) const {
  while (!text.empty() && out.size() <= limit) {
    std::string_view run = text.substr(0, Utf8Run(text, true));
    text.remove_prefix(run.size());
    while (!run.empty() && out.size() <= limit) {
      const size_t bytes = graphemes ? ClusterBytes(run) : ApplyLongest(run, out);
      if (graphemes) ApplyCluster(run.substr(0, bytes), out);
      run.remove_prefix(bytes);
    }
    const size_t broken = Utf8Run(text, false);
    out.append(text.substr(0, broken));
    text.remove_prefix(broken);
  }
}

}  // namespace headroom::text
