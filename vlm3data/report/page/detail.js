// One sample, large: its picture on one side, its questions on the other, each lighting up the other.

const detail = byId("detail");
let open = null; // {number, picked, figure, items}

function openDetail(number) {
  const sample = sampleOf(number), row = samples[number], dataset = datasets[row.dataset];
  const tip = el("div", { class: "tip", hidden: true });
  const hover = (question, event) => {
    pick(question, { scroll: true });
    tip.hidden = question === null;
    if (question === null) return;
    const asked = sample.questions[question], box = stage.getBoundingClientRect();
    const value = open.figure.marks[question].value;
    tip.replaceChildren(...(value ? [said(value, "tip-value")] : []), said(asked.question), said(asked.answer, "tip-answer"));
    const x = event.clientX - box.left, y = event.clientY - box.top;
    tip.style.left = `${Math.min(Math.max(0, x + 16), Math.max(0, box.width - 290))}px`;
    tip.style.top = y > box.height - 140 ? "" : `${y + 16}px`;
    tip.style.bottom = y > box.height - 140 ? `${box.height - y + 16}px` : "";
  };
  const stage = el("div", { class: "stage" });
  const flat = placed(sample.views, false), tall = placed(sample.views, true);
  const room = [innerWidth * (innerWidth > 900 ? 0.64 : 1), innerHeight * 0.64];
  const scaleOf = (place) => Math.min(room[0] / place.width, room[1] / place.height);
  const stacked = sample.views.length > 1 && scaleOf(tall) > scaleOf(flat);
  const figure = figureOf(number, { stacked, hover });
  stage.append(figure.node, tip);
  stage.style.setProperty("--ratio", figure.ratio);
  const items = sample.questions.map((question, i) => el("li", {}, el("button", {
    class: "question", vars: { "--colour": figure.marks[i].colour },
    on: { pointerenter: () => pick(i), pointerleave: () => pick(null), focus: () => pick(i), click: () => pick(i) } },
    el("span", { class: "question-mark" }),
    el("span", { class: "question-text" }, said(question.question), said(question.answer, "answer")))));
  const groups = grouped(sample.questions);
  const pose = sample.questions.find((question) => question.truth.rotation);
  const scale = depthScale(sample.questions);
  const where = visible.indexOf(number);
  detail.replaceChildren(el("div", { class: "detail-top" },
    el("h2", {}, swatch(dataset), said(row.key)),
    el("span", { class: "quiet" }, where >= 0 ? `${count(where + 1)} of ${count(visible.length)}` : ""),
    el("div", { class: "grow" }),
    el("button", { class: "round", "aria-label": "Previous sample", on: { click: () => step(-1) } }, "‹"),
    el("button", { class: "round", "aria-label": "Next sample", on: { click: () => step(1) } }, "›"),
    el("button", { class: "round", "aria-label": "Close", on: { click: () => detail.close() } }, "×")),
  el("div", { class: "detail-body" },
    el("div", { class: "detail-left" }, stage,
      el("div", { class: "under" }, scale && legendOf(scale), pose && poseOf(pose.truth), factsOf(sample, row, dataset))),
    el("div", { class: "questions", tabindex: -1 }, [...groups].map(([task, members]) => el("section", {},
      el("h3", {}, said(task), el("span", { class: "unit" }, plural(members.length, "question"))),
      el("ol", {}, members.map((i) => items[i])))))));
  open = { number, picked: null, figure, items };
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
  sizes.disconnect();
  sizes.observe(figure.node);
  scaled(figure.node);
  history.replaceState(null, "", `#sample-${number}`);
}

function grouped(questions) {
  const groups = new Map();
  questions.forEach((question, i) => groups.set(question.task, [...(groups.get(question.task) || []), i]));
  return groups;
}

function pick(question, { scroll = false } = {}) {
  if (!open || open.picked === question) return;
  if (open.picked !== null) open.items[open.picked].firstChild.classList.remove("picked");
  open.picked = question;
  open.figure.activate(question);
  if (question === null) return;
  const item = open.items[question];
  item.firstChild.classList.add("picked");
  if (scroll) item.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const next = visible[visible.indexOf(open.number) + by];
  if (next !== undefined) openDetail(next);
}

function stepQuestion(by) {
  const order = [...detail.querySelectorAll(".question")], at = order.indexOf(document.activeElement);
  order[Math.min(order.length - 1, Math.max(0, at + by))]?.focus();
}

function poseOf(truth) {
  const moved = truth.translation_direction;
  return el("div", { class: "pose" },
    el("figure", {}, glyphOf(truth), el("figcaption", {}, "drag to turn")),
    el("figure", {}, glyphOf(truth, { turn: [0, Math.PI / 2], name: "From above" }), el("figcaption", {}, "from above")),
    el("dl", { class: "facts" },
      el("dt", {}, "turned by"), el("dd", {}, `${truth.rotation_angle_deg.toFixed(1)}°`),
      el("dt", {}, "yaw, pitch, roll"), el("dd", {}, [truth.yaw_deg, truth.pitch_deg, truth.roll_deg].map((v) => `${v.toFixed(1)}°`).join(", ")),
      el("dt", {}, "direction (x, y, z)"), el("dd", {}, moved ? `(${moved.map((v) => v.toFixed(2)).join(", ")})` : "hardly moved"),
      el("dt", {}, "distance"), el("dd", {}, truth.distance_m === null ? "unknown" : `${truth.distance_m.toFixed(2)} m`)));
}

function factsOf(sample, row, dataset) {
  const view = sample.views[0], { camera, source_camera: source } = view;
  const facts = [
    ["dataset", dataset.name], ["scene", sample.scene], ["split", sample.split], ["licence", sample.licence],
    ["scale", sample.metric ? "metric" : "unknown"],
    ["image", sample.views.map(({ camera: c }) => `${c.width_px} × ${c.height_px}`).join(", ")],
    ["focal length", `${short(source.fx_px, 5)} px, here ${short(camera.fx_px, 5)} px`],
    ["source image", `${source.width_px} × ${source.height_px}, times ${short(view.scale[0], 4)}, from (${view.crop_xy_px.join(", ")})`],
    view.calibration && ["camera estimated by", view.calibration.method],
    [statistics.mixture ? "position in the stream" : "number", `${count(row.place)}, ${about.shards[row.dataset][row.shard].name}`],
  ].filter(Boolean);
  return el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, said(value))]));
}

// One pixel of the screen in units of the drawing: what stays of one size on the screen is drawn with it.
const sizes = new ResizeObserver((entries) => entries.forEach((entry) => scaled(entry.target)));
function scaled(node) {
  const matrix = node.getScreenCTM();
  if (matrix) node.style.setProperty("--px", 1 / matrix.a);
}

detail.addEventListener("close", () => {
  const { number } = open;
  open = null;
  detail.replaceChildren();
  history.replaceState(null, "", "#show-samples");
  if (!cards[number].hidden) cards[number].lastChild.focus();
});
detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
