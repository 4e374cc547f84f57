// Which samples are shown: by dataset, task, reason and text.

const chosen = { datasets: new Set(), tasks: new Set(), reason: null, text: "" };
let visible = samples.map((_, number) => number);

function matches(number) {
  const row = samples[number];
  if (chosen.datasets.size && !chosen.datasets.has(row.dataset)) return false;
  if (chosen.tasks.size && ![...chosen.tasks].some((task) => row.tasks[task])) return false;
  if (chosen.reason) {
    const { dataset, kind, reason } = chosen.reason;
    if (row.dataset !== dataset || !about.shards[dataset][row.shard].left_out[kind][reason]) return false;
  }
  return !chosen.text || haystack(number).includes(chosen.text);
}

function chip(label, many, pressed, toggle, colour) {
  return el("button", { class: "chip", "aria-pressed": String(pressed), on: { click: toggle } },
    colour && el("span", { class: "swatch", vars: { "--colour": colour } }), said(label),
    el("span", { class: "chip-count" }, count(many)));
}

const toggled = (set, value) => () => {
  set.has(value) ? set.delete(value) : set.add(value);
  filterBy({});
};

function showFilters() {
  const focused = [...byId("filters").querySelectorAll("button")].indexOf(document.activeElement);
  const of = (test) => samples.filter(test).length;
  const tasks = [...new Set(samples.flatMap((row) => Object.keys(row.tasks)))].sort();
  byId("filters").replaceChildren(...[
    datasets.length > 1 && el("span", { class: "chips", role: "group", "aria-label": "Datasets" }, datasets.map((dataset, i) =>
      chip(dataset.name, of((row) => row.dataset === i), chosen.datasets.has(i), toggled(chosen.datasets, i), dataset.colour))),
    el("span", { class: "chips", role: "group", "aria-label": "Tasks" }, tasks.map((task) =>
      chip(task, of((row) => row.tasks[task]), chosen.tasks.has(task), toggled(chosen.tasks, task)))),
    chosen.reason && el("button", { class: "chip", "aria-pressed": "true", on: { click: () => filterBy({ reason: null }) } },
      "shards with ", said(chosen.reason.reason), " ×"),
    el("span", { class: "grow" }),
    el("span", { class: "shown", id: "shown", role: "status" }, visible.length === samples.length
      ? plural(samples.length, "sample") : `${count(visible.length)} of ${plural(samples.length, "sample")}`),
  ].filter(Boolean));
  if (focused >= 0) byId("filters").querySelectorAll("button")[focused]?.focus();
}

function filterBy(change) {
  Object.assign(chosen, change);
  if (change.reason) showTab("samples");
  visible = samples.map((_, number) => number).filter(matches);
  showFilters();
  showVisible();
  if (!byId("statistics").hidden) showStatistics();
}

function clearFilters() {
  chosen.datasets.clear();
  chosen.tasks.clear();
  byId("search").value = "";
  filterBy({ reason: null, text: "" });
}

let waiting = 0;
byId("search").addEventListener("input", (event) => {
  clearTimeout(waiting);
  waiting = setTimeout(() => filterBy({ text: event.target.value.trim().toLowerCase() }), 120);
});
byId("clear").addEventListener("click", clearFilters);
