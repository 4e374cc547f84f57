// The picture of a sample: its views in one drawing, with everything that its questions mark on top.

const GAP = 0.012;

// Where each view stands in the drawing: side by side at one height, or above each other at one width.
function placed(views, stacked) {
  const sizes = views.map((view) => [view.camera.width_px, view.camera.height_px]);
  const gap = sizes.length > 1 ? GAP * Math.max(...sizes.flat()) : 0;
  let along = 0;
  const boxes = sizes.map(([width, height]) => {
    const by = stacked ? sizes[0][0] / width : sizes[0][1] / height;
    const box = { x: stacked ? 0 : along, y: stacked ? along : 0, by, width: width * by, height: height * by };
    along += (stacked ? box.height : box.width) + gap;
    return box;
  });
  const [width, height] = stacked ? [sizes[0][0], along - gap] : [along - gap, sizes[0][1]];
  return { boxes, width, height };
}

// `hover(question, event)` is told which question is pointed at, or null; `together` draws all rims as one.
function figureOf(number, { stacked = false, hover = null, together = false } = {}) {
  const sample = sampleOf(number), marks = marksOf(sample), place = placed(sample.views, stacked);
  const at = (point) => {
    const box = place.boxes[point.view];
    return [box.x + point.x * box.by, box.y + point.y * box.by];
  };
  const lines = svg("g", { class: "lines" }), boxes = svg("g", { class: "boxes" }), dots = svg("g", { class: "dots" });
  const active = svg("g", { class: "active" });
  const root = svg("svg", {
    class: "figure", viewBox: `0 0 ${place.width} ${place.height}`, role: "img",
    "aria-label": `${plural(sample.views.length, "image")} with ${plural(marks.length, "question")}`,
  });
  sample.views.forEach((view, i) => {
    const box = place.boxes[i];
    root.append(svg("image", {
      href: imageUrl(number, i), x: box.x, y: box.y, width: box.width, height: box.height, preserveAspectRatio: "none",
    }));
  });
  const dot = (point, mark, question, name = "") => {
    const [x, y] = at(point), d = `M${x} ${y}h0`;
    return svg("g", { class: `dot ${name} ${mark.dark ? "dark" : ""}`, "data-question": question, "data-view": point.view },
      together ? null : svg("path", { d, class: "halo" }), svg("path", { d, class: "core", stroke: mark.colour }));
  };
  const line = (mark, question) => {
    const ends = mark.points.map(at);
    return svg("path", { d: `M${ends[0]}L${ends[1]}`, stroke: mark.colour, class: "line", "data-question": question });
  };
  const drawn = new Set(), rims = ["", ""];
  const outlineOf = (box) => {
    const where = place.boxes[box.view];
    const edges = box.edges.map(([a, b]) => `M${a}L${b}`).join("");
    return svg("svg", { x: where.x, y: where.y, width: where.width, height: where.height,
      viewBox: `0 0 ${where.width / where.by} ${where.height / where.by}`, class: "box" },
      edges && svg("path", { d: edges, stroke: box.colour, class: "edges" }),
      svg("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top,
        stroke: box.colour, class: "region" }));
  };
  marks.forEach((mark, question) => {
    if (mark.line) lines.append(line(mark, question));
    for (const point of mark.points) {
      if (together) rims[mark.dark ? 1 : 0] += `M${at(point)}h0`;
      dots.append(dot(point, mark, question));
    }
    for (const box of mark.boxes) {
      if (!drawn.has(box.name)) boxes.append(outlineOf(box));
      drawn.add(box.name);
    }
  });
  dots.prepend(...rims.map((d, dark) => svg("g", { class: `dot ${dark ? "dark" : ""}` }, svg("path", { d, class: "halo" }))));
  root.append(boxes, lines, dots, active);

  function activate(question) {
    active.replaceChildren();
    root.classList.toggle("picked", question !== null);
    if (question === null) return;
    const mark = marks[question];
    if (mark.line) active.append(line(mark, question));
    for (const box of mark.boxes) active.append(outlineOf(box));
    for (const point of mark.points) {
      const [x, y] = at(point), box = place.boxes[point.view];
      const cross = `M${box.x} ${y}H${box.x + box.width}M${x} ${box.y}V${box.y + box.height}`;
      active.append(svg("path", { d: cross, class: "cross under" }), svg("path", { d: cross, class: "cross" }),
        dot(point, mark, question, "big"));
    }
  }

  // Nearest mark to a place on the screen, within reach; boxes by the smallest that holds it.
  function under(event) {
    const matrix = root.getScreenCTM();
    if (!matrix) return null;
    const [x, y] = [(event.clientX - matrix.e) / matrix.a, (event.clientY - matrix.f) / matrix.d];
    let best = null, reach = 18 / matrix.a;
    marks.forEach((mark, question) => mark.points.forEach((point) => {
      const [px, py] = at(point), distance = Math.hypot(px - x, py - y);
      if (distance < reach) [best, reach] = [question, distance];
    }));
    if (best !== null) return best;
    let smallest = Infinity;
    marks.forEach((mark, question) => mark.boxes.forEach((box) => {
      const [left, top] = at({ view: box.view, x: box.left, y: box.top });
      const [right, bottom] = at({ view: box.view, x: box.right, y: box.bottom });
      const area = (right - left) * (bottom - top);
      if (x >= left && x <= right && y >= top && y <= bottom && area < smallest) [best, smallest] = [question, area];
    }));
    return best;
  }
  if (hover) {
    root.addEventListener("pointermove", (event) => hover(under(event), event));
    root.addEventListener("pointerleave", (event) => hover(null, event));
  }
  return { node: root, marks, activate, ratio: place.width / place.height };
}

function legendOf(scale) {
  const steps = Array.from({ length: 21 }, (_, i) => depthColour(i / 20)).join(", ");
  return el("div", { class: "legend", role: "img",
    "aria-label": `Depth from ${scale.low.toFixed(2)} to ${scale.high.toFixed(2)} metres, logarithmic` },
    el("span", { class: "legend-name" }, "depth"),
    el("div", { class: "legend-scale" },
      el("div", { class: "legend-bar", vars: { background: `linear-gradient(to right, ${steps})` } }),
      logTicks(scale.low, scale.high, 7).map((tick) =>
        el("span", { class: "legend-tick", vars: { left: `${100 * scale.at(tick)}%` } }, short(tick, 2)))),
    el("span", { class: "legend-name" }, "m"));
}
