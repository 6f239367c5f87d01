// Recurrent states and their checkpoints.
#include "store/state_store.h"

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <set>

namespace headroom::store {
namespace {

struct alignas(64) Line {
  std::byte bytes[64];
};

class Subject {
 public:
  explicit Subject(uint32_t slots)
      : memory_(StateStore::Bytes(kParts, slots) / sizeof(Line)),
        store(kParts, slots, std::as_writable_bytes(std::span(memory_))) {}
  // The state at a position, in every number of every part.
  void Put(uint32_t position) {
    for (size_t part = 0; part < 2; ++part) {
      for (uint64_t i = 0; i < kParts[part]; ++i)
        store.Part(part)[i] = static_cast<float>(position);
    }
  }
  bool Holds(uint32_t position) const {
    for (size_t part = 0; part < 2; ++part) {
      for (uint64_t i = 0; i < kParts[part]; ++i) {
        if (store.Part(part)[i] != static_cast<float>(position)) return false;
      }
    }
    return true;
  }
  static constexpr uint64_t kParts[] = {5, 33};

 private:
  std::vector<Line> memory_;

 public:
  StateStore store;
};

TEST_CASE("parts are aligned and begin as zeros", "[store][state]") {
  Subject subject(2);
  CHECK(StateStore::StateBytes(Subject::kParts) == 64 + 192);
  CHECK(StateStore::Bytes(Subject::kParts, 2) == 3 * 256);
  CHECK(reinterpret_cast<uintptr_t>(subject.store.Part(1)) % 64 == 0);
  CHECK(subject.Holds(0));
  CHECK(StateStore().empty());
  const uint64_t huge[] = {uint64_t{1} << 60, uint64_t{1} << 60};
  CHECK(StateStore::Bytes(huge, 1024) == UINT64_MAX);
}

TEST_CASE("returning gives the state that was kept", "[store][state]") {
  Subject subject(3);
  for (const uint32_t position : {10u, 20u, 30u}) {
    subject.Put(position);
    subject.store.Checkpoint(position);
  }
  subject.Put(35);
  CHECK(subject.store.NewestAt(9) == 0);
  CHECK(subject.store.NewestAt(10) == 10);
  CHECK(subject.store.NewestAt(29) == 20);
  CHECK(subject.store.NewestAt(99) == 30);
  subject.store.ReturnTo(20);
  CHECK(subject.Holds(20));
  CHECK(subject.store.newest() == 20);
  subject.Put(25);
  subject.store.Checkpoint(25);
  subject.Put(26);
  subject.store.ReturnTo(25);
  CHECK(subject.Holds(25));
  subject.store.ReturnTo(0);
  CHECK(subject.Holds(0));
  CHECK(subject.store.newest() == 0);
}

TEST_CASE("a position is kept once, and none at 0", "[store][state]") {
  Subject subject(2);
  subject.store.Checkpoint(0);
  CHECK(subject.store.newest() == 0);
  subject.Put(4);
  subject.store.Checkpoint(4);
  subject.Put(5);  // another state must not take the place of the one kept
  subject.store.Checkpoint(4);
  subject.store.ReturnTo(4);
  CHECK(subject.Holds(4));
}

// Whatever the slots, what is kept is right, and no gap is much longer than what lies behind it.
TEST_CASE("older checkpoints grow sparser", "[store][state]") {
  for (const uint32_t slots : {1u, 2u, 4u, 8u}) {
    Subject subject(slots);
    for (uint32_t position = 8; position <= 4096; position += 8) {
      subject.Put(position);
      subject.store.Checkpoint(position);
    }
    std::set<uint32_t> kept;
    for (uint32_t p = 4096; p != 0; p = p == 0 ? 0 : subject.store.NewestAt(p - 1)) {
      kept.insert(subject.store.NewestAt(p));
    }
    kept.erase(0);
    CHECK(kept.size() == slots);
    CHECK(*kept.rbegin() == 4096);
    if (slots == 8) {
      CHECK(*std::next(kept.rbegin()) >= 4096 - 64);
      CHECK(*kept.begin() <= 3072);
      CHECK(*kept.begin() >= 256);
    }
    for (auto p = kept.rbegin(); p != kept.rend(); ++p) {
      subject.store.ReturnTo(*p);
      CHECK(subject.Holds(*p));
    }
  }
}

TEST_CASE("a copy has the checkpoints, too, and adopting forgets them", "[store][state]") {
  Subject from(2), to(2);
  from.Put(7);
  from.store.Checkpoint(7);
  from.Put(9);
  to.store.CopyFrom(from.store);
  CHECK(to.Holds(9));
  from.Put(1);
  to.store.ReturnTo(7);
  CHECK(to.Holds(7));
  from.Put(50);
  const std::vector<std::byte> state(from.store.present().begin(), from.store.present().end());
  to.store.Adopt(state, 50);
  CHECK(to.Holds(50));
  CHECK(to.store.NewestAt(49) == 0);
  to.Put(60);
  to.store.ReturnTo(50);
  CHECK(to.Holds(50));
}

}  // namespace
}  // namespace headroom::store
