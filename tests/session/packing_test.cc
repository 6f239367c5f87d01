// Packing happens once, inside the first creation, and the app's callbacks hear of it: they may use
// the model, other threads are not held up by it, and its end without weights is nobody's end.
#include <functional>
#include <thread>

#include <catch2/catch_test_macros.hpp>

#include "headroom/headroom.h"
#include "session/golden.h"

namespace headroom::test {
namespace {

// An open model whose progress callback is `on_progress`.
struct App {
  hr_model* model = nullptr;
  std::function<bool()> on_progress = [] { return true; };

  App() {
    LoadGolden("llama-gqa", "int8");
    hr_model_options options = {};
    options.progress = [](void* self, float) { return static_cast<App*>(self)->on_progress(); };
    options.progress_user_data = this;
    REQUIRE(hr_model_open_path(ScratchPath("llama-gqa-int8.hrm").c_str(), &options, &model,
                               nullptr) == HR_OK);
  }
  ~App() { hr_model_release(model); }

  // Creates a session and lets go of it.
  hr_status Create(hr_error* error = nullptr, bool* packed_now = nullptr) const {
    hr_session_options options = {};
    options.context_tokens = 16;
    options.threads = 1;
    hr_session* session = nullptr;
    const hr_status status = hr_session_create(model, &options, &session, error);
    if (status == HR_OK && packed_now != nullptr) {
      hr_session_stats stats = {};
      hr_session_get_stats(session, &stats);
      *packed_now = stats.weights_packed_now;
    }
    hr_session_release(session);
    return status;
  }
  hr_status Plan() const {
    hr_plan_report report = {};
    return hr_plan(model, nullptr, &report, nullptr);
  }
};

TEST_CASE("a callback of packing may plan, but not create", "[session][packing]") {
  App app;
  int calls = 0, planned = 0, refused = 0;
  hr_error error = {};
  app.on_progress = [&] {
    ++calls;
    planned += app.Plan() == HR_OK;
    refused += app.Create(&error) == HR_WRONG_STATE;
    return true;
  };
  CHECK(app.Create() == HR_OK);
  CHECK(calls > 0);
  CHECK(planned == calls);
  CHECK(refused == calls);
  CHECK(error.text[0] != '\0');
  CHECK(app.Create() == HR_OK);
}

TEST_CASE("while one thread packs, others plan at once and create when it is done",
          "[session][packing]") {
  App app;
  int calls = 0;
  hr_status planned = HR_INTERNAL, created = HR_INTERNAL;
  std::thread creator;
  app.on_progress = [&] {
    if (++calls > 1) return true;
    creator = std::thread([&] { created = app.Create(); });
    std::thread([&] { planned = app.Plan(); }).join();  // without waiting for us
    return true;
  };
  CHECK(app.Create() == HR_OK);
  const int calls_of_one = calls;
  REQUIRE(creator.joinable());
  creator.join();
  CHECK(planned == HR_OK);
  CHECK(created == HR_OK);
  CHECK(calls == calls_of_one);  // packed once
}

TEST_CASE("a cancelled packing leaves the next creator to try again", "[session][packing]") {
  App app;
  int calls = 0;
  hr_status waited = HR_INTERNAL;
  std::thread creator;
  app.on_progress = [&] {
    if (++calls > 1) return true;
    creator = std::thread([&] { waited = app.Create(); });
    return false;
  };
  CHECK(app.Create() == HR_CANCELLED);
  REQUIRE(creator.joinable());
  creator.join();
  CHECK(waited == HR_OK);
  CHECK(calls > 1);
  CHECK(app.Create() == HR_OK);
}

TEST_CASE("only the session whose creation packed says so", "[session][packing]") {
  App app;
  bool packed_now = false;
  REQUIRE(app.Create(nullptr, &packed_now) == HR_OK);
  CHECK(packed_now);
  REQUIRE(app.Create(nullptr, &packed_now) == HR_OK);
  CHECK_FALSE(packed_now);
}

}  // namespace
}  // namespace headroom::test
