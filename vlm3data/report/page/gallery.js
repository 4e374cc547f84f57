// The grid: one card a sample, drawn when it comes near the window and taken apart when it is far again.

const cards = samples.map((row, number) => {
  const place = placed(row.sizes.map(([width_px, height_px]) => ({ camera: { width_px, height_px } })), false);
  const picture = el("div", { class: "picture", vars: { "aspect-ratio": String(place.width / place.height) } });
  const name = el("span", { class: "card-name" }, swatch(datasets[row.dataset]), said(row.key));
  const tags = el("span", { class: "tags" }, Object.entries(row.tasks).map(([task, many]) =>
    el("span", { class: "tag" }, said(task), " ", String(many))));
  const open = el("button", { class: "card-open", "aria-label": `Enlarge ${row.key}`, on: { click: () => openDetail(number) } });
  return el("li", { class: "card", "data-number": number, vars: { "--ratio": String(place.width / place.height) } },
    picture, el("div", { class: "caption" }, name, tags), open);
});

const wanted = new Set(), shownCards = new Set();
const near = new IntersectionObserver((entries) => {
  const idle = !wanted.size;
  for (const entry of entries) {
    const number = Number(entry.target.dataset.number);
    if (entry.isIntersecting) wanted.add(number);
    else takeApart(number);
  }
  if (idle && wanted.size) requestAnimationFrame(drawSome);
}, { rootMargin: "700px 0px" });

// A few at a time, so that scrolling never waits for them.
function drawSome() {
  const until = performance.now() + 10;
  for (const number of wanted) {
    wanted.delete(number);
    if (!shownCards.has(number)) drawCard(number);
    if (performance.now() > until) break;
  }
  if (wanted.size) requestAnimationFrame(drawSome);
}

function drawCard(number) {
  const picture = cards[number].firstChild;
  const pose = sampleOf(number).questions.find((question) => question.truth.rotation);
  picture.replaceChildren(figureOf(number, { together: true }).node);
  if (pose) picture.nextSibling.append(el("div", { class: "inset" }, glyphOf(pose.truth, { side: 48 })));
  shownCards.add(number);
}

function takeApart(number) {
  wanted.delete(number);
  if (!shownCards.delete(number)) return;
  const picture = cards[number].firstChild;
  parsed.delete(number);
  picture.replaceChildren();
  picture.nextSibling.querySelector(".inset")?.remove();
}

function showVisible() {
  const shown = new Set(visible);
  cards.forEach((card, number) => { card.hidden = !shown.has(number); });
  byId("none").hidden = visible.length > 0;
}

// Moves the focus among the cards; up and down to the card whose middle is nearest.
function moveFocus(key) {
  const at = visible.indexOf(Number(document.activeElement?.closest(".card")?.dataset.number ?? -1));
  const focus = (place) => visible[place] !== undefined && cards[visible[place]].lastChild.focus();
  if (at < 0) return focus(0);
  if (key === "ArrowRight" || key === "j") return focus(at + 1);
  if (key === "ArrowLeft" || key === "k") return focus(Math.max(0, at - 1));
  const down = key === "ArrowDown", step = down ? 1 : -1, here = cards[visible[at]].getBoundingClientRect();
  let best = null;
  for (let place = at + step, row = null; visible[place] !== undefined; place += step) {
    const box = cards[visible[place]].getBoundingClientRect();
    if (Math.abs(box.top - here.top) < 2) continue;
    row ??= box.top;
    if (Math.abs(box.top - row) > 2) break;
    const off = Math.abs(box.left + box.width / 2 - here.left - here.width / 2);
    if (!best || off < best.off) best = { off, place };
  }
  if (best) focus(best.place);
}
