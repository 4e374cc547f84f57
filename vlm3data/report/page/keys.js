// Tabs, keys, and what happens first.

const TABS = ["samples", "statistics", "left-out"];

function showTab(name) {
  for (const tab of TABS) {
    const button = byId(`tab-${tab}`);
    button.setAttribute("aria-selected", String(tab === name));
    button.tabIndex = tab === name ? 0 : -1;
    byId(tab).hidden = tab !== name;
  }
  ({ statistics: showStatistics, "left-out": showLeftOut })[name]?.();
  history.replaceState(null, "", `#show-${name}`);
}

TABS.forEach((tab, i) => {
  byId(`tab-${tab}`).addEventListener("click", () => showTab(tab));
  byId(`tab-${tab}`).addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.stopPropagation();
    const next = TABS[(i + by + TABS.length) % TABS.length];
    showTab(next);
    byId(`tab-${next}`).focus();
  });
});

function keyInDetail(event) {
  const acts = {
    j: () => step(1), k: () => step(-1), ArrowRight: () => step(1), ArrowLeft: () => step(-1),
    ArrowDown: () => stepQuestion(1), ArrowUp: () => stepQuestion(-1), "?": () => byId("help").showModal(),
  };
  acts[event.key]?.();
  if (acts[event.key]) event.preventDefault();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (byId("help").open) return;
  if (detail.open) return keyInDetail(event);
  if (event.target === byId("search")) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); moveFocus("j"); }
    return;
  }
  const acts = {
    "/": () => byId("search").focus(), "?": () => byId("help").showModal(),
    1: () => showTab(TABS[0]), 2: () => showTab(TABS[1]), 3: () => showTab(TABS[2]),
  };
  const moves = ["j", "k", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"];
  if (acts[event.key]) acts[event.key]();
  else if (moves.includes(event.key) && !byId("samples").hidden) moveFocus(event.key);
  else return;
  event.preventDefault();
});
byId("help-button").addEventListener("click", () => byId("help").showModal());

document.title = `${statistics.target} · vlm3 preview`;
byId("target").textContent = statistics.target;
const shrunk = samples.filter((row) => row.sizes.some((size) => Math.max(...size) > about.image_px)).length;
byId("foot").append(
  `${plural(samples.length, "sample")} · this page has ${megabytes(about.bytes)} · `,
  shrunk ? `images are shown in smaller copies of at most ${about.image_px} px a side; marks and numbers are the stored ones` : "images as stored",
  ` · vlm3 ${about.version}`);
byId("cards").append(...cards, el("li", { class: "filler", "aria-hidden": "true" }));
cards.forEach((card) => near.observe(card));
filterBy({});
const [, asked] = /^#sample-(\d+)$/.exec(location.hash) || [];
if (samples[asked]) openDetail(Number(asked));
else if (TABS.includes(location.hash.slice(6))) showTab(location.hash.slice(6));
