// The page itself: settings of the run, what every change does, and the file to save.

let columns = [];

function field(label, ...inputs) {
  return el("div", { class: "field" }, el("span", { class: "field-name" }, label), ...inputs);
}

function maxEpochs() {
  const value = Number(byId("max-epochs").value);
  return value > 0 ? value : about.max_epochs;
}

// A menu of schemes and a field for each option of the chosen one; `above` names the scheme of the level above.
function schemeControls(holder, nodes, above) {
  const options = Object.keys(DEFAULTS).filter((scheme) => scheme !== "tokens" || nodes.every((node) => node.answer_chars > 0));
  const original = holder === mixture ? was.weighting : nodeAt(holder.path, was.datasets).weighting;
  if (original && original.scheme === "imported") options.push("imported");
  if (above) options.unshift("");
  const chosen = holder.weighting ? holder.weighting.scheme : "";
  const name = above ? `weighting of ${holder.path}` : "weighting";
  const menu = el("select", { "aria-label": name, "data-scheme": above ? holder.path : "" },
    options.map((scheme) => el("option", { value: scheme, selected: scheme === chosen }, scheme || above)));
  menu.addEventListener("change", () => {
    if (menu.value) changeScheme(holder, nodes, menu.value);
    else {
      holder.weighting = null;
      begin(nodes, { scheme: "uniform" }, levelOf(nodes[0].path).weighting.scheme);
    }
    build();
  });
  const numbers = Object.entries(holder.weighting || {}).filter(([key]) => key !== "scheme" && key !== "file").map(([key, value]) => {
    const least = key === "temperature" ? 1 : 0;
    const input = el("input", { type: "number", min: least, step: "any", value, placeholder: "none", "aria-label": `${key} of the ${name}`, "data-option": `${above ? holder.path : ""}:${key}` });
    input.addEventListener("input", () => {
      const given = input.value === "" && key === "cap" ? null : Number(input.value);
      const wrong = given !== null && !(key === "temperature" ? given >= 1 : given > 0);
      input.setAttribute("aria-invalid", String(wrong));
      if (!wrong && (given !== null || key === "cap")) holder.weighting[key] = given;
      show();
    });
    return el("label", { class: "option" }, `${key} `, input);
  });
  return [menu, numbers];
}

function buildSettings() {
  const top = 10 ** Math.ceil(Math.log10(was.samples * 10)), place = (samples) => Math.round(STEPS * (1 + Math.log10(samples / top) / 6));
  const number = el("input", { type: "number", id: "samples", min: 1, step: 1, value: mixture.samples, "aria-label": "samples of the run" });
  const slider = el("input", { type: "range", id: "samples-slider", min: 0, max: STEPS, value: place(mixture.samples), "aria-label": "samples of the run, roughly" });
  number.addEventListener("input", () => {
    const given = Number(number.value), wrong = !(Number.isInteger(given) && given > 0);
    number.setAttribute("aria-invalid", String(wrong));
    if (wrong) return;
    mixture.samples = given;
    slider.value = place(given);
    show();
  });
  slider.addEventListener("input", () => {
    mixture.samples = Math.max(1, Math.round(Number((top * 10 ** (6 * (slider.value / STEPS - 1))).toPrecision(2))));
    number.value = mixture.samples;
    show();
  });
  const most = el("input", { type: "number", id: "max-epochs", min: 0, step: "any", value: byId("max-epochs") ? maxEpochs() : about.max_epochs, "aria-label": "warn above so many epochs" });
  most.addEventListener("input", show);
  byId("run").replaceChildren(field("Samples of the run", slider, number), field("Weighting", ...schemeControls(mixture, mixture.datasets, "").flat()),
    field("Warn above", most, el("span", { class: "unit" }, "epochs")));
}

function build() {
  buildSettings();
  const plan = planOf(was);
  columns = columnsShown(plan);
  cells.clear();
  byId("head").replaceChildren(headRow(columns));
  byId("rows").replaceChildren(...nodeRows(mixture.datasets, 0, columns));
  show();
}

function partsBelow(node) {
  return leavesOf(node.datasets || [node]).flatMap((leaf) => leaf.parts.map((part) => part.name));
}

function show() {
  let plan, mistake = null;
  try { plan = planOf(mixture); } catch (error) { if (!(error instanceof Mistake)) throw error; mistake = error.message; }
  byId("mistake").hidden = mistake === null;
  byId("mistake").textContent = mistake;
  byId("save").disabled = mistake !== null;
  document.body.classList.toggle("stale", mistake !== null);
  showControls(mixture.datasets);
  if (plan) showPlan(plan, planOf(was));
}

function showPlan(plan, before) {
  const now = new Map(plan.map((row) => [row.name, row])), then = new Map(before.map((row) => [row.name, row]));
  const sums = (node, rows) => sumOf(partsBelow(node).map((name) => rows.get(name)));
  const largestOf = (nodes) => Math.max(...nodes.flatMap((node) => [sums(node, now).share, sums(node, then).share]));
  const largest = largestOf(mixture.datasets);
  const walk = (nodes) => nodes.forEach((node) => {
    const names = partsBelow(node);
    showRow(node.path, sums(node, now), sums(node, then), columns, largest);
    if (node.datasets) walk(node.datasets);
    else if (names.length > 1) names.forEach((name) => showRow(name, now.get(name), then.get(name), columns, largest));
  });
  walk(mixture.datasets);
  showStacks(plan, before);
  const warnings = [...warningsOf(plan, maxEpochs(), about.few), ...about.lasting_warnings];
  byId("warnings").replaceChildren(...warnings.map((text) => el("li", {}, said(text))));
  const yaml = yamlOf(mixture, was, about.file), changed = yaml.trimEnd().split("\n").length > 2;
  byId("yaml").textContent = yaml;
  byId("reset").disabled = !changed;
  byId("changed").textContent = changed ? "edited" : "as in the file";
}

