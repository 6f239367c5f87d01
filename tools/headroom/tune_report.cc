#include "headroom/tune_report.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "headroom/bytes.h"

namespace headroom::cli {
namespace {

constexpr double kWidth = 760, kHeight = 380;  // of the picture
constexpr double kLeft = 64, kRight = 24, kTop = 24, kBottom = 48;

__attribute__((format(printf, 1, 2))) std::string Format(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

// Names come from a file: nothing in them may be read as markup.
std::string Escape(const std::string& text) {
  std::string out;
  for (const char c : EscapeControls(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

bool HasAccuracy(const TuneReport& report) {
  return !report.profiles.empty() && report.profiles[0].accuracy >= 0;
}

// Where values lie in the picture: shares of the bytes by their logarithm, so that halving is a
// step of one length wherever it happens.
class Axes {
 public:
  explicit Axes(const TuneReport& report) : accuracy_(HasAccuracy(report)) {
    for (const TunedProfile& profile : report.profiles) {
      low_share_ = std::min(low_share_, profile.share * 0.85);
      high_loss_ = std::max(high_loss_, profile.loss);
    }
    high_share_ = 1.1;
  }
  double X(double share) const {
    const double part = std::log(share / low_share_) / std::log(high_share_ / low_share_);
    return kLeft + part * (kWidth - kLeft - kRight);
  }
  double Y(const TunedProfile& profile) const {
    return YAt(accuracy_ ? profile.accuracy : 1 - profile.loss / high_loss_);
  }
  double YAt(double part) const { return kTop + (1 - part) * (kHeight - kTop - kBottom); }
  std::string Label(double part) const {
    if (accuracy_) return Format("%.0f %%", 100 * part);
    return Format("%.3g", (1 - part) * high_loss_);
  }
  bool accuracy() const { return accuracy_; }
  double low_share() const { return low_share_; }

 private:
  bool accuracy_;
  double low_share_ = 1, high_share_ = 1, high_loss_ = 1e-9;
};

std::string Grid(const Axes& axes) {
  std::string svg;
  for (int i = 0; i <= 4; ++i) {
    const double part = i / 4.0, y = axes.YAt(part);
    svg += Format("<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\" class=\"grid\"/>", kLeft,
                  y, kWidth - kRight, y);
    svg += Format("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s</text>", kLeft - 8, y + 4,
                  axes.Label(part).c_str());
  }
  for (const double share : {1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125}) {
    if (share < axes.low_share()) break;
    const double x = axes.X(share);
    svg += Format("<line x1=\"%.1f\" y1=\"%.0f\" x2=\"%.1f\" y2=\"%.0f\" class=\"grid\"/>", x, kTop,
                  x, kHeight - kBottom);
    svg += Format("<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">%.4g %%</text>", x,
                  kHeight - kBottom + 18, 100 * share);
  }
  svg += Format(
      "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">bytes of the cache, of f16's</text>",
      (kLeft + kWidth - kRight) / 2, kHeight - 8);
  svg += Format("<text x=\"%.0f\" y=\"14\">%s</text>", kLeft,
                axes.accuracy() ? "needles found" : "KL divergence, nats (less is better)");
  return svg;
}

std::string Points(const TuneReport& report, const Axes& axes) {
  std::string line, points;
  for (const TunedProfile& profile : report.profiles) {
    const double x = axes.X(profile.share), y = axes.Y(profile);
    const bool kept = !profile.name.empty();
    points += Format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%d\" class=\"%s\">", x, y, kept ? 5 : 3,
                     kept ? "kept" : "left");
    points += "<title>" + Escape(profile.policy) + Format(": %.3g nats", profile.loss) +
              "</title></circle>";
    if (!kept) continue;
    line += Format("%.1f,%.1f ", x, y);
    points += Format("<text x=\"%.1f\" y=\"%.1f\" class=\"name\">%s</text>", x - 4, y + 20,
                     Escape(profile.name).c_str());
  }
  return "<polyline points=\"" + line + "\"/>" + points;
}

// Red where the loss is large: by its logarithm, from a ten thousandth of a nat to one.
std::string Colour(const Choice& choice) {
  if (!choice.possible) return "#eee";
  const double part = std::clamp((std::log10(std::max(choice.loss, 1e-9)) + 4) / 4, 0.0, 1.0);
  return Format("hsl(%.0f 70%% %.0f%%)", 120 * (1 - part), 88 - 28 * part);
}

std::string UnitName(const TuneUnit& unit) {
  if (unit.heads.size() != 1) return Format("%u", unit.layer);
  return Format("%u.%u", unit.layer, unit.heads[0]);
}

std::string ChoiceTable(const TuneReport& report) {
  if (report.choices.empty()) return "";
  std::string html =
      "<h2>What each head can bear</h2><p>Divergence in nats (" + Escape(report.yardstick) +
      ") when this head (layer.head) alone has that cache. Green costs nothing.</p><table><tr><th>";
  for (size_t i = 0; i < report.measured_roles; ++i) html += "<th>" + Escape(report.roles[i]);
  for (size_t unit = 0; unit < report.units.size(); ++unit) {
    html += "<tr><th>" + UnitName(report.units[unit]);
    for (size_t i = 0; i < report.measured_roles; ++i) {
      const Choice& choice = report.choices[unit][i];
      html += "<td style=\"background:" + Colour(choice) + "\">";
      if (choice.possible) html += Format("%.2g", choice.loss);
    }
  }
  return html + "</table>";
}

std::string LabelTable(const TuneReport& report) {
  if (report.labels.empty()) return "";
  std::string html = "<h2>How far heads look</h2><table><tr><th>head<th>label";
  for (size_t unit = 0; unit < report.units.size(); ++unit) {
    html += "<tr><td>" + UnitName(report.units[unit]) + Format("<td>%.3g", report.labels[unit]);
  }
  return html + "</table>";
}

std::string ProfileTable(const TuneReport& report) {
  std::string html =
      "<h2>Profiles</h2><table><tr><th>profile<th>state<th>of f16<th>needles<th>KL<th>predicted"
      "<th>cache of each head";
  for (const TunedProfile& profile : report.profiles) {
    html += profile.name.empty() ? "<tr class=\"left\"><td>left out"
                                 : "<tr><td>" + Escape(profile.name);
    html += "<td>" + FormatBytes(profile.state_bytes) + Format("<td>%.1f %%", 100 * profile.share);
    html += profile.accuracy < 0 ? "<td>" : Format("<td>%.1f %%", 100 * profile.accuracy);
    html += Format("<td>%.3g<td>", profile.loss);
    if (!report.choices.empty()) html += Format("%.3g", profile.assignment.loss);
    html += "<td class=\"policy\">" + Escape(profile.policy);
  }
  return html + "</table>";
}

constexpr char kStyle[] =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 "
    "1rem;color:#222}"
    "table{border-collapse:collapse;font-size:13px}td,th{padding:3px 9px;border-bottom:1px solid "
    "#ddd;"
    "text-align:right}td.policy{text-align:left;font-family:monospace}tr.left{color:#999}";
constexpr char kSvgStyle[] =
    "svg{font:12px system-ui,sans-serif}.grid{stroke:#ddd}.kept{fill:#0b66c3}.left{fill:#bbb}"
    ".name{fill:#0b66c3}polyline{fill:none;stroke:#0b66c3;stroke-width:1.5}text{fill:#444}";

}  // namespace

std::string TuneSvg(const TuneReport& report) {
  const Axes axes(report);
  return Format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\">",
             kWidth, kHeight, kWidth) +
         "<style>" + kSvgStyle + "</style><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>" +
         Grid(axes) + Points(report, axes) + "</svg>\n";
}

std::string TunePage(const TuneReport& report) {
  return "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>headroom "
         "tune</title><style>" +
         std::string(kStyle) + "</style><h1>" + Escape(report.model) +
         "</h1><p>Quality against the bytes of the cache, at " +
         Format("%u", report.context_tokens) + " tokens of context. Judged by " +
         Escape(report.judge) +
         ". Grey: measured and left out, because something smaller is as good.</p>" +
         TuneSvg(report) + ProfileTable(report) + ChoiceTable(report) + LabelTable(report) +
         "</html>\n";
}

Json TuneJson(const TuneReport& report) {
  Json profiles = Json::array(), units = Json::array();
  for (const TunedProfile& p : report.profiles) {
    profiles.push_back({{"name", p.name},
                        {"kept", !p.name.empty()},
                        {"kv", p.policy},
                        {"state_bytes", p.state_bytes},
                        {"share", p.share},
                        {"kl", p.loss},
                        {"predicted_kl", p.assignment.loss}});
    if (p.accuracy >= 0) profiles.back()["accuracy"] = p.accuracy;
  }
  for (size_t i = 0; i < report.units.size(); ++i) {
    units.push_back({{"layer", report.units[i].layer}, {"heads", report.units[i].heads}});
    if (!report.labels.empty()) units.back()["label"] = report.labels[i];
    if (report.choices.empty()) continue;
    Json& losses = units.back()["kl"] = Json::array();
    for (const Choice& choice : report.choices[i]) {
      losses.push_back(choice.possible ? Json(choice.loss) : Json());
    }
  }
  return {{"model", report.model},
          {"context_tokens", report.context_tokens},
          {"yardstick", report.yardstick},
          {"judge", report.judge},
          {"roles", report.roles},
          {"measured_roles", report.measured_roles},
          {"units", units},
          {"profiles", profiles}};
}

void PrintTune(const TuneReport& report) {
  std::printf("%s\n%zu roles for each of %zu heads or layers, by %s; judged by %s; context %u\n\n",
              report.model.c_str(), report.roles.size(), report.units.size(),
              report.yardstick.c_str(), report.judge.c_str(), report.context_tokens);
  std::printf("%-8s %10s %7s %8s %10s  %s\n", "profile", "state", "of f16", "needles", "KL",
              "cache of the heads");
  for (const TunedProfile& profile : report.profiles) {
    char needles[32] = "";
    if (profile.accuracy >= 0) {
      std::snprintf(needles, sizeof(needles), "%.1f %%", 100 * profile.accuracy);
    }
    std::printf("%-8s %10s %5.1f %% %8s %10.2e  %s\n",
                profile.name.empty() ? "-" : profile.name.c_str(),
                FormatBytes(profile.state_bytes).c_str(), 100 * profile.share, needles,
                profile.loss, profile.policy.c_str());
  }
  std::printf("\n-: left out, something smaller is as good.\n");
}

}  // namespace headroom::cli
