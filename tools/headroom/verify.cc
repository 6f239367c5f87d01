// headroom verify: is this file whole and sound?
#include <cinttypes>
#include <cstdio>
#include <memory>

#include "headroom/api.h"
#include "headroom/bytes.h"
#include "headroom/command.h"
#include "headroom/options.h"
#include "headroom/process.h"
#include "headroom/report.h"

namespace headroom::cli {
namespace {

constexpr char kFooter[] =
    "Checks the structure (every index, extent and limit) and the checksum of every weight "
    "segment.\n"
    "\n"
    "Examples:\n"
    "  headroom verify model.hrm && echo sound\n"
    "  headroom verify model.hrm --json";

struct VerifyArguments {
  std::string path;
  bool verbose = false;
};

int Verify(const VerifyArguments& arguments, bool json) {
  OpenRequest request;
  request.path = arguments.path;
  request.verify_checksums = true;
  request.verbose = arguments.verbose;
  const uint64_t start_ns = NowNs();
  const ModelHandle model = OpenModel(request);
  const double seconds = static_cast<double>(NowNs() - start_ns) * 1e-9;
  const hr_model_facts facts = FactsOf(model.get());
  if (json) {
    PrintJson({{"sound", true}, {"seconds", seconds}, {"model", FactsJson(facts)}});
  } else {
    std::printf("%s\n", ModelLine(facts).c_str());
    std::printf("sound: structure and all checksums agree (digest %016" PRIx64 ", %s in %.2f s)\n",
                facts.digest, FormatBytes(facts.file_bytes).c_str(), seconds);
  }
  return kOk;
}

}  // namespace

void AddVerify(CLI::App& app, Invocation& invocation) {
  auto arguments = std::make_shared<VerifyArguments>();
  CLI::App& command = *app.add_subcommand("verify", "check a model file: structure and checksums");
  command.footer(kFooter);
  command.add_option("MODEL", arguments->path, "the .hrm model file")->required();
  command.add_flag("--verbose", arguments->verbose, "show the library's messages on stderr");
  command.add_flag("--json", invocation.json, "the verdict as one JSON object");
  command.callback([arguments, &invocation] {
    invocation.action = [arguments, &invocation] { return Verify(*arguments, invocation.json); };
  });
}

}  // namespace headroom::cli
