// The parts of the tiny file's graph that the hostile-file tests bend.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>

#include "model/hostile.h"

namespace headroom::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename E>
E Unknown() {
  return static_cast<E>(200);
}

inline fb::AttentionPlanT& Plan(fb::ModelT& graph) { return *graph.attentions[0]; }
inline fb::ProjectionT& Projection(fb::ModelT& graph) { return *Plan(graph).projection; }
inline fb::QueryT& Query(fb::ModelT& graph) { return *Projection(graph).query; }
inline fb::StreamT& Key(fb::ModelT& graph) { return *Projection(graph).streams[0]; }
inline fb::StreamT& ValueStream(fb::ModelT& graph) { return *Projection(graph).streams[1]; }
inline fb::ViewGroupT& Group(fb::ModelT& graph) { return *Plan(graph).view->groups[0]; }
inline fb::SpanTermT& Window(fb::ModelT& graph) { return *Group(graph).terms[0]; }
inline fb::AxisSpanT& Axis(fb::ModelT& graph) { return *Window(graph).axes[0]; }
inline fb::SoftmaxMixT& Softmax(fb::ModelT& graph) { return *Plan(graph).mix.AsSoftmaxMix(); }
inline fb::RopeT& Rope(fb::ModelT& graph) { return *graph.ropes[0]; }
inline fb::StoreT& Store(fb::ModelT& graph) {
  if (!Plan(graph).store) Plan(graph).store = std::make_unique<fb::StoreT>();
  return *Plan(graph).store;
}
inline fb::RetentionT& Retention(fb::ModelT& graph, fb::RetentionKind kind) {
  Store(graph).retention = std::make_unique<fb::RetentionT>();
  Store(graph).retention->kind = kind;
  return *Store(graph).retention;
}
inline fb::CodecT& KeyCodec(fb::ModelT& graph, fb::CodecKind kind) {
  Store(graph).key_codec = std::make_unique<fb::CodecT>();
  Store(graph).key_codec->kind = kind;
  return *Store(graph).key_codec;
}
inline fb::HeadsT& Heads(fb::ModelT& graph) {
  Plan(graph).heads = std::make_unique<fb::HeadsT>();
  return *Plan(graph).heads;
}

}  // namespace headroom::test
