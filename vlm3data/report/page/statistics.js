// The tab of statistics: what the datasets hold, drawn from what was counted while the page was made.

const statistics = about.statistics;
const isChosen = (i) => !chosen.datasets.size || chosen.datasets.has(i);

const swatch = (dataset) => el("span", { class: "swatch", vars: { "--colour": dataset.colour } });

function overview() {
  const head = ["dataset", statistics.mixture && "share", "samples", "scenes", "questions", "read here", "MB"].filter(Boolean);
  return el("div", { class: "scroll" }, el("table", { class: "numbers" },
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, datasets.map((dataset) => el("tr", {},
      el("th", { scope: "row" }, swatch(dataset), said(dataset.name)),
      statistics.mixture && el("td", {}, dataset.share.toFixed(4)),
      [dataset.samples, dataset.scenes, dataset.questions, dataset.read].map((number) => el("td", {}, count(number))),
      el("td", {}, (dataset.bytes / 1e6).toFixed(1)))))));
}

function quantiles(chart) {
  const head = ["", "5 %", "median", "95 %", "largest", "count"];
  return el("table", { class: "numbers small" },
    el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, chart.series.map((found, i) => found.count > 0 && isChosen(i) && el("tr", {},
      el("th", { scope: "row" }, swatch(datasets[i]), said(datasets[i].name)),
      [found.p5, found.p50, found.p95, found.max].map((value) => el("td", {}, short(value))),
      el("td", {}, count(found.count))))));
}

function panel(title, unit, ...content) {
  return el("article", { class: "panel" }, el("h3", {}, title, unit && el("span", { class: "unit" }, unit)), content);
}

function showStatistics() {
  const tasks = [...new Set(datasets.flatMap((dataset) => Object.keys(dataset.asked)))].sort();
  const most = Math.max(...datasets.map((dataset) => Object.values(dataset.asked).reduce((a, b) => a + b, 0)), 1);
  const asked = panel("Questions per task", "", tasks.map((task) => el("div", { class: "bars" },
    el("div", { class: "bar-name" }, said(task)),
    datasets.map((dataset) => dataset.asked[task] > 0 && el("div", { class: "bar-row" },
      bar([[dataset.name, dataset.asked[task], dataset.colour]], most), el("span", {}, count(dataset.asked[task])))))));
  const heat = statistics.image_plane;
  const planes = datasets.map((dataset, i) => heat.counts[i] && isChosen(i) && panel(
    el("span", {}, "Labelled pixels on the image plane"), said(dataset.name),
    plane(heat.counts[i], heat.columns, heat.rows, dataset.name)));
  byId("statistics").replaceChildren(
    el("p", { class: "lead" }, statistics.read === samples.length
      ? `Of the ${plural(statistics.read, "sample")} on this page; the table and the sources' focal lengths of all that the indices list.`
      : ""),
    overview(),
    el("div", { class: "panels" }, asked,
      statistics.histograms.map((chart) => panel(chart.title, chart.unit, histogram(chart), quantiles(chart))),
      planes.filter(Boolean)));
}
