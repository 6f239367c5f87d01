#include "headroom/tune_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "headroom/bytes.h"
#include "headroom/chart.h"

namespace headroom::cli {
namespace {

bool HasAccuracy(const TuneReport& report) {
  return !report.profiles.empty() && report.profiles[0].accuracy >= 0;
}

// Shares of the bytes by their logarithm, and needles found, or where none were asked, divergence.
Chart ChartOf(const TuneReport& report) {
  const bool accuracy = HasAccuracy(report);
  Chart chart;
  chart.title = accuracy ? "needles found" : "KL divergence, nats (less is better)";
  chart.x_title = "bytes of the cache, of f16's";
  chart.low_x = 1;
  chart.high_x = 1.1;
  double high_loss = 1e-9;
  for (const TunedProfile& profile : report.profiles) {
    chart.low_x = std::min(chart.low_x, profile.share * 0.85);
    high_loss = std::max(high_loss, profile.loss);
  }
  if (!accuracy) chart.low_y = -high_loss, chart.high_y = 0;
  for (int i = 0; i <= 4; ++i) {
    const double y = chart.low_y + (chart.high_y - chart.low_y) * i / 4;
    chart.y_ticks.push_back({y, accuracy ? Format("%.0f %%", 100 * y) : Format("%.3g", -y)});
  }
  for (const double share : {1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125}) {
    chart.x_ticks.push_back({share, Format("%.4g %%", 100 * share)});
  }
  std::vector<ChartPoint>& points = chart.series.emplace_back().points;
  for (const TunedProfile& profile : report.profiles) {
    points.push_back({profile.share, accuracy ? profile.accuracy : -profile.loss, profile.name,
                      profile.policy + Format(": %.3g nats", profile.loss)});
  }
  return chart;
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
      "<h2>What each head can bear</h2><p>Divergence in nats (" + EscapeMarkup(report.yardstick) +
      ") when this head (layer.head) alone has that cache. Green costs nothing.</p><table><tr><th>";
  for (size_t i = 0; i < report.measured_roles; ++i) html += "<th>" + EscapeMarkup(report.roles[i]);
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
                                 : "<tr><td>" + EscapeMarkup(profile.name);
    html += "<td>" + FormatBytes(profile.state_bytes) + Format("<td>%.1f %%", 100 * profile.share);
    html += profile.accuracy < 0 ? "<td>" : Format("<td>%.1f %%", 100 * profile.accuracy);
    html += Format("<td>%.3g<td>", profile.loss);
    if (!report.choices.empty()) html += Format("%.3g", profile.assignment.loss);
    html += "<td class=\"policy\">" + EscapeMarkup(profile.policy);
  }
  return html + "</table>";
}

constexpr char kStyle[] =
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 "
    "1rem;color:#222}"
    "table{border-collapse:collapse;font-size:13px}td,th{padding:3px 9px;border-bottom:1px solid "
    "#ddd;"
    "text-align:right}td.policy{text-align:left;font-family:monospace}tr.left{color:#999}";

}  // namespace

std::string TuneSvg(const TuneReport& report) { return ChartSvg({ChartOf(report)}); }

std::string TunePage(const TuneReport& report) {
  return "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>headroom "
         "tune</title><style>" +
         std::string(kStyle) + "</style><h1>" + EscapeMarkup(report.model) +
         "</h1><p>Quality against the bytes of the cache, at " +
         Format("%u", report.context_tokens) + " tokens of context. Judged by " +
         EscapeMarkup(report.judge) +
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
