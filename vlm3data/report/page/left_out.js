// The tab of what was left out: samples dropped or cut, tasks that had nothing to ask, single labels; by reason.

const KINDS = {
  "samples dropped": "unusable: counted against max_drop_rate",
  "samples cut": "sound, but there was nothing to ask about",
  "tasks unasked": "other tasks asked about the sample, this one could not",
  "labels dropped": "wrong: not finite, not positive, outside the image or the source's range",
  "labels cut": "sound, but cropped away or hidden by a nearer label in the same pixel",
};

// Shards, of those shown here, in which something was left out for a reason: [[name, count], ...].
function shardsWith(dataset, kind, reason) {
  return Object.entries(about.shards[dataset])
    .map(([shard, held]) => [Number(shard), held.name, held.left_out[kind][reason] || 0])
    .filter((row) => row[2] > 0);
}

function reasonsOf(dataset, number) {
  const found = Object.entries(KINDS).filter(([kind]) => Object.keys(dataset.left_out[kind]).length);
  if (!found.length) return el("p", { class: "quiet" }, "Nothing was left out.");
  return found.map(([kind, meaning]) => {
    const rows = Object.entries(dataset.left_out[kind]).sort((a, b) => b[1] - a[1]);
    const kept = kind.startsWith("labels") ? dataset.kept.labels : dataset.kept.samples;
    return el("div", { class: "left-out-kind" }, el("h4", {}, kind, el("span", { class: "unit" }, meaning)),
      el("table", { class: "numbers" }, el("tbody", {}, rows.map(([reason, times]) => {
        const shards = shardsWith(number, kind, reason);
        const whole = kind === "tasks unasked" ? kept : kept + times; // its sample was kept
        return el("tr", {},
          el("th", { scope: "row" }, said(reason)),
          el("td", {}, count(times)),
          el("td", { class: "share" }, `${short((100 * times) / whole, 2)} %`),
          el("td", { class: "bar-cell" }, bar([[reason, times, dataset.colour]], whole)),
          el("td", { class: "act" }, shards.length > 0 && el("button", { class: "plain", on: {
            click: () => filterBy({ reason: { dataset: number, kind, reason } }) },
            title: shards.map(([, name, many]) => `${name}: ${count(many)}`).join("\n") },
          `samples of ${plural(shards.length, "such shard")}`)));
      }))));
  });
}

// What the manifests name: samples that a build gave up because making them killed its process.
function namesOf(number) {
  const names = Object.values(about.shards[number]).flatMap((shard) => shard.quarantined || []);
  return names.length > 0 && el("details", {}, el("summary", {}, `${plural(names.length, "sample")} named in the manifests of the shards shown`),
    el("ul", { class: "names" }, names.map((name) => el("li", {}, said(`${name.scene}: ${name.key}`)))));
}

function showLeftOut() {
  byId("left-out").replaceChildren(
    el("p", { class: "lead" }, "What the builds did not keep, as their manifests count it. They count by reason, mostly without names; the buttons show the samples that came of the same shards."),
    el("div", { class: "panels wide" }, datasets.map((dataset, number) => el("article", { class: "panel" },
      el("h3", {}, swatch(dataset), said(dataset.name), el("span", { class: "unit" },
        `kept ${plural(dataset.kept.samples, "sample")}, ${plural(dataset.kept.labels, "label")}`)),
      reasonsOf(dataset, number), namesOf(number)))));
}
