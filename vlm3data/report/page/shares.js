// What weights mean: vlm3data/weighting/*.py, Mixture.shares and Course.drawn once more, number for number.
// Nothing here touches the page. A mistake is thrown as a text for people.

class Mistake extends Error {}

// Python's round: to the even neighbour where both are equally near.
function roundHalfEven(value) {
  const below = Math.floor(value), rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

function needs(members, key, scheme) {
  const missing = members.filter((member) => member[key] === null).map((member) => member.name);
  if (missing.length) throw new Mistake(`scheme '${scheme}' needs a ${key} for: ${missing.join(", ")}`);
}

const unlessLeftOut = (members, value) => members.map((member) => (member.weight === 0 ? 0 : value(member)));

const SCHEMES = {
  explicit(members) {
    needs(members, "weight", "explicit");
    return members.map((member) => member.weight);
  },
  uniform: (members) => unlessLeftOut(members, () => 1),
  size: (members) => unlessLeftOut(members, (member) => member.samples),
  temperature(members, { temperature, cap, scale }) {
    const counted = (member) => (cap === null ? scale * member.samples : Math.min(scale * member.samples, cap));
    return unlessLeftOut(members, (member) => counted(member) ** (1 / temperature));
  },
  unimax(members, { epochs }, planned) {
    if (planned === null) throw new Mistake("scheme 'unimax' needs to know how long the run is");
    let left = planned;
    const shares = members.map(() => 0);
    const order = members.map((_, i) => i).filter((i) => members[i].weight !== 0);
    order.sort((a, b) => members[a].samples - members[b].samples);  // stable, as Python's
    order.forEach((i, place) => {
      shares[i] = Math.min(left / (order.length - place), epochs * members[i].samples);
      left -= shares[i];
    });
    return shares;
  },
  repeat(members) {
    needs(members, "repeat", "repeat");
    return members.map((member) => member.samples * member.repeat);
  },
  tokens(members) {
    needs(members, "weight", "tokens");
    return members.map((member) => (member.weight ? member.weight / member.chars() : 0));
  },
  imported: (members) => members.map((member) => member.imported),
};

// The raw values of one level's members, whose shares are what they are of the sum; all may be zero where the level's
// own share of the whole is.
function levelShares(nodes, weighting, planned, weights, whole) {
  const members = nodes.map((node) => ({
    ...node, weight: node.path in weights ? weights[node.path] : node.weight,
    chars: () => answerChars(node, weighting, planned, weights),
  }));
  const raw = SCHEMES[weighting.scheme](members, weighting, planned === null ? null : roundHalfEven(planned));
  const total = sum(raw);
  if (!(total > 0) && whole > 0) throw new Mistake("the weights of a mixture must not all be zero");
  return raw.map((value) => value / (total || 1));
}

// The characters in the answers of a draw from a dataset, or from a group as its own members are drawn.
function answerChars(node, weighting, planned, weights) {
  if (!node.datasets) return node.answer_chars;
  const inside = node.weighting || weighting;
  const shares = levelShares(node.datasets, inside, planned, weights, 0);
  return sum(node.datasets.map((below, i) => shares[i] && shares[i] * answerChars(
    below, inside, planned === null ? null : planned * shares[i], weights)));
}

// Every node's share of the whole, into `found` by its path; `weights` by path stand in for the nodes' own.
function sharesBelow(nodes, weighting, planned, weights, share, found) {
  levelShares(nodes, weighting, planned, weights, share).forEach((own, i) => {
    const node = nodes[i];
    found[node.path] = share * own;
    if (!node.datasets) return;
    const below = planned === null ? null : planned * own;
    sharesBelow(node.datasets, node.weighting || weighting, below, weights, share * own, found);
  });
  return found;
}

const leavesOf = (nodes) => nodes.flatMap((node) => (node.datasets ? leavesOf(node.datasets) : [node]));

// The shares of all parts over the run: stretches [{begin, first, last, length}], the last without an end.
function courseOf(mixture) {
  const leaves = leavesOf(mixture.datasets);
  const shares = (weights) => {
    const found = sharesBelow(mixture.datasets, mixture.weighting, mixture.samples, weights, 1, {});
    return leaves.flatMap((leaf) => leaf.parts.map((part) => found[leaf.path] * part.share));
  };
  let before = shares({}), begin = 0;
  const stretches = [];
  for (const stage of mixture.stages) {
    const after = shares(stage.weights), end = roundHalfEven(stage.until * (mixture.samples || 0));
    stretches.push({ begin, first: stage.ramp ? before : after, last: after, length: end - begin });
    before = after;
    begin = end;
  }
  stretches.push({ begin, first: before, last: before, length: 1 });
  return stretches;
}

// How many of the positions before n each part serves: the shares summed up.
function drawnOf(stretches, n) {
  const total = stretches[0].first.map(() => 0);
  for (const [place, stretch] of stretches.entries()) {
    const end = place + 1 < stretches.length ? stretches[place + 1].begin : n;
    const inside = Math.min(n, end) - stretch.begin;
    if (inside <= 0) break;
    stretch.first.forEach((first, i) => {
      const last = stretch.last[i];
      total[i] += inside * (first === last ? first : first + (last - first) * (inside / stretch.length / 2));
    });
  }
  return total;
}

// What `mix show --json` says of every part.
function planOf(mixture) {
  const drawn = drawnOf(courseOf(mixture), mixture.samples);
  const parts = leavesOf(mixture.datasets).flatMap((leaf) => leaf.parts);
  return parts.map((part, i) => {
    const times = (each) => (each === null ? null : drawn[i] * each);
    return {
      name: part.name, size: part.size, share: drawn[i] / mixture.samples, samples: drawn[i],
      epochs: drawn[i] / part.size, answer_chars: times(part.answer_chars), bytes: times(part.bytes),
    };
  });
}

function warningsOf(rows, maxEpochs, few) {
  return rows.flatMap((row) => [
    ...(row.epochs > maxEpochs ? [`${row.name}: every sample is seen ${row.epochs.toFixed(1)} times over`] : []),
    ...(row.share > 0 && row.share < few ? [`${row.name}: fewer than one sample in a thousand (${row.share.toFixed(5)})`] : []),
  ]);
}
