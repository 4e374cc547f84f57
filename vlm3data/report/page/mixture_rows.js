// The table: a row for every group, dataset and task, with its control and what follows from it.

const cells = new Map();  // path or part name -> the parts of its row that change
const COLUMNS = [
  ["Size", (row) => count(row.size), () => true, (row) => row.size],
  ["Samples", (row) => count(Math.round(row.samples)), () => true, (row) => row.samples],
  ["Epochs", (row) => row.epochs.toFixed(2), () => true, (row) => row.epochs],
  ["Tokens", (row) => `~${compact(row.answer_chars / about.chars_per_token)}`, (row) => row.answer_chars !== null, (row) => row.answer_chars],
  ["GB", (row) => (row.bytes / 1e9).toFixed(1), (row) => row.bytes !== null, (row) => row.bytes],
];

const compact = (number) => new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(number);
const percent = (share) => (share === 0 ? "0 %" : share < 0.001 ? `${(share * 100).toPrecision(2)} %` : `${(share * 100).toFixed(2)} %`);

function columnsShown(rows) {
  return COLUMNS.filter(([, , known]) => rows.some(known));
}

function headRow(columns) {
  return el("tr", {}, el("th", { scope: "col" }, "Dataset"), el("th", { scope: "col", class: "control" }, "Weight"),
    el("th", { scope: "col", class: "share-cell" }, "Share"), el("th", { scope: "col", class: "number" }, "Change"),
    columns.map(([name]) => el("th", { scope: "col", class: "number" }, name)));
}

function controlOf(node) {
  const { weighting } = levelOf(node.path), key = WORKS_ON[weighting.scheme];
  if (weighting.scheme === "imported") return el("span", { class: "quiet" }, "from the file of weights");
  if (!key) {
    const box = el("input", { type: "checkbox", "data-path": node.path, "data-key": "in" });
    return el("label", { class: "in" }, box, " in the mixture");
  }
  const name = `${key} of ${node.path}`;
  const slider = el("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": name, "data-path": node.path, "data-key": key });
  const number = el("input", { type: "number", min: 0, step: "any", "aria-label": `${name}, as a number`, "data-path": node.path, "data-key": key });
  const before = nodeAt(node.path, was.datasets)[key];
  const place = before === null ? 0 : placeOf(before, topOf(node.path, key)) / STEPS;
  return el("div", { class: "dial" }, el("span", { class: "track", vars: { "--was": String(place) } }, slider), number);
}

function rowOf(key, label, control, depth, kind, columns) {
  const held = { share: el("data"), bar: el("span", { class: "share-bar" }), ghost: el("span", { class: "share-was" }), change: el("data"), control, numbers: columns.map(() => el("data")) };
  held.row = el("tr", { class: kind, "data-row": key }, el("th", { scope: "row", vars: { "--depth": String(depth) } }, label),
    el("td", { class: "control" }, control),
    el("td", { class: "share-cell" }, el("div", { class: "share-track" }, held.bar, held.ghost), held.share),
    el("td", { class: "number change", "data-name": "Change" }, held.change),
    columns.map(([name], i) => el("td", { class: "number", "data-name": name }, held.numbers[i])));
  cells.set(key, held);
  return held.row;
}

const swatch = (colour) => el("span", { class: "swatch", vars: { "--colour": colour } });

function nodeRows(nodes, depth, columns) {
  return nodes.flatMap((node) => {
    if (node.datasets) {
      const scheme = el("td", { class: "group-scheme", colspan: 4 + columns.length, vars: { "--depth": String(depth + 1) } },
        el("span", {}, "weighting of its members"), schemeControls(node, node.datasets, "as above"));
      return [rowOf(node.path, el("span", { class: "group-name" }, said(node.name)), controlOf(node), depth, "group", columns),
        el("tr", { class: "scheme" }, scheme), ...nodeRows(node.datasets, depth + 1, columns)];
    }
    const single = node.parts.length === 1;
    const task = single && node.parts[0].name.includes("#") ? el("span", { class: "unit" }, said(node.parts[0].name.split("#")[1])) : null;
    const own = rowOf(node.path, [swatch(node.parts[0].colour), said(node.name), task], controlOf(node), depth, "dataset", columns);
    if (single) return [own];
    return [own, ...node.parts.map((part) =>
      rowOf(part.name, [swatch(part.colour), said(part.name.split("#")[1])], null, depth + 1, "part", columns))];
  });
}

// What a row shows: of a part its own numbers, of a dataset or group the sums that mean something.
function sumOf(rows) {
  const total = (key) => (rows.some((row) => row[key] === null) ? null : sum(rows.map((row) => row[key])));
  const size = rows.length === 1 ? rows[0].size : null;
  return { share: total("share"), samples: total("samples"), size, epochs: rows.length === 1 ? rows[0].epochs : null, answer_chars: total("answer_chars"), bytes: total("bytes") };
}

function showRow(key, now, before, columns, largest) {
  const held = cells.get(key), colour = held.row.querySelector(".swatch")?.style.getPropertyValue("--colour");
  put(held.share, now.share, percent(now.share));
  held.bar.style.setProperty("--share", String(now.share / largest));
  held.ghost.style.setProperty("--share", String(before.share / largest));
  if (colour) held.bar.style.setProperty("--colour", colour);
  const change = now.share - before.share, same = Math.abs(change) < 5e-7;
  held.ghost.hidden = same;
  put(held.change, change, same ? "" : `${change > 0 ? "+" : "−"}${percent(Math.abs(change))}`);
  columns.forEach(([, text, known, value], i) => {
    const shown = value(now) !== null && known(now);
    put(held.numbers[i], shown ? value(now) : "", shown ? text(now) : "");
  });
  held.row.classList.toggle("repeated", now.epochs !== null && now.epochs > maxEpochs());
  held.row.classList.toggle("rare", now.share > 0 && now.share < about.few && now.size !== null);
  held.row.classList.toggle("gone", now.share === 0);
}

function put(node, value, text) {
  node.value = String(value);
  node.textContent = text;
}
