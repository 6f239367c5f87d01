#include "convert/profiles.h"

#include <algorithm>
#include <cstring>

#include "base/math.h"
#include "base/platform.h"
#include "model/container.h"

namespace headroom::convert {
namespace {

using model::Retention;
using model::RoleSpec;

constexpr uint64_t kCopyBytes = 16u << 20;

std::unique_ptr<fb::CodecT> ToSchema(RowCodec codec, const RoleSpec& role) {
  constexpr fb::CodecKind kKinds[] = {fb::CodecKind::F32, fb::CodecKind::F16,
                                      fb::CodecKind::I8Token, fb::CodecKind::Block32I8,
                                      fb::CodecKind::Block32I4};
  auto to = std::make_unique<fb::CodecT>();
  to->kind = kKinds[static_cast<int>(codec)];
  to->first_f16_tokens = role.exact_rows;
  to->hadamard = role.rotate ? 1 : 0;
  return to;
}

std::unique_ptr<fb::RetentionT> RetentionToSchema(const RoleSpec& role) {
  constexpr fb::RetentionKind kKinds[] = {fb::RetentionKind::AsViewed, fb::RetentionKind::Ring,
                                          fb::RetentionKind::RingCompensated,
                                          fb::RetentionKind::Budget, fb::RetentionKind::Budget};
  auto to = std::make_unique<fb::RetentionT>();
  to->kind = kKinds[static_cast<int>(role.retention)];
  to->sinks = role.sinks;
  to->share = role.share;
  if (role.relative) to->positions = fb::PositionPolicy::Compact;
  const bool votes = to->kind == fb::RetentionKind::Budget;
  (votes ? to->capacity : to->recent) = role.rows;
  if (!votes) return to;
  to->score = role.retention == Retention::kObserved ? fb::ScoreSource::ObservationWindow
                                                     : fb::ScoreSource::Accumulated;
  to->observation_window = role.observe;
  to->pool = role.pool;
  to->pool_max = role.pool_max;
  return to;
}

std::unique_ptr<fb::RoleT> ToSchema(const RoleSpec& role) {
  auto to = std::make_unique<fb::RoleT>();
  to->key_codec = ToSchema(role.keys, role);
  to->value_codec = ToSchema(role.values, role);
  to->key_rank = role.key_rank;
  to->value_rank = role.value_rank;
  if (role.retention != Retention::kAsViewed) to->retention = RetentionToSchema(role);
  return to;
}

// The index of the role in `roles`, where it is put if need be.
Result<uint8_t> IndexOf(const RoleSpec& role, std::vector<RoleSpec>* roles) {
  const auto found = std::find(roles->begin(), roles->end(), role);
  const auto index = static_cast<size_t>(found - roles->begin());
  if (index > UINT8_MAX) {
    return Status::Make(StatusCode::kUnsupported, "profiles of more than %d different roles",
                        UINT8_MAX + 1);
  }
  if (found == roles->end()) roles->push_back(role);
  return static_cast<uint8_t>(index);
}

Status AddProfile(const model::Model& model, const MeasuredProfile& from,
                  std::vector<RoleSpec>* roles, fb::ModelT* graph) {
  HR_ASSIGN_OR_RETURN(const plan::Profile profile, plan::ParseProfile(model, from.policy));
  auto to = std::make_unique<fb::ProfileT>();
  to->name = from.name;
  for (size_t i = 0; i < model.attentions.size(); ++i) {
    if (model.attentions[i].source_attention != model::kNone) continue;
    auto lanes = std::make_unique<fb::LaneRolesT>();
    lanes->attention = static_cast<uint32_t>(i);
    for (uint32_t head = 0; head < model.attentions[i].kv_heads(); ++head) {
      HR_ASSIGN_OR_RETURN(const uint8_t role, IndexOf(profile.RoleOf(i, head), roles));
      lanes->roles.push_back(role);
    }
    to->lanes.push_back(std::move(lanes));
  }
  for (const MeasuredQuality& quality : from.quality) {
    auto measured = std::make_unique<fb::QualityT>();
    measured->metric = quality.metric;
    measured->task = quality.task;
    measured->context_tokens = quality.context_tokens;
    measured->value = quality.value;
    measured->reference = quality.reference;
    to->quality.push_back(std::move(measured));
  }
  graph->profiles.push_back(std::move(to));
  return {};
}

std::vector<std::byte> Serialise(const fb::ModelT& graph) {
  flatbuffers::FlatBufferBuilder builder;
  fb::FinishModelBuffer(builder, fb::Model::Pack(builder, &graph));
  const auto* begin = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {begin, begin + builder.GetSize()};
}

uint64_t SegmentsBegin(uint64_t graph_bytes) {
  return RoundUp(model::kHeaderBytes + graph_bytes, model::kSegmentAlignment);
}

// Header and graph of the new file; segments move by `moved`. Offsets are fixed-width,
// so the graph keeps its size when they change.
std::vector<std::byte> Head(const model::Header& before, fb::ModelT* graph, int64_t* moved,
                            uint64_t* file_bytes) {
  uint64_t first = before.file_bytes, end = 0;
  for (const fb::Segment& segment : graph->segments) first = std::min(first, segment.offset());
  *moved = static_cast<int64_t>(SegmentsBegin(Serialise(*graph).size()) - first);
  for (fb::Segment& segment : graph->segments) {
    segment = fb::Segment(segment.offset() + static_cast<uint64_t>(*moved), segment.bytes(),
                          segment.checksum());
    end = std::max(end, segment.offset() + segment.bytes());
  }
  const std::vector<std::byte> serialised = Serialise(*graph);
  model::Header header = before;
  header.graph_offset = model::kHeaderBytes;
  header.graph_bytes = serialised.size();
  header.graph_checksum = model::Checksum(serialised);
  header.file_bytes = *file_bytes = std::max(end, model::kHeaderBytes + serialised.size());
  std::vector<std::byte> head(model::kHeaderBytes + serialised.size());
  std::memcpy(head.data() + model::kHeaderBytes, serialised.data(), serialised.size());
  model::WriteHeader(header,
                     std::span<std::byte, model::kHeaderBytes>(head.data(), model::kHeaderBytes));
  return head;
}

Status CopySegments(const platform::FileMapping& from, const fb::ModelT& graph, int64_t moved,
                    platform::FileBuilder* to) {
  for (const fb::Segment& segment : graph.segments) {
    for (uint64_t done = 0; done < segment.bytes();) {
      const uint64_t bytes = std::min(kCopyBytes, segment.bytes() - done);
      const uint64_t offset = segment.offset() + done;
      const std::byte* source = from.data() + (static_cast<int64_t>(offset) - moved);
      std::memcpy(to->data() + offset, source, bytes);
      platform::Advise(source, bytes, platform::Advice::kRelease);
      HR_RETURN_IF_ERROR(to->Flush(offset, bytes));
      done += bytes;
    }
  }
  return {};
}

}  // namespace

Status WriteProfiles(const std::string& from, const std::string& to,
                     const std::vector<MeasuredProfile>& profiles) {
  HR_ASSIGN_OR_RETURN(const auto model, model::Model::OpenPath(from.c_str(), {}));
  HR_ASSIGN_OR_RETURN(const platform::FileMapping file,
                      platform::FileMapping::OpenPath(from.c_str()));
  HR_ASSIGN_OR_RETURN(const model::Header before, model::ReadHeader({file.data(), file.bytes()}));
  fb::ModelT graph;
  fb::GetModel(file.data() + before.graph_offset)->UnPackTo(&graph);
  graph.roles.clear();
  graph.profiles.clear();
  std::vector<RoleSpec> roles;
  for (const MeasuredProfile& profile : profiles) {
    HR_RETURN_IF_ERROR(AddProfile(*model, profile, &roles, &graph));
  }
  for (const RoleSpec& role : roles) graph.roles.push_back(ToSchema(role));
  int64_t moved = 0;
  uint64_t file_bytes = 0;
  const std::vector<std::byte> head = Head(before, &graph, &moved, &file_bytes);
  HR_ASSIGN_OR_RETURN(auto builder, platform::FileBuilder::Create(to.c_str(), file_bytes));
  std::memcpy(builder.data(), head.data(), head.size());
  HR_RETURN_IF_ERROR(CopySegments(file, graph, moved, &builder));
  // The loader judges what was made before it takes anything's place.
  const auto made = model::Model::OpenMemory(builder.data(), file_bytes, {});
  if (!made.ok()) return made.status();
  return builder.Commit();
}

}  // namespace headroom::convert