function showControls(nodes) {
  for (const node of nodes) {
    for (const input of cells.get(node.path).control.querySelectorAll("input")) {
      const key = input.dataset.key;
      if (key === "in") input.checked = node.weight !== 0;
      else if (input.type === "range") input.value = placeOf(node[key], topOf(node.path, key));
      else if (input !== document.activeElement) input.value = node[key] === null ? "" : node[key];
      if (input.type === "range") input.setAttribute("aria-valuetext", String(node[key]));
    }
    if (node.datasets) showControls(node.datasets);
  }
}

function showStacks(plan, before) {
  const parts = leavesOf(mixture.datasets).flatMap((leaf) => leaf.parts);
  const pieces = (rows) => rows.map((row, i) => el("span", { class: "piece", title: `${row.name} ${percent(row.share)}`, vars: { "--share": String(row.share), "--colour": parts[i].colour } }));
  byId("stack").replaceChildren(...pieces(plan));
  byId("stack-was").replaceChildren(...pieces(before));
  byId("stack").setAttribute("aria-label", plan.map((row) => `${row.name} ${percent(row.share)}`).join(", "));
  const course = courseOf(mixture);
  byId("course").hidden = course.length === 1;
  if (course.length > 1) byId("course").replaceChildren(courseChart(course, parts), el("figcaption", { class: "quiet" }, "Shares over the run"));
}

// Shares over the run as areas on each other: they change at once, or evenly along a ramp.
function courseChart(course, parts) {
  const root = svg("svg", { viewBox: "0 0 1000 160", preserveAspectRatio: "none", role: "img", "aria-label": "shares over the run" });
  const ends = course.map((stretch, i) => (i + 1 < course.length ? course[i + 1].begin : mixture.samples));
  const marks = course.flatMap((stretch, i) => [[stretch.begin, stretch.first], [Math.max(ends[i], stretch.begin), stretch.last]]);
  const x = (n) => ((n / mixture.samples) * 1000).toFixed(2), y = (share) => (160 * (1 - share)).toFixed(2);
  parts.forEach((part, i) => {
    const upper = marks.map(([n, shares]) => `${x(n)} ${y(sum(shares.slice(0, i + 1)))}`);
    const lower = marks.map(([n, shares]) => `${x(n)} ${y(sum(shares.slice(0, i)))}`).reverse();
    root.append(svg("path", { d: `M${[...upper, ...lower].join("L")}Z`, fill: part.colour }, svg("title", {}, part.name)));
  });
  return root;
}

// What a change of one weight does: twice and half of it, and what is left for all the others.
function showEffect(path) {
  const node = nodeAt(path), key = WORKS_ON[levelOf(path).weighting.scheme];
  const shareOf = (held) => sum(planOf(held).filter((row) => partsBelow(node).includes(row.name)).map((row) => row.share));
  const tell = (text, share) => [`${text} `, el("b", {}, percent(share)), ` (the others together ${percent(1 - share)})`];
  let lines;
  try {
    const now = shareOf(mixture);
    lines = key && node[key] > 0
      ? [tell("now", now), tell("with twice the weight", shareOf(otherwise(path, key, 2 * node[key]))), tell("with half of it", shareOf(otherwise(path, key, node[key] / 2)))]
      : key ? [tell("now", now)] : [tell("now", now), node.weight === 0 ? tell("in the mixture", shareOf(otherwise(path, "weight", null))) : ["left out, the others take its place"]];
  } catch (error) { if (!(error instanceof Mistake)) throw error; return; }
  byId("effect").replaceChildren(said(path, "effect-name"), ": ", ...lines.flatMap((line, i) => [i ? ", " : "", ...line]));
}

byId("rows").addEventListener("input", (event) => {
  const { path, key } = event.target.dataset, node = path && nodeAt(path);
  if (!node) return;
  if (key === "in") {
    const before = nodeAt(path, was.datasets).weight;
    node.weight = event.target.checked ? (before === 0 ? null : before) : 0;
  } else {
    const given = event.target.type === "range" ? weightAt(Number(event.target.value), topOf(path, key)) : Number(event.target.value);
    const wrong = !(given >= 0 && Number.isFinite(given)) || event.target.value === "";
    event.target.setAttribute("aria-invalid", String(wrong));
    if (wrong) return;
    node[key] = given;
  }
  show();
  showEffect(path);
});
byId("rows").addEventListener("focusin", (event) => { if (event.target.dataset.path) showEffect(event.target.dataset.path); });
byId("run").addEventListener("submit", (event) => event.preventDefault());
byId("reset").addEventListener("click", () => { mixture = keep(about); build(); });
byId("save").addEventListener("click", () => {
  const url = URL.createObjectURL(new Blob([yamlOf(mixture, was, about.file)], { type: "application/yaml" }));
  const name = about.file.split("/").pop().replace(/[.](yaml|yml)$/i, "");
  el("a", { href: url, download: `${name}-edited.yaml` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
});
byId("file").textContent = about.file;
document.title = `${about.file} · vlm3 mixture`;
byId("foot").textContent = `vlm3 ${about.version}. The file's order and colours; shares by the formulas of the trainer's stream.`;
build();
