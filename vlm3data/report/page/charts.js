// Small charts as inline SVG: counts in bins, counts over the image plane, bars.

const WIDE = 420, HIGH = 170, LEFT = 8, BASE = 26;

function ticksOf(chart) {
  const [low, high] = [chart.edges[0], chart.edges.at(-1)];
  if (chart.log) return logTicks(low, high, 7);
  const step = [1, 2, 5, 10, 20, 25, 30, 45, 50, 60, 90, 100].flatMap((s) => [s / 100, s]).sort((a, b) => a - b)
    .find((s) => (high - low) / s <= 7) || (high - low) / 5;
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(Number(tick.toPrecision(6)));
  return ticks;
}

// Each dataset's own share per bin, so that a small one is seen beside a large one.
function histogram(chart) {
  const [low, high] = [chart.edges[0], chart.edges.at(-1)];
  const share = chart.log ? (v) => Math.log(v / low) / Math.log(high / low) : (v) => (v - low) / (high - low);
  const x = (value) => LEFT + share(value) * (WIDE - 2 * LEFT);
  const series = chart.series.map((found, i) => ({ ...found, i })).filter((found) => found.count && isChosen(found.i));
  const top = Math.max(...series.map((found) => Math.max(...found.counts) / found.count), 1e-9);
  const y = (value) => HIGH - BASE - (value / top) * (HIGH - BASE - 12);
  const root = svg("svg", { class: "chart", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img",
    "aria-label": `${chart.title}: ` + series.map((found) => `${datasets[found.i].name} median ${short(found.p50)} ${chart.unit}`).join(", ") });
  for (const tick of ticksOf(chart)) root.append(
    svg("path", { d: `M${x(tick)} 6V${HIGH - BASE}`, class: "grid" }),
    svg("text", { x: x(tick), y: HIGH - 9, class: "tick" }, short(tick)));
  for (const found of series) {
    let d = `M${x(low)} ${y(0)}`;
    found.counts.forEach((number, bin) => {
      d += `V${y(number / found.count).toFixed(2)}H${x(chart.edges[bin + 1]).toFixed(2)}`;
    });
    const colour = datasets[found.i].colour;
    root.append(svg("path", { d: `${d}V${y(0)}Z`, fill: colour, stroke: colour, class: "area" }));
    root.append(svg("path", { d: `M${x(found.p50)} ${HIGH - BASE}v6`, stroke: colour, class: "median" }));
  }
  root.append(svg("path", { d: `M${LEFT} ${HIGH - BASE}H${WIDE - LEFT}`, class: "axis-line" }));
  const readout = el("div", { class: "readout" });
  root.addEventListener("pointermove", (event) => {
    const matrix = root.getScreenCTM(), at = (event.clientX - matrix.e) / matrix.a;
    const bin = chart.edges.findIndex((edge, i) => i && at < x(edge)) - 1;
    if (bin < 0) return;
    readout.replaceChildren(`${short(chart.edges[bin])} – ${short(chart.edges[bin + 1])} ${chart.unit}: `,
      ...series.map((found) => el("span", { class: "dot-before", vars: { "--colour": datasets[found.i].colour } },
        `${count(found.counts[bin])} `)));
  });
  root.addEventListener("pointerleave", () => readout.replaceChildren());
  return el("div", {}, root, readout);
}

// Counts over the image plane, from none to most.
function plane(counts, columns, rows, name) {
  const most = Math.max(...counts);
  const root = svg("svg", { class: "plane", viewBox: `0 0 ${columns} ${rows}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `Where the labelled pixels of ${name} lie in the image`, "shape-rendering": "crispEdges" });
  counts.forEach((number, i) => {
    if (!number) return;
    root.append(svg("rect", { x: i % columns, y: Math.floor(i / columns), width: 1, height: 1,
      fill: depthColour(1 - number / most) }, svg("title", {}, count(number))));
  });
  return root;
}

// One bar of named parts; `parts` are [name, number, colour].
function bar(parts, whole) {
  return el("div", { class: "bar" }, parts.map(([name, number, colour]) =>
    el("span", { class: "bar-part", title: `${name}: ${count(number)}`, vars: { width: `${(100 * number) / whole}%`, background: colour } })));
}
