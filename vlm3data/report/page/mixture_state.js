// The mixture as it is in the file and as it is edited; how a slider's place and a weight belong together.

const about = JSON.parse(byId("about").textContent);
const keep = ({ samples, weighting, datasets, stages }) => structuredClone({ samples, weighting, datasets, stages });
const was = keep(about);
let mixture = keep(about);

const DEFAULTS = {
  explicit: {}, uniform: {}, size: {}, temperature: { temperature: 2, cap: null, scale: 1 }, unimax: { epochs: 1 },
  repeat: {}, tokens: {},
};
// Which number of a member a scheme works on; by the others a member is in or left out.
const WORKS_ON = { explicit: "weight", tokens: "weight", repeat: "repeat" };
const DECADES = 4, STEPS = 1000;

function nodeAt(path, nodes = mixture.datasets) {
  for (const node of nodes) {
    if (node.path === path) return node;
    if (node.datasets && path.startsWith(`${node.path}/`)) return nodeAt(path, node.datasets);
  }
  return null;
}

// The level that a path lies in: its members, and the weighting that holds there.
function levelOf(path) {
  let nodes = mixture.datasets, weighting = mixture.weighting;
  const names = path.split("/");
  for (let depth = 1; depth < names.length; depth++) {
    const group = nodes.find((node) => node.path === names.slice(0, depth).join("/"));
    weighting = group.weighting || weighting;
    nodes = group.datasets;
  }
  return { nodes, weighting };
}

// Each level's sliders end at ten times its largest weight in the file, made round.
function topOf(path, key) {
  const parent = path.slice(0, path.lastIndexOf("/") + 1);
  const level = parent ? nodeAt(parent.slice(0, -1), was.datasets).datasets : was.datasets;
  const largest = Math.max(...level.map((node) => node[key] || 0)) || 1;
  return 10 ** Math.ceil(Math.log10(largest * 10) - 1e-9);
}

// A logarithmic scale of four decades, with zero at its left end.
const weightAt = (place, top) => (place === 0 ? 0 : Number((top * 10 ** (DECADES * (place / STEPS - 1))).toPrecision(3)));
const placeOf = (weight, top) =>
  !(weight > 0) ? 0 : Math.min(STEPS, Math.max(1, Math.round(STEPS * (1 + Math.log10(weight / top) / DECADES))));

// Another scheme for a level, `holder` the group or mixture it is said in; what it works on and nobody has given yet
// begins where the shares are now.
function changeScheme(holder, nodes, scheme) {
  const original = holder === mixture ? was.weighting : nodeAt(holder.path, was.datasets).weighting;
  begin(nodes, levelOf(nodes[0].path).weighting, scheme);
  holder.weighting = original && original.scheme === scheme ? structuredClone(original) : { scheme, ...DEFAULTS[scheme] };
}

function begin(nodes, weighting, scheme) {
  const shares = sharesOrEqual(nodes, weighting);
  nodes.forEach((node, i) => {
    if (WORKS_ON[scheme] === "weight" && node.weight === null) node.weight = Number(shares[i].toPrecision(4));
    if (WORKS_ON[scheme] === "repeat" && node.repeat === null) node.repeat = 1;
    if (node.datasets && !node.weighting) begin(node.datasets, weighting, scheme);
  });
}

function sharesOrEqual(nodes, weighting) {
  try {
    return levelShares(nodes, weighting, mixture.samples, {});
  } catch (mistake) {
    if (!(mistake instanceof Mistake)) throw mistake;
    return nodes.map(() => 1);
  }
}

// A copy of the mixture in which one number of one member is another.
function otherwise(path, key, value) {
  const copy = keep(mixture);
  nodeAt(path, copy.datasets)[key] = value;
  return copy;
}
