// What a pipe cannot do to a conversation: stop it in the middle.
#include "headroom/conversation.h"

#include <catch2/catch_test_macros.hpp>
#include <cstdlib>

#include "headroom/api.h"

namespace headroom::cli {
namespace {

ModelHandle Example() {
  const char* folder = std::getenv("HEADROOM_BUILD_DIR");
  OpenRequest request;
  request.path = std::string(folder ? folder : "build/release") + "/test-models/example.hrm";
  return OpenModel(request);
}

SessionHandle SessionOf(hr_model* model) {
  hr_session_options options = {};
  options.struct_size = sizeof(options);
  options.context_tokens = 256;
  return CreateSession(model, options, 0);
}

ConversationOptions Options() {
  ConversationOptions options;
  options.format = "question-answer";
  options.system = "Maria lives in Lisbon.";
  options.max_tokens = 16;
  return options;
}

TEST_CASE("a cancelled answer stays, and the next turn goes on behind it", "[cli][chat]") {
  const ModelHandle model = Example();
  const SessionHandle session = SessionOf(model.get());
  Conversation conversation(model.get(), session.get(), Options());
  const TurnOutcome stopped = conversation.Ask("Where does Maria live?", [&](std::string_view) {
    hr_session_cancel(session.get());
    return true;
  });
  CHECK(stopped.stop_reason == HR_STOP_CANCELLED);
  CHECK_FALSE(stopped.text.empty());
  const uint32_t before = conversation.tokens();
  const TurnOutcome next =
      conversation.Ask("Where does Maria live?", [](std::string_view) { return true; });
  CHECK(next.reused_tokens == before);
  CHECK(next.text == " Lisbon");
  CHECK(conversation.turns() == 2);
  conversation.Reset();
  CHECK(conversation.turns() == 0);
  CHECK(conversation.tokens() == 0);
}

TEST_CASE("an answer that the receiver refuses ends there", "[cli][chat]") {
  const ModelHandle model = Example();
  const SessionHandle session = SessionOf(model.get());
  Conversation conversation(model.get(), session.get(), Options());
  const auto refuse = [](std::string_view) { return false; };
  CHECK(conversation.Ask("Where does Maria live?", refuse).stop_reason == HR_STOP_CALLBACK);
}

TEST_CASE("a system text needs a place", "[cli][chat]") {
  const ModelHandle model = Example();
  const SessionHandle session = SessionOf(model.get());
  ConversationOptions options = Options();
  options.format = "no such";
  CHECK_THROWS_AS(Conversation(model.get(), session.get(), options), Failure);
}

}  // namespace
}  // namespace headroom::cli
